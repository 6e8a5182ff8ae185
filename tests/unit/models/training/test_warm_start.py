"""Vocabularies that grow, and towers that begin where others ended."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from foretaste.kernel.errors import InvalidInput
from models.data.split import split_by_time
from models.data.vocabulary import extended, fit_encoding, grown
from models.runtime.encoding import FIRST_KNOWN, UNKNOWN, Encoding
from models.runtime.fields import CategoricalEncoder, NumericEncoder
from models.towers.architecture import TowerPair, build_towers
from models.towers.embeddings import Sizes
from models.towers.forms import RankingForm, ZeroShotForm
from models.towers.ranking.experts import Experts
from models.towers.registry import RANKING, ZERO_SHOT
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.trained import Trained
from models.training.warm_start import WarmStart
from tests.ranking_checks import Indices
from tests.towers_factory import SMALL, TINY, config, dataset

pytestmark = pytest.mark.usefixtures("one_thread")
SEGMENTS, CITIES = ("cook", "gamer", "runner", "reader"), ("north", "south")
ITEMS = tuple(f"item-{number}" for number in range(28))
MORE: dict[str, Any] = {
    "items": ("item-new", "item-newer"),
    "actions": ("returned",),
    "attributes": {"segment": ("baker", "diver"), "city": ("east",)},
    "context": {"device": ("watch",)},
    "item_attributes": {"genre": ("garden",)},
}


def _encoding() -> Encoding:
    """With the sizes of `tests.towers_factory.SIZES`."""
    genres = CategoricalEncoder(("food", "games", "sport", "books", "art"))
    features = np.zeros((len(ITEMS) + FIRST_KNOWN, 1), dtype=np.int64)
    features[FIRST_KNOWN:, 0] = np.arange(len(ITEMS)) % 6
    return Encoding(
        attributes={
            "segment": CategoricalEncoder(SEGMENTS),
            "age": NumericEncoder((30.0, 50.0)),
            "city": CategoricalEncoder(CITIES),
        },
        context={"device": CategoricalEncoder(("phone", "desktop"))},
        item_attributes={"genre": genres},
        items=ITEMS,
        actions=("clicked", "bought"),
        item_features=features,
    )


def test_what_is_new_is_appended_once_and_nothing_moves() -> None:
    before = _encoding()
    after = extended(before, **{**MORE, "items": ("item-new", "item-3", "item-newer", "item-new")})
    assert after.items == (*ITEMS, "item-new", "item-newer")
    assert after.actions == ("clicked", "bought", "returned")
    assert after.attributes["segment"].values == (*SEGMENTS, "baker", "diver")
    assert after.attributes["age"] == before.attributes["age"]
    assert after.context["device"].values == ("phone", "desktop", "watch")
    rows = [{"segment": segment, "age": 40, "city": city} for segment in SEGMENTS for city in (*CITIES, None)]
    assert np.array_equal(after.encode_attributes(rows), before.encode_attributes(rows))
    assert np.array_equal(after.encode_items(ITEMS), before.encode_items(ITEMS))
    assert np.array_equal(after.item_features[: len(before.item_features)], before.item_features)
    assert not after.item_features[len(before.item_features) :].any()


def test_nothing_new_changes_nothing() -> None:
    assert extended(_encoding()).to_json() == _encoding().to_json()


def test_attributes_of_items_are_refreshed_where_something_is_said() -> None:
    told = {"genre": {"item-0": "art", "item-1": None, "item-2": "never heard of", "item-new": "garden"}}
    before, after = _encoding(), extended(_encoding(), **MORE, features=told)
    genre = dict(zip(after.items, after.item_features[FIRST_KNOWN:, 0].tolist(), strict=True))
    assert (genre["item-0"], genre["item-new"], genre["item-newer"]) == (5, 6, 0)
    assert np.array_equal(after.item_features[3 : len(ITEMS) + 2], before.item_features[3:]), "the others stay"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"attributes": {"zip": ("1",)}}, "attributes"),
        ({"context": {"page": ("1",)}}, "context"),
        ({"attributes": {"age": ("40",)}}, "attributes.age"),
    ],
)
def test_new_fields_and_new_bins_are_refused(changes: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        extended(_encoding(), **changes)
    assert raised.value.field == field


def test_a_dataset_brings_what_it_has_beyond_the_encoding_the_most_frequent_first() -> None:
    data, _ = dataset()
    times = data.interactions["time_ms"].to_numpy()
    first, cut = fit_encoding(data, int(np.quantile(times, 0.02))), int(np.quantile(times, 0.6))
    after, fresh = grown(first, data, cut), fit_encoding(data, cut)
    assert after.items[: len(first.items)] == first.items
    new = after.items[len(first.items) :]
    assert new == tuple(item for item in fresh.items if item not in first.items)
    assert len(new) > 1
    assert after.attributes["age"] == first.attributes["age"]
    genre = after.item_attributes["genre"].values
    catalogue = dict(zip(data.items["item_id"], data.items["genre"], strict=True))
    for item, place in zip(after.items, after.item_features[FIRST_KNOWN:, 0], strict=True):
        assert genre[place - 1] == catalogue[item]
    assert grown(first, data).items[: len(first.items)] == first.items, "any time"


def test_a_dataset_without_a_field_of_the_encoding_is_refused() -> None:
    data, split = dataset()
    encoding = fit_encoding(data, split.instant_ms)
    lacking = replace(encoding, attributes={**encoding.attributes, "zip": CategoricalEncoder(("1",))})
    with pytest.raises(InvalidInput, match=r"attributes\.zip"):
        grown(lacking, data)
    other = replace(encoding, attributes={**encoding.attributes, "age": CategoricalEncoder(("1",))})
    with pytest.raises(InvalidInput, match=r"attributes\.age.*categorical"):
        grown(other, data)


def _built(encoding: Any, architecture: Any, seed: Any) -> TowerPair:
    """Untrained towers whose every parameter and buffer is drawn, so that each that is misplaced shows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = build_towers(Sizes.of(encoding), torch.from_numpy(encoding.item_features), architecture).eval()
        with torch.no_grad():
            for name, value in built.state_dict().items():
                if value.is_floating_point():
                    value.copy_(torch.rand_like(value) + 0.1 if "var" in name else torch.randn_like(value) / 3)
            for table in (built.embeddings.items, built.embeddings.actions):
                table.weight[0] = 0
    return built


