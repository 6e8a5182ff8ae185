"""A replay of small data by week: who ranks what, what comes of it, and what is written."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.refresh.figures import LATER, replay_figures
from benchmarks.refresh.replay import ReplayPlan, ReplayResult, replay
from benchmarks.refresh.report import draw, goals, show, to_json, write
from benchmarks.refresh.scores import GROUPS, ProtocolScores, concatenated
from benchmarks.refresh.trainings import GenerationKind, TimedTraining, refresh_costs
from benchmarks.refresh.week_log import WEEK_MS, up_to
from benchmarks.timing import Instant
from models.data.dataset import Dataset, read_dataset
from tests.data_factory import START, write_dataset
from tests.towers_factory import SMALL, config

SINCE_MS = 1000 * START + 2 * WEEK_MS
PLAN = ReplayPlan(since_ms=SINCE_MS, weeks=3, training=config(architecture=SMALL, epochs=1), cold_weeks=(2,), rounds=2)


def _silent(_step: Any, _done: Any, _total: Any) -> None:
    """Nobody listens."""


def _ticking() -> Callable[..., Any]:
    """A clock that a second passes on at each look, and half of one of the processor's."""
    seconds = count()
    return lambda: Instant(float(next(seconds)), next(seconds) / 2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_dataset(tmp_path_factory.mktemp("data"), users=120, interactions=2000))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def replayed(dataset: Dataset, home: Path) -> ReplayResult:
    return replay(dataset, PLAN, _silent, home, _ticking())


@pytest.fixture(scope="module")
def all_figures(replayed: ReplayResult) -> Any:
    return replay_figures(replayed.scores, 50)


def test_each_week_is_ranked_by_every_kind_of_generation_and_new_users_are_those_of_the_week(
    replayed: ReplayResult, dataset: Dataset
) -> None:
    assert [set(week["hidden"].scores) for week in replayed.scores] == [
        {"frozen", "refreshed"},
        {"frozen", "refreshed", "cold"},
        {"frozen", "refreshed"},
    ]
    for log, week in zip(replayed.logs, replayed.scores, strict=True):
        first = dataset.interactions.groupby("user_id", observed=True)["time_ms"].min()
        new = first[(first >= log.week.since_ms) & (first < log.week.until_ms)].index
        assert set(week["hidden"].persons) == set(dataset.user_rows(list(new)))
        assert log.new_users == len(new)
        assert not set(week["as_served"].persons) & set(week["hidden"].persons)
        scored = sum(len(week[protocol].labels) for protocol in ("hidden", "as_served"))
        assert scored == log.impressions


def test_all_generations_are_asked_the_same_rows(replayed: ReplayResult) -> None:
    for week in replayed.scores:
        for own in week.values():
            assert all(scores.shape == own.labels.shape for scores in own.scores.values())
            assert all(np.isfinite(scores).all() for scores in own.scores.values())
            assert own.labels.mean() == pytest.approx(0.2)


def test_the_first_week_has_nothing_to_refresh_on_and_later_ones_have(replayed: ReplayResult) -> None:
    for number, week in enumerate(replayed.scores):
        frozen, refreshed = (week["hidden"].scores[kind] for kind in ("frozen", "refreshed"))
        assert np.array_equal(frozen, refreshed) == (number == 0)


def test_hidden_behaviour_leaves_a_user_one_score_an_item(replayed: ReplayResult) -> None:
    week = replayed.scores[1]
    hidden, steps = week["hidden"], week["first_steps"]
    assert hidden.seen.max() > 0
    assert set(steps.persons) <= set(hidden.persons)
    unseen = hidden.seen == 0  # nothing to hide: both protocols show the same
    assert np.array_equal(hidden.scores["frozen"][unseen], steps.scores["frozen"][steps.seen == 0])
    some = hidden.seen <= 20
    assert not np.array_equal(hidden.scores["frozen"][some], steps.scores["frozen"])


def test_nothing_of_a_later_week_reaches_a_generation(replayed: ReplayResult, dataset: Dataset) -> None:
    """Without the last week, all that was answered before it is answered alike, to the bit."""
    end = replayed.logs[1].week.until_ms
    shorter = replay(up_to(dataset, end), replace(PLAN, weeks=2, rounds=1), _silent)
    for ours, theirs in zip(shorter.scores, replayed.scores, strict=False):
        for protocol, own in ours.items():
            for kind, scores in own.scores.items():
                assert np.array_equal(scores, theirs[protocol].scores[kind]), (protocol, kind)


def test_nothing_that_comes_after_until_is_read(replayed: ReplayResult, dataset: Dataset) -> None:
    until = replayed.logs[1].week.until_ms
    found = replay(dataset, replace(PLAN, until_ms=until, weeks=None, cold_weeks=(), rounds=1), _silent)
    assert [log.week for log in found.logs] == [log.week for log in replayed.logs[:2]]
    assert np.array_equal(
        found.scores[1]["hidden"].scores["refreshed"], replayed.scores[1]["hidden"].scores["refreshed"]
    )


def test_generation_1_is_kept_and_found_again(replayed: ReplayResult, dataset: Dataset, home: Path) -> None:
    again = replay(dataset, replace(PLAN, cold_weeks=(), rounds=1, weeks=2), _silent, home)
    assert [each.kind for each in again.trainings] == ["refreshed"]
    for number in range(2):
        ours, theirs = again.scores[number], replayed.scores[number]
        assert np.array_equal(ours["hidden"].scores["frozen"], theirs["hidden"].scores["frozen"])
        refreshed = [each["hidden"].scores["refreshed"] for each in (ours, theirs)]
        np.testing.assert_allclose(refreshed[0], refreshed[1], atol=1e-5)  # counts are kept in single precision


