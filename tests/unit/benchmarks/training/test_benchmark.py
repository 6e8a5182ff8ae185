"""The benchmark of training on tiny data, Foretaste's own towers alone; and how a peer is chosen."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.machine import machine
from benchmarks.timing import WARM_UP, Lap
from benchmarks.training import peers, report
from benchmarks.training.benchmark import (
    DEFAULT,
    OURS,
    WITHOUT_ZERO_SHOT,
    TrainingBenchmarkPlan,
    TrainingBenchmarkResult,
    default_threads,
    train_benchmark,
)
from benchmarks.training.rounds import Contestant
from foretaste.kernel.errors import InvalidInput
from models.data.dataset import read_dataset
from models.towers.architecture import Architecture
from models.training.config import TrainingConfig
from tests.data_factory import write_dataset

TINY = TrainingConfig(
    architecture=Architecture(dimension=2, encoder=(4, 4, 4), hidden=(4,)), batch=40, zero_shot_users=4
)


def plan(
    *, rows: int | None = 400, rounds: int = 2, seconds: float = math.inf, training: TrainingConfig = TINY
) -> TrainingBenchmarkPlan:
    return TrainingBenchmarkPlan(rows=rows, seconds=seconds, rounds=rounds, threads=1, peers=(), training=training)


def test_foretaste_runs_its_default_towers_and_what_the_peers_have(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path, users=30, items=30, interactions=300))
    chosen = plan(rows=280, rounds=1)
    steps: list[str] = []
    result = train_benchmark(dataset, chosen, progress=steps.append)
    names = [f"{OURS} {model}" for model in (DEFAULT, WITHOUT_ZERO_SHOT, "din", "dnn")]
    assert [each.name for each in result.contestants] == names
    assert [len(result.laps[name]) for name in names] == [1, 1, 1, 1]
    assert len(steps) == 4
    for lap in result.laps[names[0]]:
        assert lap.rows == pytest.approx(280 * lap.batches / (lap.batches + WARM_UP))
    found = json.loads(json.dumps(report.to_json(chosen, result, machine())))
    assert set(found) == {"machine", "settings", "contestants", "ratios", "zero_shot_adds"}
    assert found["settings"]["threads"] == 1
    assert found["contestants"][names[0]]["rows_per_second"]["median"] > 0
    whole, part = (result.laps[name] for name in names[:2])
    spent = [[lap.before_seconds + result.every_row / lap.rows_per_second for lap in laps] for laps in (whole, part)]
    adds = sorted(one / other - 1 for one, other in zip(*spent, strict=True))
    found_adds = found["zero_shot_adds"]
    assert (found_adds["low"], found_adds["high"]) == pytest.approx((adds[0], adds[-1]))


def test_what_is_printed_is_what_was_found() -> None:
    """Two rounds of known speed: 40 and 60 rows a second against 10 and 20, on half a processor."""

    def lap(rows: float) -> Lap:
        return Lap(batches=1, rows=rows, seconds=1.0, processor_seconds=0.5, before_seconds=0.25)

    contestants = tuple(Contestant(library, "din", lambda _: None) for library in ("foretaste", "torch"))
    laps = {"foretaste din": [lap(40), lap(60)], "torch din": [lap(10), lap(20)]}
    ours_and_theirs = ("foretaste din", "torch din")
    result = TrainingBenchmarkResult(TINY, "float32", 400, 800, contestants, laps, (ours_and_theirs,), ours_and_theirs)
    found = report.to_json(plan(), result, machine())
    assert found["contestants"]["foretaste din"]["rows_per_second"] == {"median": 50, "low": 40, "high": 60}
    assert found["contestants"]["foretaste din"]["rows_per_processor_second"] == {"median": 100, "low": 80, "high": 120}
    assert found["ratios"][0]["rows_per_second"] == {"median": 3.5, "low": 3.0, "high": 4.0}
    spent = [(0.25 + 800 / ours) / (0.25 + 800 / theirs) for ours, theirs in ((40, 10), (60, 20))]
    assert found["zero_shot_adds"]["median"] == pytest.approx(sum(spent) / 2 - 1)
    console = Console(width=200, file=io.StringIO())
    report.show(console, plan(), result, machine())
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "50 (40 to 60)" in printed
    assert "100 (80 to 120)" in printed
    assert "3.50 (3.00 to 4.00)" in printed


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("rows", {"rows": 40 * (WARM_UP + 2) - 1}),
        ("rounds", {"rounds": 0}),
        ("seconds", {"seconds": 0.0}),
        ("seconds", {"seconds": math.nan}),
    ],
)
def test_a_plan_that_times_nothing_is_refused(field: str, wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=field):
        plan(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_data_too_small_to_time_are_refused(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path, users=5, items=10, interactions=20))
    with pytest.raises(InvalidInput, match="rows"):
        train_benchmark(dataset, plan(rows=None))


def test_peers_are_chosen_by_name() -> None:
    assert peers.chosen("none") == peers.chosen("") == ()
    with pytest.raises(InvalidInput, match="deepctr-torch") as refused:
        peers.chosen("torchrec")
    assert (refused.value.field, refused.value.value) == ("peers", "torchrec")


def test_a_peer_that_is_missing_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PEERS, "torch-rechub", "a_module_that_nobody_has")
    with pytest.raises(InvalidInput, match=r"pip install -e '.\[train,bench\]'"):
        peers.chosen("torch-rechub")


def test_threads_are_those_of_co_training() -> None:
    assert default_threads() >= 1