def _grown_towers(architecture: Any) -> Any:
    before = _encoding()
    after = extended(before, **MORE)
    old, new = (_built(encoding, architecture, seed) for encoding, seed in ((before, 1), (after, 2)))
    trained = Trained(
        old, before, TrainingConfig(architecture=architecture), np.zeros((1, 1), np.float32), np.zeros(1), 0
    )
    WarmStart.of(trained, after).into(new)
    return old, new


def _logits(model: Any, indices: Any) -> Any:
    with torch.inference_mode():
        return indices.logits(RankingForm(model.embeddings, model.ranking, warm_after=4))


def _virtual(model: Any, values: Any) -> Any:
    with torch.inference_mode():
        return ZeroShotForm(model.embeddings, model.zero_shot)(values)


def _as_new(indices: Any) -> Any:
    """The same with all that is unknown named as something that is new."""

    def named(values: Any, unknown: Any, new: Any) -> torch.Tensor:
        return torch.where(values == unknown, new, values)

    return replace(
        indices,
        attributes=named(indices.attributes, 0, torch.tensor([6, 0, 3])),  # a numeric field has no new values
        context=named(indices.context, 0, torch.tensor(3)),
        items=named(indices.items, UNKNOWN, torch.tensor(31)),
        actions=named(indices.actions, UNKNOWN, torch.tensor(4)),
        candidates=named(indices.candidates, UNKNOWN, torch.tensor(30)),
    )


@pytest.mark.parametrize(
    "architecture",
    [replace(TINY, ranking=name) for name in RANKING] + [replace(TINY, zero_shot=name) for name in ZERO_SHOT],
    ids=lambda one: f"{one.ranking}-{one.zero_shot}",
)
def test_grown_towers_answer_as_before_and_the_new_as_unknown_was(architecture: Any) -> None:
    old, new = _grown_towers(architecture)
    indices = Indices.drawn()
    indices.candidates[::4] = UNKNOWN
    indices.items[3:, :2] = UNKNOWN
    indices.actions[3:, :2] = UNKNOWN
    expected = _logits(old, indices)
    assert expected.std() > 0.01
    assert torch.equal(_logits(new, indices), expected)
    assert torch.equal(_logits(new, _as_new(indices)), expected)
    assert torch.equal(_virtual(new, indices.attributes), _virtual(old, indices.attributes))
    assert torch.equal(_virtual(new, _as_new(indices).attributes), _virtual(old, indices.attributes))


