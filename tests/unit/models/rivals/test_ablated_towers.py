"""Parts that are left out of MAIL and of the default: what remains is trained, and what is gone says nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretaste.kernel.values import FIRST_ACTS
from models.rivals import ablated_towers
from models.rivals.methods import Material, by_name
from models.rivals.towers import TowerMethod
from models.study.fold import Fold
from models.study.protocols import questions
from tests.questions_factory import two_tastes
from tests.study_parts import fold
from tests.towers_factory import SMALL, config


def _fitted(name: str, material: Material | None = None) -> Any:
    """A registered ablation, with small towers and few steps."""
    method = by_name(name)
    assert isinstance(method, TowerMethod)
    shape = method.config.architecture
    towers = replace(SMALL, ranking=shape.ranking, zero_shot=shape.zero_shot)
    settings = config(rows=2000, epochs=1, architecture=towers, masked=method.config.masked)
    effects = method.config.effects
    effects = replace(effects, descent=replace(effects.descent, least_steps=20, batch=64))
    small = replace(method, config=replace(settings, effects=effects))
    return small.fit(material or fold().material("hidden", seed=0))


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("mail-no-losses", {"ranking"}),
        ("mail-no-behaviour-loss", {"attributes", "discrepancy", "ranking"}),
        ("mail-no-attribute-loss", {"behaviour", "discrepancy", "ranking"}),
    ],
)
def test_the_losses_that_are_left_are_all_that_trains_mail(name: str, losses: set[str]) -> None:
    assert set(_fitted(name).losses[-1]) == losses


def test_the_cold_expert_alone_knows_attributes_and_no_behaviour() -> None:
    ranker = _fitted("cold-expert")
    _, batch = next(iter(questions(fold(), ("hidden",))["hidden"].batches(400)))
    others = np.roll(batch.attributes, 1, axis=0)
    cold = np.flatnonzero(batch.seen[batch.owner] < 4)
    assert not np.allclose(ranker.scores(batch)[cold], ranker.scores(replace(batch, attributes=others))[cold])
    shuffled = replace(batch, items=np.where(batch.items > 1, batch.items[:, ::-1].max(), batch.items))
    assert np.array_equal(ranker.scores(batch), ranker.scores(shuffled))


@pytest.mark.parametrize("name", ["seen-biases", "foretaste-no-effects"])
def test_without_effects_every_user_has_the_vector_of_nobody(name: str) -> None:
    ranker = _fitted(name)
    virtual = ranker.virtual(questions(fold(), ("hidden",))["hidden"].attributes)
    assert not virtual.any()
    _, batch = next(iter(questions(fold(), ("hidden",))["hidden"].batches(400)))
    assert len(np.unique(ranker.scores(batch))) > 10, "the biases tell items apart"


def test_without_transitions_nothing_follows_anything() -> None:
    _, batch = next(iter(questions(fold(), ("hidden",))["hidden"].batches(400)))
    whole, without = _fitted("foretaste"), _fitted("foretaste-no-transitions")
    warm = batch.seen[batch.owner] > 0
    assert not np.allclose(whole.scores(batch)[warm], without.scores(batch)[warm])
    np.testing.assert_allclose(whole.scores(batch)[~warm], without.scores(batch)[~warm], rtol=1e-4, atol=1e-4)


def test_without_acts_users_of_some_behaviour_are_ranked_by_the_towers_alone(tmp_path: Path) -> None:
    """The same training for both: users of many behaviours, and those of none, are ranked alike."""
    own = Fold.of(two_tastes(tmp_path / "data", acts=30))
    whole, without = (_fitted(name, own.material("first_steps", 0)) for name in ("foretaste", "foretaste-no-acts"))
    asked = questions(own, ("first_steps",))["first_steps"]
    _, batch = next(iter(asked.batches(4000)))
    seen = batch.seen[batch.owner]
    told = whole.scores(batch) != without.scores(batch)
    assert told[(seen > 0) & (seen < FIRST_ACTS)].mean() > 0.9
    assert not told[(seen == 0) | (seen >= FIRST_ACTS)].any()


def test_what_is_left_out_is_named_by_an_import_path() -> None:
    assert by_name("cold-expert").config.architecture.ranking == f"{ablated_towers.__name__}:NoWarmExpert"


def test_effects_by_gradient_tell_new_users_apart_and_each_part_changes_them() -> None:
    names = ("gradient", "combined", "reconstruction", "papers-losses")
    _, batch = next(iter(questions(fold(), ("hidden",))["hidden"].batches(400)))
    others = replace(batch, attributes=np.roll(batch.attributes, 1, axis=0))
    new = np.flatnonzero(batch.seen[batch.owner] == 0)
    found = set()
    for name in names:
        ranker = _fitted(f"foretaste-{name}")
        scores = ranker.scores(batch)[new]
        assert np.isfinite(scores).all()
        assert not np.allclose(scores, ranker.scores(others)[new])
        found.add(scores.tobytes())
    assert len(found) == len(names)
