"""The index as served: small catalogues, where every item is compared, and large ones, in an inverted file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretaste.kernel.values import MAX_BEHAVIOUR, FloatArray, IndexArray
from models.effects.seen_bias import SEEN_BINS
from models.generations.retrieval import EXACT, BiasPlaces, ItemVectors, write_index
from models.runtime import account_age, layout
from models.runtime import retrieval as module
from models.runtime.encoding import FIRST_KNOWN
from models.runtime.encoding import PADDING as NO_ITEM
from models.runtime.refusals import BadRequest
from models.runtime.retrieval import (
    ALLOW,
    DENY,
    FIRST_ITEM,
    OF_COLUMN,
    PADDING,
    UNKNOWN_AGE,
    ComparedWhole,
    InvertedLists,
    ServedRetrieval,
    StoredTransitions,
)

KEYS, TASTE, WARM_AFTER = 8, 4, 5
BINS = int(SEEN_BINS[-1]) + 1
WIDTH = KEYS + BINS + TASTE
NO_FILTER = np.array([[-1, 0, 0]])
LARGE = 80_000


def test_items_are_counted_as_the_vocabulary_counts_them() -> None:
    """The served module stands alone beside a version, and has numbers of its own."""
    assert (FIRST_ITEM, PADDING, UNKNOWN_AGE) == (FIRST_KNOWN, NO_ITEM, account_age.UNKNOWN_AGE)


def drawn(items: int, seed: int = 0) -> FloatArray:
    """ComparedWhole (items + 2, H) in clusters of many sizes, as those of a catalogue are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, WIDTH))
    own = rng.choice(40, items + FIRST_ITEM, p=rng.dirichlet(np.full(40, 0.5)))
    found: FloatArray = (centres[own] + 0.5 * rng.normal(size=(items + FIRST_ITEM, WIDTH))).astype(np.float32)
    return found


