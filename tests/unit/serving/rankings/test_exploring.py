"""Rankings whose shown items stand in a drawn order: which, how often, and what the log hears."""

from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from foretaste.kernel.ranking import Source
from serving.metrics import RankingMetrics
from serving.rankings.exploring import Exploration, probabilities
from serving.rankings.impressions import ImpressionPolicy
from serving.rankings.ranking import Ranking
from serving.requests import RankRequest, RankResponse, ScoredItem
from tests.serving_parts import Parts

ITEMS = ["i10", "i90", "i50", "i30"]
BEST = ["i90", "i50", "i30", "i10"]


def answered(scores: tuple[float, ...] = (0.6, 0.4, 0.2), generation: int | None = 1) -> RankResponse:
    ranked = [ScoredItem(item_id=f"i{place}", score=score) for place, score in enumerate(scores)]
    return RankResponse.model_construct(
        user_id="u", served_by=Source.REAL, ranking_generation=generation, ranked=ranked
    )


def order_of(response: RankResponse) -> list[str]:
    return [item["item_id"] for item in response.ranked]


class ChosenUniform(np.random.Generator):
    """Whether a ranking explores is chosen; the orders are drawn."""

    def __init__(self, uniform: float, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self._uniform = uniform

    def random(self, *_: object, **__: object) -> Any:
        return self._uniform


def exploring(share: float, uniform: float = 0.0, seed: int = 0) -> Exploration:
    return Exploration(share, ChosenUniform(uniform, seed))


@pytest.mark.parametrize(
    ("exploration", "response", "shown"),
    [
        (exploring(0.0), answered(), 3),
        (exploring(1.0), answered(), 0),
        (exploring(1.0), answered(generation=None), 3),
        (exploring(1.0), answered(()), 3),
    ],
)
def test_nothing_is_drawn_where_nobody_sees_it_or_no_tower_scored(
    exploration: Exploration, response: RankResponse, shown: int
) -> None:
    before = order_of(response)
    exploration.order(response, shown)
    assert order_of(response) == before
    assert response.probabilities is None


def test_a_ranking_that_does_not_explore_stands_best_first_and_says_how_likely_that_was() -> None:
    response = answered()
    exploring(0.25, uniform=0.25).order(response, 2)
    assert order_of(response) == ["i0", "i1", "i2"]
    odds = np.array([0.6 / 0.4, 0.4 / 0.6])
    first = odds[0] / odds.sum()
    assert response.probabilities == pytest.approx([0.75 + 0.25 * first, 1.0])


def test_a_ranking_that_explores_keeps_what_is_shown_and_draws_its_order() -> None:
    orders = set()
    for seed in range(40):
        response = answered()
        exploring(0.25, uniform=0.2, seed=seed).order(response, 2)
        assert order_of(response)[2] == "i2"
        assert sorted(order_of(response)[:2]) == ["i0", "i1"]
        assert len(response.probabilities or []) == 2
        orders.add(tuple(order_of(response)))
    assert len(orders) == 2


@pytest.mark.parametrize("scores", [(1.0, 1.0, 0.0), (0.0, 0.0), (1e-12, 0.5)])
def test_scores_at_the_ends_have_probabilities_that_are_none_of_zero(scores: tuple[float, ...]) -> None:
    for seed in range(50):
        response = answered(scores)
        exploring(1.0, seed=seed).order(response, len(scores))
        assert all(0 < probability <= 1 for probability in response.probabilities or [0])


def test_of_a_thousand_items_each_position_has_its_probability() -> None:
    odds = np.exp(np.random.default_rng(0).normal(0, 3, 1000))
    found = probabilities(odds, np.random.default_rng(1).permutation(1000), 1.0)
    assert np.isfinite(found).all()
    assert found.min() > 0
    assert found[-1] == pytest.approx(1.0)


@pytest.fixture
async def parts() -> Parts:
    made = Parts()
    await made.start()
    await made.sign_up()
    return made


def way(parts: Parts, exploration: Exploration) -> Ranking:
    policy = ImpressionPolicy(parts.noted, shown=2, now=lambda: 1e9, exploration=exploration)
    metrics = RankingMetrics(CollectorRegistry())
    return Ranking(
        parts.store, parts.towers, parts.generations, parts.active, metrics, lambda: parts.now, policy=policy
    )


async def test_the_log_hears_the_order_and_its_probabilities(parts: Parts) -> None:
    seen = set()
    for seed in range(30):
        (response,) = await way(parts, Exploration(0.5, np.random.default_rng(seed))).rank(
            [RankRequest(user_id="u1", items=ITEMS)]
        )
        event = parts.noted.served[-1].event()
        assert list(event.items) == order_of(response)[:2]
        assert event.probabilities == tuple(response.probabilities or ())
        assert len(event.probabilities) == 2
        assert sorted(order_of(response)[:2]) == sorted(BEST[:2])
        assert order_of(response)[2:] == BEST[2:]
        seen.add(event.items)
    assert len(seen) == 2


async def test_by_default_nothing_is_drawn(parts: Parts) -> None:
    (response,) = await parts.ranking.rank([RankRequest(user_id="u1", items=ITEMS)])
    assert (order_of(response), response.probabilities) == (BEST, None)
    assert parts.noted.served[-1].event().probabilities == ()


async def test_a_trial_that_nobody_sees_is_not_drawn(parts: Parts) -> None:
    (response,) = await way(parts, exploring(1.0)).rank([RankRequest(user_id="u1", items=ITEMS, shown=0)])
    assert (order_of(response), response.probabilities) == (BEST, None)
