"""The off-policy estimate against the truth of simulated logs, and by hand."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from foretaste.kernel.ranking import Source
from models.evaluation.bootstrap import Resamples
from models.evaluation.metrics import Numbers
from models.evaluation.off_policy import DrawnRankings, off_policy
from models.runtime.encoding import IndexArray
from serving.rankings.exploring import Exploration, probabilities
from serving.requests import RankResponse, ScoredItem

SHOWN, RANKINGS, SHARE = 5, 250_000, 0.5


def answered(items: Iterable[tuple[str, float]]) -> RankResponse:
    """Best first, by generation 1."""
    ranked = [ScoredItem(item_id=item, score=score) for item, score in items]
    return RankResponse.model_construct(user_id="u", served_by=Source.REAL, ranking_generation=1, ranked=ranked)


class World:
    """Items with a quality that users act by; the tower that serves sees a noisy one, and others see others."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.chances = 1 / (1 + np.exp(-rng.normal(-1.5, 1, (RANKINGS, SHOWN))))
        self.served = self._seen(1.0)
        self.better = self._seen(0.3)
        self.other = self._seen(2.0)
        order, first = self._logged()
        rows = np.arange(RANKINGS)[:, None]
        self.rewards = (rng.random(RANKINGS) < self.chances[rows[:, 0], order[:, 0]]).astype(np.float64)
        self.order, self.drawn = (
            order,
            DrawnRankings(rng.integers(0, RANKINGS // 10, RANKINGS), self.rewards, first, np.full(RANKINGS, SHOWN)),
        )

    def _seen(self, noise: float) -> Numbers:
        logits = np.log(self.chances / (1 - self.chances)) + self.rng.normal(0, noise, self.chances.shape)
        return 1 / (1 + np.exp(-logits))

    def _logged(self) -> tuple[IndexArray, Numbers]:
        """Orders (G, n) as numbers of the items, and the probability of each first one, as serving draws them."""
        odds = self.served / (1 - self.served)
        best = np.argsort(-odds, axis=1)
        drawn = np.argsort(-(np.log(odds) + self.rng.gumbel(size=odds.shape)), axis=1)
        orders = np.where(self.rng.random((RANKINGS, 1)) < SHARE, drawn, best)
        rows = np.arange(RANKINGS)
        first = SHARE * odds[rows, orders[:, 0]] / odds.sum(axis=1) + (1 - SHARE) * (orders[:, 0] == best[:, 0])
        return orders, first

    def as_shown(self, scores: Numbers) -> Numbers:
        """(R,) scores in the order in which the items stood."""
        return np.take_along_axis(scores, self.order, axis=1).ravel()

    def truth(self, scores: Numbers) -> float:
        """How often the item is acted on that these scores put first."""
        return float(self.chances[np.arange(RANKINGS), scores.argmax(axis=1)].mean())


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize("name", ["served", "better", "other"])
def test_both_estimates_are_near_to_the_truth_of_a_simulated_log(world: World, name: str) -> None:
    """Within 2 %, also of an order that has little to do with the one that was served."""
    scores = getattr(world, name)
    resamples = Resamples.drawn(world.drawn.persons, 200, 0)
    found = off_policy(world.drawn, world.as_shown(scores), world.as_shown(world.served), resamples)
    truth = world.truth(scores)
    assert found.doubly_robust.value == pytest.approx(truth, rel=0.02)
    low, high = found.doubly_robust.interval
    assert low < truth < high
    assert found.inverse_propensity.value == pytest.approx(truth, rel=0.02)


def test_the_mean_of_what_was_served_is_no_estimate_of_another_order(world: World) -> None:
    """Or nothing of all this would be needed."""
    resamples = Resamples.drawn(world.drawn.persons, 10, 0)
    found = off_policy(world.drawn, world.as_shown(world.better), world.as_shown(world.served), resamples)
    assert abs(found.logged.value / world.truth(world.better) - 1) > 0.1


def test_doubly_robust_is_unbiased_though_what_is_expected_is_wrong(world: World) -> None:
    resamples = Resamples.drawn(world.drawn.persons, 10, 0)
    wrong = np.full(RANKINGS * SHOWN, 0.9)
    found = off_policy(world.drawn, world.as_shown(world.better), wrong, resamples)
    assert found.doubly_robust.value == pytest.approx(world.truth(world.better), rel=0.03)


def test_three_rankings_by_hand() -> None:
    drawn = DrawnRankings(
        np.array([7, 7, 9]), np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.8, 0.25]), np.array([2, 3, 2])
    )
    scores = np.array([0.9, 0.1, 0.2, 0.3, 0.3, 0.6, 0.6])
    expected = np.array([0.4, 0.2, 0.5, 0.6, 0.1, 0.3, 0.7])
    found = off_policy(drawn, scores, expected, Resamples.drawn(drawn.persons, 5, 0))
    assert found.matched == 2, "the first and, of two equal scores, the third"
    assert found.logged.value == pytest.approx(2 / 3)
    assert found.inverse_propensity.value == pytest.approx((1 / 0.5 + 0 + 1 / 2 / 0.25) / 3)
    robust = (0.4 + (1 - 0.4) / 0.5) + (0.6 + 0.1) / 2 + ((0.3 + 0.7) / 2 + (1 - 0.3) / 2 / 0.25)
    assert found.doubly_robust.value == pytest.approx(robust / 3)


