"""Every registered method, with the settings that it is compared with but for one epoch, on small data."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from models.data.dataset import read_dataset
from models.rivals.methods import FACTORIES, TRIALS, by_name
from models.rivals.towers import TowerMethod
from models.study.duration import trained_config
from models.study.fold import Fold
from models.study.protocols import questions as asked
from tests.data_factory import write_dataset
from tests.study_parts import with_garbage
from tests.towers_factory import folder

METHODS = [name for name, path in FACTORIES.items() if "ablated" not in path]
"""Those with a part left out are MAIL and the default but for that part (tests/unit/models/rivals)."""


@cache
def small() -> Fold:
    return Fold.of(read_dataset(write_dataset(folder() / "small", users=60, items=30, interactions=600)))


def short(name: str) -> Any:
    """The method, whose towers are trained for one epoch."""
    method: Any = by_name(name)
    config = trained_config(method)
    if config is None:
        return method
    place = "config" if isinstance(method, TowerMethod) else "base"
    return replace(method, **{place: config.with_epochs(1)})


@pytest.mark.parametrize("protocol", ["hidden", "random_40"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_deterministic_and_learns_nothing_from_after_the_split(name: Any, protocol: Any) -> None:
    """Its scores are the same, bit for bit, where whatever comes after the split is garbage."""
    questions = asked(small(), (protocol,))[protocol]
    folds = small(), with_garbage(small())
    scores = [questions.scores(short(name).fit(one.material(protocol, seed=0))) for one in folds]
    assert np.array_equal(scores[0], scores[1])
    assert np.unique(scores[0]).size > 1


@pytest.mark.parametrize("name", METHODS)
def test_a_hidden_user_is_scored_alike_whenever_asked_and_whoever_is_asked_beside(name: Any) -> None:
    fitted = short(name).fit(small().material("hidden", seed=0))
    questions = asked(small(), ("hidden",))["hidden"]
    new = questions.group == 0
    later = replace(questions, times_ms=questions.times_ms + 86_400_000)
    alone = np.concatenate([fitted.scores(batch) for _, batch in _only(questions, new).batches(40)])
    expected = np.concatenate([fitted.scores(batch) for _, batch in _only(later, new).batches()])
    assert alone == pytest.approx(expected, abs=1e-5)


def _only(questions: Any, rows: Any) -> Any:
    """Without the other rows, and so without their moments."""
    kept, owner = np.unique(questions.owner[rows], return_inverse=True)
    moments = {name: getattr(questions, name)[kept] for name in ("users", "times_ms", "context", "hidden")}
    asked = {name: getattr(questions, name)[rows] for name in ("candidates", "labels", "group", "repeat")}
    return replace(questions, owner=owner, **moments, **asked)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_method_has_as_many_trials_as_every_other_and_each_is_another(name: Any) -> None:
    trials = by_name(name).trials()
    assert len({repr(one) for one in trials}) == len(trials) == TRIALS
    assert repr(trials[0]) == repr(by_name(name)), "itself first"
