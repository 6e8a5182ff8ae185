"""The rivals that count, against plain loops."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import DAY_MS
from models.data.examples import encode_users
from models.rivals.events import TrainingBehaviour
from models.rivals.item_attribute import ItemAttribute
from models.rivals.neighbours import Neighbours
from models.rivals.popularity import Popularity
from models.rivals.recent_popularity import RecentPopularity
from models.runtime.encoding import FIRST_KNOWN, UNKNOWN
from tests import towers_factory
from tests.rivals_factory import material, material_of, questions


def _events(learned: Any) -> Iterator[Any]:
    """(user row, item index, time, label, attributes) of each training row, one after the other."""
    attributes = encode_users(learned.dataset, learned.encoding)
    for row in learned.split.train.itertuples():
        user = int(learned.dataset.user_rows([row.user_id])[0])
        item = int(learned.encoding.encode_items([row.item_id])[0])
        yield user, item, row.time_ms, row.label, attributes[user]


@pytest.mark.parametrize("half_life", [None, 5.0])
def test_popularity_is_the_sum_of_the_actions_weighed_by_their_age(half_life: float | None) -> None:
    learned = material()
    expected = np.zeros(learned.encoding.item_count)
    for _, item, time_ms, _, _ in _events(learned):
        age = (learned.split.instant_ms - time_ms) / DAY_MS
        expected[item] += 1.0 if half_life is None else 0.5 ** (age / half_life)
    np.testing.assert_allclose(Popularity(half_life).fit(learned).by_item, expected)


def test_an_unknown_item_is_the_least_popular() -> None:
    batch = questions()
    asked = replace(batch, candidates=np.where(np.arange(len(batch.candidates)) % 2, UNKNOWN, batch.candidates))
    scores = Popularity().fit(material()).scores(asked)
    assert (scores[1::2] == 0).all()
    assert (scores[::2] > 0).all()


def test_impressions_that_nobody_acted_on_are_not_popular() -> None:
    learned = material_of(*towers_factory.dataset(labels=True))
    expected = np.zeros(learned.encoding.item_count)
    for _, item, _, label, _ in _events(learned):
        expected[item] += label
    np.testing.assert_array_equal(Popularity().fit(learned).by_item, expected)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("popularity", [False, True])
def test_the_item_attribute_score_is_the_sum_of_shrunk_log_odds(labels: bool, popularity: bool) -> None:
    learned = material_of(*towers_factory.dataset(labels=labels))
    c, count = 4.0, learned.encoding.item_count
    rows = list(_events(learned))
    ranker = ItemAttribute(shrinkage=c, popularity=popularity).fit(learned)
    batch = questions()
    for row in range(0, len(batch.candidates), 97):
        item, asked = int(batch.candidates[row]), batch.attributes[batch.owner[row]]
        acted_overall = sum(label for _, _, _, label, _ in rows)
        overall = (acted_overall + 1) / (len(rows) + 2) if labels else 1 / count
        chances = sum(1 for _, other, _, _, _ in rows if other == item or not labels)
        actions = sum(label for _, other, _, label, _ in rows if other == item)
        p = (actions + 1) / (chances + 1 / overall)
        expected = math.log(p / (1 - p)) if popularity else 0.0
        for attribute, value in enumerate(asked):
            alike = [one for one in rows if one[4][attribute] == value]
            n = sum(label for _, other, _, label, _ in alike if other == item)
            e = sum(1 for _, other, _, _, _ in alike if other == item or not labels)
            expected += math.log((n + c) / (e - n + c * (1 - p) / p)) - math.log(p / (1 - p))
        assert ranker.scores(batch)[row] == pytest.approx(expected)


def test_attribute_values_never_seen_and_items_never_met_say_nothing() -> None:
    ranker = ItemAttribute().fit(material_of(*towers_factory.dataset(labels=True)))
    attributes = np.zeros((1, 3), dtype=np.int64)
    assert ranker.log_odds(np.array([UNKNOWN]), attributes) == pytest.approx(np.zeros((1, 3)))


def test_the_more_shrinkage_the_less_an_attribute_says() -> None:
    learned, batch = material(), questions()
    spreads = [np.abs(ItemAttribute(shrinkage=c).fit(learned).scores(batch)).mean() for c in (1.0, 10.0, 1e6)]
    assert spreads[0] > spreads[1] > 100 * spreads[2]


@pytest.mark.parametrize("shrinkage", [1.0, 1000.0])
def test_an_items_own_rate_is_not_shrunk_however_much_the_log_odds_are(shrinkage: float) -> None:
    learned = material()
    items = [item for _, item, _, _, _ in _events(learned)]
    rates = ItemAttribute(shrinkage=shrinkage).fit(learned).rates
    for item in range(learned.encoding.item_count):
        assert rates[item] == pytest.approx((items.count(item) + 1) / (len(items) + learned.encoding.item_count))


def test_recent_popularity_is_the_share_of_late_over_the_share_of_all() -> None:
    learned, c = material(), 3.0
    late, all_of_them = np.zeros(learned.encoding.item_count), np.zeros(learned.encoding.item_count)
    for _, item, time_ms, _, _ in _events(learned):
        all_of_them[item] += 1
        late[item] += time_ms >= learned.split.instant_ms - 6 * DAY_MS
    assert 0 < late.sum() < all_of_them.sum()
    expected = [
        math.log((n + c) / (late.sum() * m / all_of_them.sum() + c)) for n, m in zip(late, all_of_them, strict=True)
    ]
    found = RecentPopularity(days=6.0, shrinkage=c).fit(learned).by_item
    np.testing.assert_allclose(found, expected)
    assert found[UNKNOWN] == 0, "an item that nobody met keeps its share"


@pytest.mark.parametrize("relative", [False, True])
def test_the_neighbours_score_is_their_shrunk_rate(relative: bool) -> None:
    learned = material()
    k, c = 15, 2.0
    behaviour = TrainingBehaviour.of(learned)
    done: dict[Any, Any] = {}
    for user, item, _, label, _ in _events(learned):
        if label:
            done.setdefault(user, []).append(item)
    attributes = encode_users(learned.dataset, learned.encoding)
    everything = [item for items in done.values() for item in items]
    batch = questions()
    ranker = Neighbours(neighbours=k, shrinkage=c, relative=relative).fit(learned)
    scores = ranker.scores(batch)
    for row in range(0, len(batch.candidates), 149):
        asked, item = batch.attributes[batch.owner[row]], int(batch.candidates[row])
        kinds = np.unique(behaviour.attributes, axis=0)[ranker.chosen(asked[None]).indices]
        near = [user for user in done if (attributes[user] == kinds).all(axis=1).any()]
        apart = {user: int((attributes[user] != asked).sum()) for user in done}
        assert len(near) >= k
        assert max(apart[user] for user in near) == sorted(apart.values())[k - 1], "no user left out is nearer"
        taken = [other for user in near for other in done[user]]
        p = (everything.count(item) + 1) / (len(everything) + learned.encoding.item_count)
        expected = math.log((taken.count(item) + c) / (len(taken) * p + c)) + (0 if relative else math.log(p))
        assert scores[row] == pytest.approx(expected)


def test_all_users_as_neighbours_say_what_everybody_likes() -> None:
    scores = Neighbours(neighbours=10**6, relative=False).fit(material()).scores(questions())
    popular = Popularity().fit(material()).scores(questions())
    assert np.corrcoef(scores.argsort().argsort(), popular.argsort().argsort())[0, 1] > 0.999


def test_behaviour_counts_every_action() -> None:
    data, split = towers_factory.dataset(labels=True)
    learned = material_of(data, split)
    found = TrainingBehaviour.of(learned)
    expected = np.zeros((len(data.users), learned.encoding.item_count))
    for user, item, _, label, _ in _events(learned):
        expected[user, item] += label
    assert found.users.tolist() == np.flatnonzero(expected.any(axis=1)).tolist()
    np.testing.assert_array_equal(found.matrix.toarray(), expected[found.users])
    assert expected[:, :FIRST_KNOWN].sum() == 0


@pytest.mark.parametrize("method", [Neighbours()])
def test_no_behaviour_at_all_is_refused(method: Any) -> None:
    data, split = towers_factory.dataset(labels=True)
    nothing = replace(split, train=split.train.assign(label=0))
    with pytest.raises(InvalidInput, match="no behaviour of any user"):
        method.fit(material_of(data, nothing))


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (Popularity, "half_life_days", 0.0),
        (Popularity, "half_life_days", math.inf),
        (ItemAttribute, "shrinkage", 0.0),
        (ItemAttribute, "shrinkage", math.nan),
        (RecentPopularity, "days", 0.0),
        (RecentPopularity, "shrinkage", math.inf),
        (Neighbours, "neighbours", 0),
        (Neighbours, "shrinkage", -1.0),
    ],
)
def test_settings_that_cannot_be_are_refused_by_field_and_value(make: Any, field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: ") as raised:
        make(**{field: value})
    assert raised.value.value is value
