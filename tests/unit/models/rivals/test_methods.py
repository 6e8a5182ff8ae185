"""What every rival keeps to, whichever source it follows."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from models.evaluation.metrics import gauc
from models.rivals import base as shared
from models.rivals.methods import FACTORIES, TRIALS, by_name
from models.runtime.encoding import FIELD_UNKNOWN, UNKNOWN, sizes_of
from tests import towers_factory
from tests.rivals_factory import (
    base,
    fitted,
    in_one_context,
    material,
    material_of,
    questions,
    rivals,
    with_attributes,
)

NAMES = sorted(rivals())
BLIND = {"popularity", "recent-popularity"}
"""Rivals that ask nothing of the user."""
ON_BASE = {"mean-behaviour", "emblr", "llae", "metaemb", "cmclrec"}


@cache
def judged(name: Any) -> Any:
    batch = questions()
    return gauc(batch.users[batch.owner], batch.labels, fitted(name).scores(batch))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_registered_under_its_name(name: Any) -> None:
    assert type(by_name(name)) is type(rivals()[name])


def test_every_registered_rival_is_tried_here() -> None:
    assert {
        name for name, path in FACTORIES.items() if path.startswith("models.rivals.") and "towers" not in path
    } == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_as_many_trials_as_any_other_all_different_itself_first(name: Any) -> None:
    method = by_name(name)
    trials = method.trials()
    assert len(trials) == TRIALS
    assert trials[0] is method
    assert len({repr(trial) for trial in trials}) == TRIALS
    assert all(type(trial) is type(method) for trial in trials)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cold", [True, False])
def test_a_finite_score_for_each_candidate(name: Any, cold: bool) -> None:
    batch = questions(cold=cold)
    scores = fitted(name).scores(batch)
    assert scores.shape == batch.candidates.shape
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 10


@pytest.mark.parametrize("name", sorted(set(NAMES) - BLIND))
def test_new_users_get_what_people_like_them_like(name: Any) -> None:
    assert judged(name) > judged("popularity") + 0.05


@pytest.mark.parametrize("name", NAMES)
def test_new_users_of_equal_attributes_get_equal_scores(name: Any) -> None:
    batch = questions()
    one = np.repeat(batch.attributes[:1], len(batch.users), axis=0)
    asked = replace(in_one_context(batch), candidates=np.full_like(batch.candidates, 7))
    same = with_attributes(asked, one)
    scores = fitted(name).scores(same)
    np.testing.assert_allclose(scores, scores[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(NAMES) - BLIND))
def test_attributes_are_read_from_the_batch(name: Any) -> None:
    batch = questions()
    others = np.roll(batch.attributes, 1, axis=0)
    assert not np.allclose(fitted(name).scores(batch), fitted(name).scores(with_attributes(batch, others)))


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_the_users_identity_are_not_read(name: Any) -> None:
    batch = questions(cold=False)
    hidden = replace(batch, labels=1 - batch.labels, users=np.zeros_like(batch.users))
    assert np.array_equal(fitted(name).scores(batch), fitted(name).scores(hidden))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_attributes_and_items_are_ranked_too(name: Any) -> None:
    batch = questions()
    unknown = replace(
        in_one_context(batch),
        attributes=np.full_like(batch.attributes, FIELD_UNKNOWN),
        candidates=np.full_like(batch.candidates, UNKNOWN),
    )
    scores = fitted(name).scores(unknown)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, scores[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_scores(name: Any) -> None:
    expected = fitted(name).scores(questions())
    if name == "mean-behaviour":  # the others read the same base
        shared._trained.cache_clear()
    again = rivals()[name].fit(material(0)).scores(questions())
    assert np.array_equal(again, expected)


@pytest.mark.parametrize("name", ["dropoutnet", "metaemb", "cmclrec", "mean-behaviour"])
def test_another_seed_gives_other_scores(name: str) -> None:
    assert not np.allclose(fitted(name).scores(questions()), fitted(name, 1).scores(questions()))


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_after_the_split_changes_nothing(name: Any) -> None:
    data, split = towers_factory.dataset()
    rng = np.random.default_rng(5)
    after = split.test.assign(item_id=rng.permutation(split.test["item_id"].to_numpy()), action="never-seen")
    after = pd.concat([after, after]).sort_values("time_ms", kind="stable")
    garbled = replace(data, interactions=pd.concat([split.train, after], ignore_index=True))
    other = material_of(garbled, replace(split, train=garbled.interactions.iloc[: len(split.train)], test=after))
    assert np.array_equal(rivals()[name].fit(other).scores(questions()), fitted(name).scores(questions()))


@pytest.mark.parametrize("name", NAMES)
def test_a_single_training_user_is_enough(name: Any) -> None:
    data, split = towers_factory.dataset()
    train = split.train[split.train["user_id"] == split.train["user_id"].value_counts().index[0]]
    cut = replace(data, interactions=pd.concat([train, split.test], ignore_index=True))
    learned = material_of(cut, replace(split, train=cut.interactions.iloc[: len(train)]))
    batch = questions()
    known = replace(
        batch,
        attributes=np.minimum(batch.attributes, np.array(sizes_of(learned.encoding.attributes)) - 1),
        context=np.minimum(batch.context, np.array(sizes_of(learned.encoding.context)) - 1),
        candidates=np.minimum(batch.candidates, learned.encoding.item_count - 1),
    )
    assert np.isfinite(rivals()[name].fit(learned).scores(known)).all()


@pytest.mark.parametrize("name", sorted(ON_BASE))
def test_users_with_behaviour_are_ranked_by_the_base_as_it_is(name: Any) -> None:
    batch = questions(cold=False)
    ranking = shared.base_of(material(), base()).trained.ranking
    shown = (batch.attributes, batch.context, batch.items, batch.actions)
    tensors = [torch.from_numpy(values) for values in shown]
    virtual = torch.zeros(len(batch.users), 2, towers_factory.TINY.dimension)
    asked = torch.from_numpy(batch.candidates), torch.from_numpy(batch.owner)
    with torch.inference_mode():
        expected = ranking.logits(*tensors, virtual, *asked)
    seen = (batch.items != 0).any(axis=1)[batch.owner]
    assert seen.mean() > 0.5
    np.testing.assert_allclose(fitted(name).scores(batch)[seen], expected.numpy()[seen], rtol=1e-4, atol=1e-5)


def test_the_base_is_trained_once_for_a_material_and_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    shared._trained.cache_clear()
    trained = []
    real = shared.cotrain
    monkeypatch.setattr(shared, "cotrain", lambda *args, **more: trained.append(1) or real(*args, **more))
    quick = replace(base(), epochs=1, rows=200)
    data, split = towers_factory.dataset()
    first = shared.base_of(material_of(data, split), quick)
    assert shared.base_of(material_of(data, split), quick).trained is first.trained
    assert len(trained) == 1
    shared.base_of(material_of(data, split, seed=1), quick)
    shared.base_of(material_of(data, split), replace(quick, ranking_rate=0.001))
    fewer = split.train.iloc[1:]
    shared.base_of(material_of(data, replace(split, train=fewer)), quick)
    assert len(trained) == 4
    shared._trained.cache_clear()


def test_the_shared_base_is_never_changed() -> None:
    trained = shared.base_of(material(), base()).trained
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    for name in sorted(ON_BASE):
        rivals()[name].fit(material())
    assert all(torch.equal(before[name], value) for name, value in trained.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in trained.model.parameters())


@pytest.mark.parametrize("name", ["dropoutnet", "metaemb", "cmclrec"])
def test_fitting_leaves_torchs_own_generator_and_threads_as_they_were(name: str) -> None:
    shared.base_of(material(), base())
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    rivals()[name].fit(material())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
