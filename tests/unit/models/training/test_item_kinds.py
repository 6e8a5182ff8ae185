"""Towers as they are served, with a row for each kind of item."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import FloatArray
from models.effects.item_kinds import KindRows
from models.generations.parity import ranking_tensors
from models.runtime.encoding import FIRST_KNOWN
from models.training.cotrain import cotrain
from models.training.item_kinds import with_kinds
from models.training.trained import Trained
from tests.towers_factory import SMALL, config, dataset, requests, trained


def scores(towers: Trained, asked: Sequence[RankingInput]) -> FloatArray:
    with torch.inference_mode():
        found: FloatArray = towers.ranking(**ranking_tensors(towers.encoding, asked)).numpy()
    return found


@pytest.fixture(scope="module")
def default() -> Trained:
    data, split = dataset()
    return cotrain(data, split, config(architecture=SMALL, epochs=1))


@pytest.fixture(params=["paper", "default"])
def towers(request: pytest.FixtureRequest) -> Trained:
    return trained() if request.param == "paper" else request.getfixturevalue("default")


def test_what_is_said_of_an_item_is_the_same(towers: Trained) -> None:
    asked = requests(40)
    np.testing.assert_array_equal(scores(with_kinds(towers), asked), scores(towers, asked))


def test_the_random_state_stays(towers: Trained) -> None:
    before = torch.get_rng_state()
    with_kinds(towers)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_table_of_items_has_rows_of_kinds(towers: Trained) -> None:
    served = with_kinds(towers)
    known, kinds = towers.encoding.item_count, len(served.encoding.kinds)
    rows = KindRows.of(served.encoding, towers.popularity[FIRST_KNOWN:])
    before, after = towers.model.state_dict(), served.model.state_dict()
    grown = {name for name, value in after.items() if value.shape != before[name].shape}
    assert "embeddings.items.weight" in grown
    for name in grown - {"embeddings.item_features"}:
        axis = next(at for at, size in enumerate(after[name].shape) if size == known + kinds)
        found = after[name].movedim(axis, 0)
        assert torch.equal(found[:known], before[name].movedim(axis, 0))
        expected = rows.of_table(before[name].movedim(axis, 0).numpy())
        np.testing.assert_allclose(found[known:].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert after["embeddings.item_features"][known:].tolist() == served.encoding.kinds.tolist()


def test_a_new_item_is_scored_by_its_attributes(default: Trained) -> None:
    served = with_kinds(default)
    genres = list(served.encoding.item_attributes["genre"].vocabulary)
    served.encoding.add_items({f"new {genre}": {"genre": genre} for genre in genres})
    asked = replace(requests(1)[0], items=[f"new {genre}" for genre in genres])
    found = scores(served, [asked])
    assert len(set(found.tolist())) == len(genres)
    nobody = scores(served, [replace(asked, items=["nobody"])])
    assert nobody[0] == scores(default, [replace(asked, items=["new"])])[0]


def test_a_new_item_is_not_met_before_though_another_of_its_kind_was(default: Trained) -> None:
    """Both have one index."""
    served = with_kinds(default)
    genre = served.encoding.item_attributes["genre"].vocabulary[0]
    served.encoding.add_items({name: {"genre": genre} for name in ("one", "two")})
    acted = Behaviour(["one"], [served.encoding.actions[0]], [1])
    asked = replace(requests(1)[0], behaviour=acted, items=["two"])
    with torch.no_grad():
        served.model.ranking.repeats.weights.fill_(5.0)
    met = scores(served, [asked])
    with torch.no_grad():
        served.model.ranking.repeats.weights.fill_(0.0)
    assert met == scores(served, [asked])