def test_trainings_are_timed_in_turn(replayed: ReplayResult) -> None:
    assert [(each.week, each.kind) for each in replayed.trainings] == [
        (1, "frozen"),
        *[(2, "refreshed"), (2, "cold")] * 2,
        (3, "refreshed"),
    ]
    assert all((each.seconds, each.processor_seconds) == (2, 1) for each in replayed.trainings)
    assert replayed.trainings[1].rows == replayed.logs[0].impressions


def test_a_refresh_is_compared_with_the_cold_start_of_its_week_by_medians() -> None:
    both: list[tuple[GenerationKind, tuple[int, ...]]] = [("refreshed", (1, 9, 2)), ("cold", (20, 10, 90))]
    trainings = [TimedTraining(2, kind, 100, 10, wall, wall / 2) for kind, walls in both for wall in walls]
    (found,) = refresh_costs([*trainings, TimedTraining(3, "refreshed", 100, 10, 1, 1)])
    assert (found.week, found.rounds, found.refresh_seconds, found.cold_seconds) == (2, 3, 2, 20)
    assert found.ratio == pytest.approx(0.1)


def test_rows_have_every_group_and_pair_with_intervals_around_their_values(all_figures: Any) -> None:
    keys = {(row.week, row.protocol, row.group) for row in all_figures}
    groups = {(protocol, group) for protocol, names in GROUPS.items() for group in names}
    assert keys == {(week, *group) for week in (1, 2, 3) for group in groups} | {
        (LATER, *group) for group in groups if group[0] != "as_served"
    }
    for row in all_figures:
        assert math.isnan(row.value) or row.low <= row.value <= row.high
    pooled = {(row.generation, row.against) for row in all_figures if row.week == LATER}
    assert pooled == {("frozen", None), ("refreshed", None), ("refreshed", "frozen")}
    second = {(row.generation, row.against) for row in all_figures if row.week == 2 and row.against is not None}
    assert second == {("refreshed", "frozen"), ("refreshed", "cold"), ("cold", "frozen")}


def test_a_pair_says_how_much_better_one_is(all_figures: Any) -> None:
    figures = {
        (row.week, row.protocol, row.group, row.generation): row
        for row in all_figures
        if row.against is None and row.metric == "gauc"
    }
    for row in (
        row for row in all_figures if row.against is not None and row.metric == "gauc" and not math.isnan(row.relative)
    ):
        base = figures[row.week, row.protocol, row.group, row.against]
        assert row.relative == pytest.approx(row.value / base.value - 1)
        assert row.relative_low <= row.relative <= row.relative_high


def test_weeks_are_pooled_from_the_kinds_that_all_of_them_asked(replayed: ReplayResult) -> None:
    both = concatenated([week["hidden"] for week in replayed.scores])
    assert set(both.scores) == {"frozen", "refreshed"}
    assert len(both.labels) == sum(len(week["hidden"].labels) for week in replayed.scores)
    assert all(scores.shape == both.labels.shape for scores in both.scores.values())


def _helped(gain: Any) -> Any:
    """A replay whose refreshed generation ranks so much better in every week than the first."""
    rng = np.random.default_rng(0)
    persons, labels = np.repeat(np.arange(40), 30), (rng.random(1200) < 0.3).astype(np.float32)
    noise = rng.normal(size=1200)
    scores: dict[GenerationKind, Any] = {
        "frozen": noise + labels,
        "refreshed": noise + (1 + gain) * labels,
        "cold": noise + labels,
    }
    own = ProtocolScores(persons, labels, np.zeros(1200, dtype=np.int64), scores)
    return replay_figures([dict.fromkeys(GROUPS, own)] * 2, 100)


@pytest.mark.parametrize("gain", [-0.5, 0.5])
@pytest.mark.parametrize("seconds", [3, 4])
def test_goals_are_met_by_what_is_better_and_faster_and_by_nothing_else(
    replayed: ReplayResult, gain: float, seconds: int
) -> None:
    trainings = [TimedTraining(2, "refreshed", 1, 1, seconds, seconds), TimedTraining(2, "cold", 1, 1, 10, 10)]
    *helped, fast, as_good = goals(replace(replayed, trainings=trainings), _helped(gain)).values()
    assert helped == [gain > 0] * 2
    assert fast == (seconds == 3)
    assert as_good == (gain > 0)


def test_the_file_holds_rows_and_facts_and_the_figure_is_the_same_each_time(
    replayed: ReplayResult, all_figures: Any, tmp_path: Path
) -> None:
    found = to_json(replayed, all_figures, PLAN, {"cores": 2}, "python -m benchmarks refresh")
    write(found, tmp_path / "out" / "refresh.json")
    read = json.loads((tmp_path / "out" / "refresh.json").read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(found))
    assert len(read["rows"]) == len(all_figures)
    assert {"command", "machine", "settings", "goals", "weeks", "trainings", "compared"} <= read.keys()
    for name in ("one.svg", "other.svg"):
        draw(all_figures, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    console = Console(record=True, width=160)
    show(console, read)
    text = console.export_text()
    assert "before week 2" in text
    assert all(goal in text for goal in read["goals"])