def test_a_tower_that_tells_nothing_apart_puts_any_item_first() -> None:
    """Its ties are broken by no place, or the log would always agree with it."""
    rng = np.random.default_rng(0)
    count, truth = 20_000, np.array([0.4, 0.3, 0.2, 0.1, 0.0])
    orders = rng.permuted(np.tile(np.arange(5), (count, 1)), axis=1)
    rewards = (rng.random(count) < truth[orders[:, 0]]).astype(np.float64)
    drawn = DrawnRankings(np.arange(count), rewards, np.full(count, 0.2), np.full(count, 5))
    found = off_policy(drawn, np.ones(5 * count), np.full(5 * count, 0.1), Resamples.drawn(drawn.persons, 5, 0))
    assert found.inverse_propensity.value == pytest.approx(truth.mean(), rel=0.03)
    assert found.doubly_robust.value == pytest.approx(truth.mean(), rel=0.03)
    assert found.matched == count


def test_a_draw_counts_all_rankings_of_a_person() -> None:
    drawn = DrawnRankings(np.array([1, 1, 2]), np.array([1.0, 1.0, 0.0]), np.ones(3), np.full(3, 2))
    resamples = replace(Resamples.drawn(drawn.persons, 2, 0), counts=np.array([[2, 0], [1, 1]], dtype=np.float32))
    found = off_policy(drawn, np.tile([1.0, 0.0], 3), np.zeros(6), resamples)
    assert found.logged.drawn.tolist() == [1.0, pytest.approx(2 / 3)]


def test_the_probabilities_of_all_orders_add_up_to_one() -> None:
    odds, share = np.array([3.0, 1.0, 0.5]), 0.4
    together = {order: probabilities(odds, np.array(order), share).prod() for order in permutations(range(3))}
    assert sum(together.values()) == pytest.approx(1.0)
    assert together[0, 1, 2] == pytest.approx(0.6 + 0.4 * (3 / 4.5) * (1 / 1.5))
    assert together[2, 1, 0] == pytest.approx(0.4 * (0.5 / 4.5) * (1 / 4))


def test_serving_tells_the_same_first_probabilities(world: World) -> None:
    for place in range(200):
        scores = world.served[place]
        answer = answered((str(item), float(scores[item])) for item in np.argsort(-scores))
        Exploration(SHARE, np.random.default_rng(place)).order(answer, SHOWN)
        odds, first = scores / (1 - scores), int(answer.ranked[0]["item_id"])
        expected = SHARE * odds[first] / odds.sum() + (1 - SHARE) * (first == int(scores.argmax()))
        assert (answer.probabilities or [])[0] == pytest.approx(expected)


def test_orders_come_as_often_as_is_said() -> None:
    exploration = Exploration(0.5, rng=np.random.default_rng(3))
    counts: dict[tuple[str, ...], int] = {}
    said: dict[tuple[str, ...], float] = {}
    for _ in range(20_000):
        answer = answered((("a", 0.6), ("b", 0.4), ("c", 0.2)))
        exploration.order(answer, 2)
        assert answer.ranked[2]["item_id"] == "c", "what is not shown is not drawn"
        order = tuple(item["item_id"] for item in answer.ranked)
        counts[order] = counts.get(order, 0) + 1
        said[order] = float(np.prod(answer.probabilities or []))
    assert len(counts) == 2
    for order, count in counts.items():
        assert count / 20_000 == pytest.approx(said[order], abs=0.012)
