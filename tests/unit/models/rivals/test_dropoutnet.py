"""DropoutNet against what its source says of each part."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from foretaste.kernel.errors import InvalidInput
from models.evaluation.metrics import gauc
from models.rivals.dropoutnet import DropoutNet, DropoutNetRanker, _Learner
from models.rivals.events import TrainingBehaviour
from models.rivals.generator import minimise, seeded, shuffled
from models.runtime.encoding import PADDING, UNKNOWN
from tests import towers_factory
from tests.rivals_factory import fitted, material, material_of, questions

SMALL = DropoutNet(factors=8, hidden=32, items=64, batch=64, epochs=60)


def _learner(**changes: Any) -> Any:
    method, learned = replace(SMALL, **changes), material()
    behaviour = TrainingBehaviour.of(learned)
    u, v = method._factorise(behaviour.matrix, learned)
    with seeded(learned):
        return _Learner(method, learned, behaviour, u, v), behaviour


def test_the_factorisation_knows_what_users_acted_on() -> None:
    learner, behaviour = _learner()
    relevance = (learner.u @ learner.v.T).numpy()
    done = behaviour.matrix.toarray() > 0
    assert relevance[done].mean() > 2 * relevance[~done].mean()
    assert learner.u.square().mean().item() == pytest.approx(1, rel=1e-4)
    assert not learner.v[[PADDING, UNKNOWN]].any()


def test_the_user_transform_is_the_mean_latent_vector_of_the_known_items() -> None:
    ranker = fitted("dropoutnet")
    items = np.array([[5, 9, UNKNOWN, PADDING], [PADDING] * 4, [7, 7, 3, PADDING], [UNKNOWN] + [PADDING] * 3])
    v = ranker.latent.numpy()
    expected = [(v[5] + v[9]) / 2, 0 * v[0], (2 * v[7] + v[3]) / 3, 0 * v[0]]
    np.testing.assert_allclose(ranker.transformed(items).numpy(), expected, rtol=1e-5)


def test_training_reads_the_same_transform_as_ranking_does() -> None:
    learner, behaviour = _learner()
    user = int(np.argmax(behaviour.matrix.sum(axis=1)))
    row = behaviour.matrix[user].tocoo()
    items = np.repeat(row.col, row.data.astype(int))[None]
    ranker = DropoutNetRanker(learner.user_side, learner.v, learner.v)
    np.testing.assert_allclose(ranker.transformed(items)[0], learner.transformed[user], rtol=1e-4, atol=1e-5)


def test_shares_of_the_users_are_dropped_transformed_and_kept() -> None:
    learner, _ = _learner(dropout=0.5, transform=0.3)
    part = np.resize(np.arange(len(learner.u)), 4000)
    read = learner.user_preference(part)
    dropped = (read == 0).all(dim=1)
    transformed = (read == learner.transformed[part]).all(dim=1) & ~dropped
    kept = (read == learner.u[part]).all(dim=1)
    assert (dropped | transformed | kept).all()
    assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert transformed.float().mean().item() == pytest.approx(0.15, abs=0.03)


def test_without_dropout_the_networks_learn_to_reproduce_the_relevance() -> None:
    learner, _ = _learner(dropout=0.0, transform=0.0, epochs=80)
    everyone = np.arange(len(learner.u))
    with seeded(material()):
        before = learner.loss(everyone).item()
        minimise(learner.parameters(), 0.01, shuffled(len(everyone), 64, 80, learner.rng), learner.loss)
    assert learner.loss(everyone).item() < 0.15 * before


def test_some_behaviour_ranks_better_than_none() -> None:
    batch = questions(cold=False)
    ranker = fitted("dropoutnet")
    users = batch.users[batch.owner]
    nothing = batch.hidden(np.ones(len(batch.users), dtype=bool))
    assert not np.allclose(ranker.scores(batch), ranker.scores(nothing))
    assert gauc(users, batch.labels, ranker.scores(batch)) > 0.6


def test_items_without_attributes_are_content_with_nothing() -> None:
    data, split = towers_factory.dataset()
    description = data.description.model_copy(
        update={"items": data.description.items.model_copy(update={"attributes": {}})}
    )
    learned = material_of(replace(data, description=description), split)
    scores = replace(SMALL, epochs=1).fit(learned).scores(questions())
    assert np.isfinite(scores).all()
    assert not torch.isnan(torch.from_numpy(scores)).any()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dropout", 1.0),
        ("transform", -0.1),
        ("factors", 0),
        ("regularisation", 0.0),
        ("confidence", float("nan")),
        ("items", 1),
        ("epochs", 0),
    ],
)
def test_settings_that_cannot_be_are_refused_by_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: ") as raised:
        DropoutNet(**{field: value})
    assert raised.value.value is value
