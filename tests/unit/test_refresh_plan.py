"""How often a refresh passes over its window."""

from dataclasses import replace

import pytest

from benchmarks.replay_log import log_of, weeks_of
from models.cotrain import Trained
from models.log_window import LogWindow
from models.outcomes import joined
from models.refresh import MOST_PASSES, WARM_STEPS, RefreshPlan, prepare
from models.training import TrainingConfig
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
def test_a_warm_start_passes_over_a_small_window_more_than_once(window, steps, passes):
    found = prepare(window, _base(round(len(window.labels) / steps)), RefreshPlan()).config
    assert (found.epochs, found.least_steps) == (passes, 1)


def test_passes_that_are_asked_for_are_made_whatever_the_window(window):
    found = prepare(window, _base(10), RefreshPlan(epochs=7)).config
    assert (found.epochs, found.least_steps) == (7, 1)


def test_a_cold_start_passes_as_its_configuration_says(window):
    found = prepare(window, _base(10), RefreshPlan(cold=True)).config
    assert (found.epochs, found.least_steps) == (TrainingConfig().epochs, TrainingConfig().least_steps)