def written(folder: Path, vectors: FloatArray, transitions: StoredTransitions | None = None) -> ServedRetrieval:
    """An index over these, whose items have their number modulo 3 and modulo 100 for attributes."""
    folder.mkdir(exist_ok=True)
    numbers = np.arange(len(vectors))
    write_index(
        folder / layout.RETRIEVAL,
        ItemVectors(vectors, KEYS, 2.0, BiasPlaces(SEEN_BINS), transitions),
        warm_after=WARM_AFTER,
        features=np.stack([1 + numbers % 3, 1 + numbers % 100], axis=1),
        popular=numbers[FIRST_ITEM:][::-1].astype(np.int32),
    )
    return ServedRetrieval(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ServedRetrieval:
    return written(tmp_path_factory.mktemp("small"), drawn(500))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> ServedRetrieval:
    return written(tmp_path_factory.mktemp("large"), drawn(LARGE))


def behaviour(*items: int) -> IndexArray:
    return np.array([[*items, *[PADDING] * (MAX_BEHAVIOUR - len(items))]])


def asked(
    index: ServedRetrieval, virtual: Any, *wanted: int, seen: tuple[int, ...] = (), filters: Any = NO_FILTER
) -> list[int]:
    """The candidates of one user."""
    vectors = np.asarray(virtual, dtype=np.float32).reshape(1, 2, KEYS // 2)
    tensors = behaviour(*seen), vectors, np.array([[*wanted, *[0] * (4 - len(wanted))]]), np.asarray(filters)
    index.check(*tensors)
    return [item for item in index.run(*tensors)[0].tolist() if item != PADDING]


def users(count: int) -> FloatArray:
    found: FloatArray = np.random.default_rng(1).normal(size=(count, KEYS)).astype(np.float32)
    return found


def exact(vectors: FloatArray, virtual: FloatArray, count: int, allowed: Any = None) -> list[int]:
    """What a cold user is nearest to, every item compared."""
    scores = vectors[:, :KEYS] @ virtual + vectors[:, KEYS]
    scores[:FIRST_ITEM] = -np.inf
    if allowed is not None:
        scores[~allowed] = -np.inf
    found: list[int] = np.argsort(-scores, kind="stable")[:count].tolist()
    return found


def test_a_small_catalogue_is_compared_whole_and_a_large_one_in_lists(
    small: ServedRetrieval, large: ServedRetrieval
) -> None:
    assert EXACT < LARGE
    assert isinstance(small._items, ComparedWhole)
    assert isinstance(large._items, InvertedLists)


def test_the_nearest_are_those_with_the_greatest_products(small: ServedRetrieval) -> None:
    for virtual in users(10):
        assert asked(small, virtual, 20) == exact(drawn(500), virtual, 20)


def test_of_a_large_catalogue_nearly_all_of_the_hundred_nearest_are_found(large: ServedRetrieval) -> None:
    vectors = drawn(LARGE)
    found = [len(set(asked(large, each, 100)) & set(exact(vectors, each, 100))) / 100 for each in users(100)]
    assert np.mean(found) >= 0.98


def test_of_a_large_catalogue_numbers_of_any_width_are_kept_in_sixteen_bits(large: ServedRetrieval) -> None:
    """Behind them are zeros, up to a width that a processor multiplies at once, which no product sees."""
    items = np.array([5, LARGE // 2, LARGE])
    kept = large._items.rows(items)
    assert kept.shape[1] % 16 == 0
    assert np.array_equal(kept[:, :WIDTH], drawn(LARGE)[items].astype(np.float16).astype(np.float32))
    assert not kept[:, WIDTH:].any()
    assert len(large.query(items, np.zeros((2, KEYS // 2), dtype=np.float32))) == kept.shape[1]


@pytest.mark.parametrize("kind", [0, 1])
def test_of_a_large_catalogue_a_filter_still_finds_enough(large: ServedRetrieval, kind: int) -> None:
    """A third is asked of the lists, more of them than else; a hundredth is few enough to be compared whole."""
    vectors, shares = drawn(LARGE), []
    allowed = 1 + np.arange(len(vectors)) % (3, 100)[kind] == 2
    for each in users(30):
        found = asked(large, each, 100, filters=[[0, kind, 2]])
        assert len(found) == 100
        assert allowed[found].all()
        shares.append(len(set(found) & set(exact(vectors, each, 100, allowed))) / 100)
    assert np.mean(shares) >= (0.98, 1.0)[kind]


def test_a_filter_that_leaves_more_than_few_in_a_corner_is_asked_of_every_list(
    large: ServedRetrieval, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", 10)
    vectors = drawn(LARGE)
    virtual = users(1)[0]
    far = exact(vectors, -virtual, 300)
    found = asked(large, virtual, 250, filters=[[0, ALLOW, item] for item in far])
    assert len(found) == 250
    assert set(found) <= set(far)


def test_of_many_the_draw_is_one_without_repetition(large: ServedRetrieval) -> None:
    found = asked(large, users(1)[0], 0, 0, 30_000, 5)
    assert len(set(found)) == 30_000
    assert found == asked(large, users(1)[0], 0, 0, 30_000, 5)
    assert min(found) >= FIRST_ITEM
    assert abs(np.mean(found) - LARGE / 2) < LARGE / 50


def test_the_popular_ones_are_the_first_that_may_be(large: ServedRetrieval) -> None:
    last = len(drawn(LARGE)) - 1
    denied = [[0, DENY, item] for item in (last, last - 2)]
    assert asked(large, users(1)[0], 0, 3, filters=denied) == [last - 1, last - 3, last - 4]
    of_value = asked(large, users(1)[0], 0, 3, filters=[[0, 1, 7]])
    assert of_value == sorted([item for item in range(FIRST_ITEM, last + 1) if item % 100 == 6], reverse=True)[:3]


def test_virtual_behaviour_counts_until_the_user_is_warm(small: ServedRetrieval) -> None:
    one, other = users(2)
    for seen in range(WARM_AFTER + 1):
        acted = tuple(range(10, 10 + seen))
        assert (asked(small, one, 50, seen=acted) == asked(small, other, 50, seen=acted)) is (seen >= WARM_AFTER)


def test_the_newest_behaviour_counts_most(small: ServedRetrieval) -> None:
    vectors = drawn(500)[:, KEYS + BINS :]
    seen = (20, 30, 40, 50, 60, 70)
    query = small.query(np.array(seen), np.zeros((2, 4), dtype=np.float32))
    weights = 0.9 ** np.arange(5, -1, -1)
    np.testing.assert_allclose(query[KEYS + BINS :], 2 * (weights / weights.sum()) @ vectors[list(seen)], rtol=1e-5)
    assert query[:KEYS].tolist() == [0] * KEYS
    assert query[KEYS : KEYS + BINS].tolist() == np.eye(BINS)[SEEN_BINS[6]].tolist()


def test_filters_are_of_their_own_user(small: ServedRetrieval) -> None:
    virtual = np.stack([users(1)[0].reshape(2, 4)] * 2)
    wanted, seen = np.array([[5, 0, 0, 0]] * 2), np.concatenate([behaviour()] * 2)
    found = small.run(seen, virtual, wanted, np.array([[1, ALLOW, 9], [1, ALLOW, 8]]))
    assert (found[0] != PADDING).all()
    assert sorted(found[1].tolist()) == [PADDING] * 3 + [8, 9]


def test_values_of_one_attribute_are_alternatives_and_attributes_hold_together(small: ServedRetrieval) -> None:
    found = asked(small, users(1)[0], 500, filters=[[0, 0, 1], [0, 0, 2], [0, 1, 5]])
    assert sorted(found) == [item for item in range(FIRST_ITEM, 502) if item % 3 in (0, 1) and item % 100 == 4]


def test_filters_on_many_values_are_held_no_more_than_kept(
    small: ServedRetrieval, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    for value in range(1, 20):
        assert asked(small, users(1)[0], 500, filters=[[0, 1, value]])
    assert len(small._of_value) <= 4


@pytest.mark.parametrize(
    ("place", "tensor", "name"),
    [
        (0, behaviour(502), "behaviour"),
        (0, np.zeros(3, dtype=np.int64), "behaviour"),
        (1, np.zeros((2, 2, 4), dtype=np.float32), "virtual_behaviour"),
        (1, np.zeros((1, 3, 4), dtype=np.float32), "virtual_behaviour"),
        (2, np.array([[1, 1, 1]]), "wanted"),
        (2, np.array([[1, -1, 1, 1]]), "wanted"),
        (3, np.array([[0, 0]]), "filters"),
        (3, np.array([[1, 0, 1]]), "filters"),
        (3, np.array([[0, 2, 1]]), "filters"),
        (3, np.array([[0, 0, 2 * OF_COLUMN + 1]]), "filters"),
        (3, np.array([[0, -4, 1]]), "filters"),
        (3, np.array([[0, DENY, -1]]), "filters"),
    ],
)
def test_what_no_request_holds_is_refused(small: ServedRetrieval, place: int, tensor: Any, name: str) -> None:
    tensors: list[Any] = [behaviour(), np.zeros((1, 2, 4), dtype=np.float32), np.array([[1, 1, 1, 1]]), NO_FILTER]
    small.check(*tensors)
    tensors[place] = tensor
    with pytest.raises(BadRequest, match=f"^{name}"):
        small.check(*tensors)


H = 3


@pytest.mark.parametrize("items", [500, LARGE])
def test_what_follows_real_behaviour_is_near(items: int, tmp_path: Path) -> None:
    """Of two behaviours, the newer one's sources weigh in full."""
    rng = np.random.default_rng(1)
    vectors = np.hstack([np.zeros((items + FIRST_ITEM, WIDTH)), 1e-3 * rng.normal(size=(items + FIRST_ITEM, H))])
    vectors[7, -H:], vectors[8, -H:] = [0.0, 2.0, 0.0], [2.0, 0.0, 0.0]
    sources = np.zeros((items + FIRST_ITEM, H), dtype=np.float16)
    sources[3], sources[4] = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    weights = np.linspace(0.0, 3.0, MAX_BEHAVIOUR + 1).astype(np.float32)
    index = written(tmp_path, vectors.astype(np.float32), StoredTransitions(sources, weights, 0.5, WIDTH))
    query = index.query(np.array([3, 4]), np.zeros((2, 4), dtype=np.float32))
    np.testing.assert_allclose(query[WIDTH : WIDTH + H], weights[2] * np.array([0.5, 1.0, 0.0]), rtol=1e-3)
    behaviour = np.zeros((1, MAX_BEHAVIOUR), dtype=np.int64)
    behaviour[0, :2] = [3, 4]
    found = index.run(behaviour, np.zeros((1, 2, 4), dtype=np.float32), np.array([[2, 0, 0, 0]]), NO_FILTER)
    assert found.tolist() == [[7, 8]]
    nobody = index.query(np.zeros(0, dtype=np.int64), np.zeros((2, 4), dtype=np.float32))
    assert not nobody[WIDTH : WIDTH + H].any()
