"""The figures of the benchmark of sign-ups: medians of rounds, and what stands beside them."""

import json

import pytest

from benchmarks.enrich.benchmark import EnrichPlan, Measured, quantile
from benchmarks.enrich.figures import figures, spread


def measured(per_second: list[float], p50: list[float] | None = None) -> Measured:
    return Measured(per_second, p50 or [], [2 * each for each in p50 or []], {"kafka": [1.0, 5.0, 3.0]})


def test_each_figure_is_the_median_of_its_rounds() -> None:
    contestants = {
        "worker": measured([900.0, 800.0, 1000.0], [5.0, 4.0, 9.0]),
        "floor": measured([1000.0, 1500.0, 900.0], [3.0, 2.0, 4.0]),
        "peer": measured([90.0, 80.0, 100.0]),
    }
    found = figures(contestants, EnrichPlan(), "tansu", "faust")
    assert (found["per_second"], found["floor_per_second"], found["peer_per_second"]) == (900, 1000, 90)
    assert (found["p50_ms"], found["p99_ms"], found["floor_p50_ms"]) == (5.0, 10.0, 3.0)
    assert (found["ratio_to_floor"], found["times_peer"]) == (0.9, 10.0)
    assert found["rounds"]["worker"]["per_second"] == {"median": 900.0, "lowest": 800.0, "highest": 1000.0}
    assert "p50_ms" not in found["rounds"]["peer"]
    assert found["processor_us"]["floor"] == {"kafka": 3.0}
    assert json.loads(json.dumps(found)) == found


def test_a_spread_is_median_lowest_and_highest() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "lowest": 1.0, "highest": 3.0}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.5, 50.0), (0.99, 99.0), (1.0, 99.0)])
def test_a_quantile_is_one_of_the_values(share: float, expected: float) -> None:
    assert quantile([float(each) for each in reversed(range(100))], share) == expected