def test_every_parameter_and_buffer_is_filled_but_the_attributes_of_items() -> None:
    old, new = _grown_towers(replace(SMALL, ranking="dmr"))
    assert isinstance(new.ranking, Experts)
    before, after = old.state_dict(), new.state_dict()
    for name in before:
        shared = tuple(slice(size) for size in before[name].shape)
        first = before[name] if name != "embeddings.item_features" else torch.from_numpy(_encoding().item_features)
        if name not in {"embeddings.attributes.table.weight", "zero_shot.codes"}:  # a field's end moves the next
            assert torch.equal(after[name][shared], first), name
    assert torch.equal(after["ranking.keys"][-1], before["ranking.keys"][UNKNOWN])
    assert torch.equal(after["ranking.biases"][:, -1], before["ranking.biases"][:, UNKNOWN])


class Favourites(nn.Module):
    """A ranking tower with a table of its own, items last, and a parameter that has nothing to do with them."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.of_item = nn.Parameter(torch.randn(2, shape.items))
        self.rest = nn.Parameter(torch.randn(shape.dimension))

    def forward(self, inputs: Any) -> Any:
        return self.of_item[0][inputs.candidates] * self.rest.sum() + inputs.taste.pooled.sum(dim=1)[inputs.owner]


class Segments(nn.Module):
    """A zero-shot tower with a table of the first attribute alone."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(shape.sizes[0], shape.vectors * shape.dimension)
        self._shape = (shape.vectors, shape.dimension)

    def forward(self, attributes: Any, values: Any) -> Any:
        return self.table(values[:, 0]).unflatten(1, self._shape)


class ByTheSquare(Favourites):
    """Its table grows as nothing else does."""

    def __init__(self, shape: Any) -> None:
        super().__init__(shape)
        self.square = nn.Parameter(torch.randn(shape.items**2))


def test_a_tower_of_ones_own_is_grown_by_its_shapes() -> None:
    architecture = replace(TINY, ranking=f"{__name__}:Favourites", zero_shot=f"{__name__}:Segments")
    old, new = _grown_towers(architecture)
    indices = Indices.drawn()
    assert torch.equal(_logits(new, indices), _logits(old, indices))
    assert torch.equal(_virtual(new, torch.tensor([[6, 0, 0]])), _virtual(old, torch.tensor([[0, 0, 0]])))


def test_a_shape_that_growth_does_not_explain_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"no growth of a table explains") as raised:
        _grown_towers(replace(TINY, ranking=f"{__name__}:ByTheSquare"))
    assert raised.value.field == "ranking.square"


@pytest.mark.parametrize("changes", [{"ranking": "din"}, {"hidden": (32, 8)}, {"dimension": 4}])
def test_towers_of_another_architecture_are_refused_by_the_parameter(changes: Any) -> None:
    start = WarmStart(_built(_encoding(), TINY, 1).state_dict(), Sizes.of(_encoding()))
    with pytest.raises(InvalidInput, match=r"architectures differ|no growth of a table explains"):
        start.into(_built(_encoding(), replace(TINY, **changes), 2))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"items": ITEMS[:-1]}, "items"),
        ({"actions": ("bought", "clicked")}, "actions"),
        ({"context": {}}, "context"),
        ({"attributes": {**_encoding().attributes, "age": NumericEncoder((30.0, 51.0))}}, "attributes.age"),
        ({"attributes": {**_encoding().attributes, "city": CategoricalEncoder(("south", "north"))}}, "attributes.city"),
    ],
)
def test_an_encoding_that_did_not_grow_from_the_trained_one_is_refused(changes: Any, field: str) -> None:
    trained = Trained(_built(_encoding(), TINY, 1), _encoding(), config(), np.zeros((1, 1), np.float32), np.zeros(1), 0)
    with pytest.raises(InvalidInput) as raised:
        WarmStart.of(trained, replace(_encoding(), **changes))
    assert raised.value.field == field


def test_training_goes_on_from_a_start_over_what_came_since() -> None:
    data, split = dataset()
    times = split.train["time_ms"].to_numpy()
    early = split_by_time(data, int(np.quantile(times, 0.02)))
    settings = config(architecture=SMALL, ranking_rate=0.0, zero_shot_rate=0.0, epochs=1, rows=500)
    first = cotrain(data, early, settings)
    encoding = grown(first.encoding, data, split.instant_ms)
    assert len(encoding.items) > len(first.encoding.items)
    later = cotrain(data, split, settings, encoding=encoding, start=WarmStart.of(first, encoding))
    before, after = first.model.state_dict(), later.model.state_dict()
    assert torch.equal(after["embeddings.items.weight"][: first.encoding.item_count], before["embeddings.items.weight"])
    assert not torch.equal(after["ranking.keys"][: first.encoding.item_count], before["ranking.keys"]), "fitted anew"
    assert later.counts is not None
    assert later.counts.past.frequency.sum() == len(split.train), "each interaction is counted once"
