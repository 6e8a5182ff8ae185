"""How often a refresh passes over its window."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from benchmarks.refresh.week_log import Week, log_of, weeks_of
from foretaste.kernel.running.registered_items import RegisteredItem
from models.log.join import joined
from models.log.schema import with_registered
from models.log.window import LogWindow
from models.refresh.prepare import MOST_PASSES, WARM_STEPS, Prepared, RefreshPlan, held_out, prepare, refreshed
from models.runtime.account_age import BOUNDS_MS
from models.training.config import TrainingConfig
from models.training.trained import Trained
from tests.questions_factory import asking
from tests.towers_factory import dataset, trained


@pytest.fixture(scope="module")
def window() -> LogWindow:
    data, split = dataset()
    week = weeks_of(data, split.instant_ms - 7 * 86_400_000)[0]
    return joined(log_of(data, week, 4, seed=1), 1, week.until_ms)


def _base(batch: int) -> Trained:
    """Trained in two passes at least."""
    return replace(trained(), config=replace(trained().config, batch=batch, epochs=2, least_steps=50))


@pytest.mark.parametrize(("steps", "passes"), [(0.5, MOST_PASSES), (WARM_STEPS / 2.5, 3), (2 * WARM_STEPS, 1)])
def test_a_warm_start_passes_over_a_small_window_more_than_once(window: LogWindow, steps: Any, passes: Any) -> None:
    found = prepare(window, _base(round(len(window.labels) / steps)), RefreshPlan()).config
    assert (found.epochs, found.least_steps) == (passes, 1)


def test_passes_that_are_asked_for_are_made_whatever_the_window(window: LogWindow) -> None:
    found = prepare(window, _base(10), RefreshPlan(epochs=7)).config
    assert (found.epochs, found.least_steps) == (7, 1)


def test_a_cold_start_passes_as_its_configuration_says(window: LogWindow) -> None:
    found = prepare(window, _base(10), RefreshPlan(cold=True)).config
    assert (found.epochs, found.least_steps) == (TrainingConfig().epochs, TrainingConfig().least_steps)


def test_what_the_active_generation_learned_from_does_not_judge(window: LogWindow) -> None:
    learned_from, judging = held_out(window, 0.5)
    assert len(learned_from) > 0
    later = int(judging.times_ms[len(judging) // 2])
    less, newest = held_out(window, 0.5, later)
    assert newest.times_ms.min() == later
    assert len(less) + len(newest) == len(window)
    assert len(held_out(window, 0.5, int(window.times_ms.max()) + 1)[1]) == 0


def test_what_was_learned_long_ago_changes_nothing(window: LogWindow) -> None:
    before, judging = held_out(window, 0.5)
    assert [len(each) for each in held_out(window, 0.5, int(window.times_ms[0]))] == [len(before), len(judging)]


def test_a_refresh_finds_what_to_ask_and_of_a_few_users_asks_what_its_base_did() -> None:
    base, data, _ = asking()
    assert base.asked is not None
    times_ms = data.interactions["time_ms"].to_numpy()
    week = Week(1, int(times_ms[len(times_ms) // 10]), int(times_ms[-1]) + 1)
    window = joined(log_of(data, week, 4, seed=1), 1, week.until_ms)
    plan = RefreshPlan(epochs=1)
    anew = refreshed(prepare(window, base, plan)).asked
    assert anew is not None
    assert anew.acts is not base.asked.acts
    few = window.before(int(window.times_ms[len(window) // 5]))
    same = refreshed(prepare(few, base, plan)).asked
    assert same is not None
    assert same.posterior.items == base.asked.posterior.items
    assert same.posterior.keys is base.asked.posterior.keys
    assert same.acts is base.asked.acts


def test_a_generation_that_read_no_age_goes_on_without_and_that_is_said(window: LogWindow) -> None:
    """A cold start begins with it."""
    said = "the active generation reads no account's age: it is not read before a cold start"
    old = replace(trained(), encoding=replace(trained().encoding, age_bounds=()))
    warm, cold = prepare(window, old, RefreshPlan()), prepare(window, old, RefreshPlan(cold=True))
    assert (warm.data.encoding.age_bounds, said in warm.notices) == ((), True)
    assert not warm.data.examples.ages.any()
    assert (cold.data.encoding.age_bounds, said in cold.notices) == (BOUNDS_MS, False)


def test_a_new_item_has_the_attributes_that_it_was_registered_with(window: LogWindow) -> None:
    known, new = window.names.items[0], window.names.items[-1]
    base, genre = trained(), trained().encoding.item_attributes["genre"].vocabulary[0]
    encoding = base.encoding
    items = tuple(item for item in encoding.items if item != new)
    features = encoding.item_features[: len(items) + 2].copy()
    features[2:] = [encoding.item_features[encoding.encode_items([item])[0]] for item in items]
    without = replace(base, encoding=replace(encoding, items=items, item_features=features))
    registered = [
        RegisteredItem(new, {"genre": genre, "unheard": [1], "item_id": "another"}, 1),
        RegisteredItem(known, {"genre": genre}, 1),
    ]

    def genre_of(item: str, found: Prepared) -> int:
        made = found.data.encoding
        return int(made.item_features[made.encode_items([item])[0], 0])

    wanted = int(encoding.item_attributes["genre"].encode([genre])[0, 0])
    assert genre_of(new, prepare(window, without, RefreshPlan())) == 0
    found = prepare(window, without, RefreshPlan(), registered)
    assert (genre_of(new, found), genre_of(known, found)) == (wanted, wanted)


def test_registered_items_stand_in_place_of_those_of_a_catalogue() -> None:
    catalogue = pd.DataFrame({"item_id": ["a", "b"], "genre": ["drama", "opera"], "year": [1990, 1991]})
    fields = ("genre", "year")
    assert with_registered(catalogue, [], fields) is catalogue
    registered = [RegisteredItem("b", {"genre": "comedy", "item_id": "b"}, 1), RegisteredItem("c", {"other": 1}, 1)]
    found = with_registered(catalogue, registered, fields)
    assert found is not None
    assert found["item_id"].tolist() == ["a", "b", "c"]
    assert set(found) == {"item_id", *fields}
    assert found["genre"].tolist()[:2] == ["drama", "comedy"]
    assert found["year"].isna().tolist() == [False, True, True]
