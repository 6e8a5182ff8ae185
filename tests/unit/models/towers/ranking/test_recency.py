from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.towers.architecture import TowerPair
from models.towers.forms import RankingForm
from models.towers.ranking.recency import DECAY, RecencyDNN
from tests.ranking_checks import LENGTHS, WARM_AFTER, Indices
from tests.towers_factory import TINY, tiny_mail

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def towers() -> TowerPair:
    return tiny_mail(ranking="recency", hidden=(6,))


def _arrays(towers: Any, indices: Any) -> Any:
    """Embedded by plain lookups: of users, attributes and context (U, D) and behaviour (U, L, D); targets (R, D)."""
    table = {name: value.numpy() for name, value in towers.embeddings.state_dict().items()}

    def fields(name: Any, values: Any) -> Any:
        return table[f"{name}.table.weight"][values + table.get(f"{name}.offsets", _offsets(towers, name))].sum(axis=1)

    items, actions = indices.items.numpy(), indices.actions.numpy()
    candidates = indices.candidates.numpy()
    target = table["items.weight"][candidates] + fields("item_attributes", table["item_features"][candidates])
    behaviour = table["items.weight"][items] * table["actions.weight"][actions]
    attributes, context = indices.attributes.numpy(), indices.context.numpy()
    return fields("attributes", attributes), fields("context", context), behaviour, target


def _offsets(towers: Any, name: Any) -> npt.NDArray[Any]:
    sizes = getattr(towers.embeddings.sizes, name)
    return np.cumsum([0, *sizes])[:-1]


def _expected(towers: Any, indices: Any) -> npt.NDArray[Any]:
    """Logit by logit; in evaluation a new batch normalisation is a division by √(1 + ε)."""
    attributes, context, behaviour, target = _arrays(towers, indices)
    state = {name: value.numpy() for name, value in towers.ranking.state_dict().items()}
    logits = []
    for own, owner in zip(target, indices.owner.tolist(), strict=True):
        seen = LENGTHS[owner]
        acted = behaviour[owner, :seen]
        even = acted.sum(axis=0) / np.sqrt(max(seen, 1))
        recent = sum((DECAY ** (seen - 1 - place) * acted[place] for place in range(seen)), np.zeros(TINY.dimension))
        user = [attributes[owner], context[owner], even, recent, [np.log1p(seen)]]
        x = np.concatenate([*user, own, even * own, recent * own])
        y = state["perceptron.blocks.0.1.weight"] @ x + state["perceptron.blocks.0.1.bias"]
        y /= np.sqrt(1 + 1e-5)
        y = np.where(y > 0, y, 0.01 * y)
        logits.append((state["unit.weight"] @ y + state["unit.bias"]).item())
    return np.array(logits)


def test_the_tower_is_its_formula(towers: TowerPair) -> None:
    indices = Indices.drawn()
    with torch.inference_mode():
        found = towers.ranking(_read(towers, indices)).numpy()
    np.testing.assert_allclose(found, _expected(towers, indices), rtol=1e-4, atol=1e-6)
    assert found.std() > 1e-3


def _read(towers: Any, indices: Any, virtual: float = 0.0) -> Any:
    return RankingForm(towers.embeddings, towers.ranking, WARM_AFTER).inputs(
        indices.attributes,
        indices.context,
        indices.items,
        indices.actions,
        indices.virtual * virtual,
        indices.candidates,
        indices.owner,
    )


def test_the_last_five_make_up_two_thirds() -> None:
    weights = DECAY ** np.arange(1000)
    assert weights[:5].sum() / weights.sum() == pytest.approx(2 / 3, abs=0.01)


def test_the_order_of_behaviour_matters(towers: TowerPair) -> None:
    indices = Indices.drawn((2,))
    swapped = Indices(
        **{name: getattr(indices, name) for name in ("attributes", "context", "virtual", "candidates", "owner")},
        items=torch.cat([indices.items[:, [1, 0]], indices.items[:, 2:]], dim=1),
        actions=torch.cat([indices.actions[:, [1, 0]], indices.actions[:, 2:]], dim=1),
    )
    with torch.inference_mode():
        one, other = (towers.ranking(_read(towers, each)) for each in (indices, swapped))
    assert not torch.equal(one, other)


def test_it_is_the_default_warm_expert() -> None:
    assert isinstance(tiny_mail(ranking="recency").ranking, RecencyDNN)
