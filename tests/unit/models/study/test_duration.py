"""How long a study will take, and what is heard of its fits while they are made."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.rivals.item_attribute import ItemAttribute
from models.rivals.mean_behaviour import MeanBehaviour
from models.rivals.towers import TowerMethod
from models.study.duration import Expected, Pace, expected, steps_of, told
from models.study.reporting import reported_fits
from models.study.running import run
from models.study.scoring import Bench, FitTask, judge
from models.training.batches import StepPlan
from tests.rivals_factory import base
from tests.study_parts import Popular, fold
from tests.towers_factory import config

TINY = TowerMethod(config(masked="nobody", epochs=2, batch=512, architecture=base().architecture))


def _bench(home: Path) -> Bench:
    """Its clock goes on by a second at each look."""
    looks = count()
    return replace(Bench.of(fold(), ("hidden",), home, resamples=0), clock=lambda: float(next(looks)))


def _stopped() -> float:
    raise AssertionError("nothing is measured anew")


def _task(method: Any, name: str = "tower", seed: int = 0) -> FitTask:
    return FitTask(name, method, seed, ("hidden",))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epochs": 3},
        {"least_steps": 100},
        {"least_steps": 10_000},
        {"least_steps": 100, "most_epochs": 1},
        {"rows": 1500, "epochs": 2},
        {"batch": 9999},
    ],
)
def test_the_steps_told_before_are_about_those_that_are_planned(changes: Any) -> None:
    sizes = np.full(900, 5)
    settings = config(**changes)
    planned = len(StepPlan.of(sizes, settings, np.random.default_rng(0)).steps)
    assert steps_of(settings, int(sizes.sum())) == pytest.approx(planned, rel=0.15)


def test_what_is_left_is_told_by_a_short_fit_of_each_kind_of_tower(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    milder = TowerMethod(TINY.config.with_dropout(0.4))
    tasks = [_task(TINY), _task(milder), _task(ItemAttribute(), "table"), _task(MeanBehaviour(base=TINY.config))]
    found = expected(bench, tasks, jobs=2)
    assert (found.fits, found.kept, found.unknown) == (4, 0, 1)
    steps = steps_of(TINY.config, len(fold().split.train) * 5)
    assert found.seconds > 3 * steps / 2, "a second a step, three fits of as many, in two processes"
    assert expected(replace(bench, clock=_stopped), tasks, jobs=2) == found, "the paces are kept"
    judge(bench, tasks[0])
    fewer = expected(bench, tasks, jobs=2)
    assert fewer.kept == 1
    assert fewer.seconds < found.seconds
    assert expected(bench, tasks[:1], jobs=2) == Expected(1, 1, 0, 0.0)


def test_a_pace_is_what_comes_before_the_steps_and_the_questions() -> None:
    assert Pace(before=10.0, step=0.5, questions=3.0).seconds(100) == 63.0


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (42.0, "42 s"), (600.0, "10 min"), (9000.0, "2.5 h")])
def test_a_duration_is_told_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert told(seconds) == words


def test_progress_is_told_within_a_tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.study.running.PIECE", 0.0)
    heard: list[Any] = []
    tasks = [_task(TINY, "tower", seed) for seed in (0, 1)] + [_task(Popular(), "rule")]
    bench = _bench(tmp_path)
    run(bench, tasks, 1, reported_fits(bench, tasks, 1, lambda *step: heard.append(step)))
    assert heard[0][0].startswith("3 fits, 0 of them kept from before: about ")
    of_tower = [done for step, done, total in heard if (step, total) == ("tower", 200)]
    assert of_tower == sorted(of_tower)
    assert len(set(of_tower)) > 10
    assert of_tower[-1] == 200
    assert heard[-1] == ("rule", 100, 100)
