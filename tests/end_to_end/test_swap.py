"""Two swaps under load on the embedded stack: nobody is failed, and nobody gets two generations mixed."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.own_stack import own_settings
from benchmarks.swap.benchmark import SwapPlan, swap_benchmark
from benchmarks.swap.report import to_json
from foretaste.settings import Settings
from foretaste.stack.environment import TritonEnvironment
from models.data.dataset import read_dataset
from tests.data_factory import write_dataset
from tests.towers_factory import SMALL, config

PLAN = SwapPlan(
    swaps=2,
    rank_rate=20.0,
    sign_up_rate=5.0,
    users=100,
    seconds_before=1.0,
    rest=0.0,
    warm_up=1.0,
    candidates=8,
    sample_every=2,
)


@pytest.mark.timeout(240)
def test_swaps_under_load_fail_nobody_and_mix_nothing(tmp_path: Path, triton_environment: TritonEnvironment) -> None:
    settings = own_settings(Settings(home=tmp_path / "home"))
    training = replace(config(), architecture=SMALL, warm_after=6)
    dataset = read_dataset(write_dataset(tmp_path / "data"))
    outcome = swap_benchmark(settings, PLAN, dataset, training, triton_environment)
    found = to_json(PLAN, outcome, {})
    assert (found["failed"], found["mixed"], found["problems"], found["incidents"]) == (0, 0, {}, [])
    assert found["compared"]["wrong"] == 0
    assert found["compared"]["would_tell"] > found["compared"]["answers"] / 4, "the comparison can find something"
    assert set(found["generations"]) == {"1", "2", "3"}, "each has answered"
    sign_ups = found["sign_ups"]
    assert (sign_ups["failed"], sign_ups["missing"], sign_ups["without_the_last_generation"]) == (0, 0, 0)
    assert "popularity" not in found["served_by"]
