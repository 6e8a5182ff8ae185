"""The watch over ports in memory: what it counts, what it tells, and when it takes a generation back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.generations import Move, Serving
from foretaste.kernel.ranking import Cause, Fallback, RankingInput, Source
from foretaste.kernel.users import Behaviour, EnrichedUser, Stage, VirtualBehaviour
from foretaste.kernel.values import Attributes, FloatArray
from foretaste.testing import InMemoryGenerations
from streams.topics import TopicNames
from streams.watch.monitor import Monitor, WatchConfig, watch_pipelines
from streams.watch.prometheus import WatchGauges
from tests.stream_parts import NOW, SHAPE, ChosenStore, ChosenTowers, World, generation, message

AWAY = Unavailable("redis", "chosen by the test")
PROFILE = {
    "attributes": {
        "city": {"values": ["north", "south"], "shares": [0.5, 0.5, 0.0, 0.0]},
        "age": {"edges": [30.0], "shares": [0.5, 0.5, 0.0]},
    },
    "lengths": {"edges": [1.0, 3.0], "shares": [0.6, 0.2, 0.2, 0.0]},
    "items": {"values": ["a", "b"], "shares": [0.5, 0.25, 0.25, 0.0]},
    "virtual_norm": 2.0,
    "behaviour_norm": 1.5,
    "calibration": {"cold": {"predicted": 0.3, "observed": 0.25, "impressions": 100}},
}
NOT_FINITE: dict[str, Any] = {
    "served_by": Source.FALLBACK,
    "fallback": Fallback.POPULARITY,
    "ranking_generation": None,
    "zero_shot_generation": None,
    "cause": Cause.RANKING_NOT_FINITE,
}
REPAIRED: dict[str, Any] = {"served_by": Source.READ_REPAIRED}


@dataclass
class ChosenGenerations(InMemoryGenerations):
    """In memory; while an outage is set, reads or moves raise it."""

    world: "Bench"
    read_outage: Unavailable | None = None
    move_outage: Unavailable | InvalidInput | None = None
    reads: int = 0

    def __post_init__(self) -> None:
        super().__init__(lambda: self.world.time)

    async def serving(self) -> Serving:
        self.reads += 1
        if self.read_outage is not None:
            raise self.read_outage
        return await super().serving()

    async def activate(self, number: int, expected: int | None, reason: str = "", *, filled: bool = False) -> bool:
        if self.move_outage is not None:
            raise self.move_outage
        return await super().activate(number, expected, reason, filled=filled)


@dataclass
class WrongTowers(ChosenTowers):
    """Towers of which some generations go wrong: they answer nan, or the wrong shape, or raise."""

    wrong: dict[int, Literal["nan", "shape", "away"]] = field(default_factory=dict)
    refused: int | None = None
    """An age that the zero-shot towers of all generations refuse."""
    asked: list[tuple[RankingInput, int]] = field(default_factory=list)

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        if self.wrong.get(generation) == "away":
            raise Unavailable("triton", "chosen by the test")
        if self.refused is not None and attributes[0].get("age") == self.refused:
            raise InvalidInput("age", self.refused, "chosen by the test")
        return await super().virtual_behaviour(attributes, generation)

    async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        self.asked += [(request, generation) for request in requests]
        scores: list[FloatArray] = await super().score(requests, generation)
        match self.wrong.get(generation):
            case "nan":
                return [np.full_like(each, np.nan) for each in scores]
            case "shape":
                return [each[:-1] for each in scores]
        return scores


@dataclass
class Bench:
    """A watch and what it watches; time is a field."""

    time: float = NOW
    config: WatchConfig = field(default_factory=lambda: WatchConfig(outcome=60))
    store: ChosenStore = field(default_factory=ChosenStore)
    towers: WrongTowers = field(default_factory=WrongTowers)
    shown: int = 0

    def __post_init__(self) -> None:
        self.generations = ChosenGenerations(self)
        self.restart()

    def restart(self) -> None:
        """The watch forgets what it counted."""
        self.watch = Monitor(self.store, self.towers, self.generations, self.config, lambda: self.time)

    async def activate(
        self, number: int, expected: int | None, profile: dict[str, Any] | None = None, *, filled: bool = True
    ) -> None:
        text = json.dumps(PROFILE if profile is None else profile)
        await self.generations.record(replace(generation(number), profile=text), {})
        assert await self.generations.activate(number, expected, filled=filled)
        self.time += 2

    async def ranked(self, number: int, count: int = 1, **changed: Any) -> None:
        """So many rankings by a generation, of cold users with stored virtual behaviour unless `changed`."""
        await self.watch.rankings([message(json.loads(self.event(number, **changed))) for _ in range(count)])

    def event(self, number: int, **changed: Any) -> str:
        self.shown += 1
        values = {
            "ranking_id": f"r{self.shown}",
            "user_id": f"u{self.shown}",
            "at": datetime.fromtimestamp(self.time, UTC),
            "items": ("a", "b"),
            "scores": (0.75, 0.25),
            "attributes": {"city": "north", "age": 20},
            "served_by": Source.VIRTUAL,
            "zero_shot_generation": number,
            "ranking_generation": number,
            "warm_after": 3,
        }
        return UserRanked.model_validate(values | changed).model_dump_json()

    async def acted(self, user: str, item: str, action: str = "clicked") -> None:
        event = UserBehaved(user_id=user, item_id=item, action=action, at=datetime.fromtimestamp(self.time, UTC))
        await self.watch.acts([message(json.loads(event.model_dump_json()))])

    async def active(self) -> int | None:
        found = await self.generations.active()
        return None if found is None else found.number

    async def moved(
        self,
        before: int = 300,
        wrong: Literal["nan", "shape", "away"] | None = "nan",
        *,
        filled: bool = True,
        **changed: Any,
    ) -> None:
        """Generation 2 took over from generation 1 after so many rankings, which `changed` describes.

        From then on its towers are `wrong`.
        """
        await self.activate(1, None)
        if before:
            await self.ranked(1, before, **changed)
        await self.activate(2, 1, filled=filled)
        self.towers.wrong = {2: wrong} if wrong else {}


async def test_nothing_is_told_before_the_first_generation() -> None:
    bench = Bench()
    await bench.ranked(1)
    await bench.acted("u1", "a")
    found = bench.watch.snapshot()
    assert (found.active, found.previous, found.figures) == (None, None, None)
    await bench.activate(1, None)
    await bench.ranked(1)
    assert bench.watch.snapshot().active == 1


async def test_shares_of_groups_failures_and_coverage() -> None:
    bench = Bench()
    await bench.activate(1, None)
    await bench.ranked(1, 5)
    await bench.ranked(1, 2, served_by=Source.BLENDED, behaviour_items=("x",))
    await bench.ranked(1, 1, behaviour_items=("x",) * 3, served_by=Source.REAL)
    await bench.ranked(1, 1, **REPAIRED)
    await bench.ranked(1, 1, **NOT_FINITE)
    figures = bench.watch.snapshot().figures
    assert figures is not None
    assert figures.rankings == 10
    assert {name: group.share for name, group in figures.groups.items()} == {"cold": 0.7, "warming": 0.2, "warm": 0.1}
    assert figures.coverage == pytest.approx(7 / 9)
    assert figures.failures == figures.non_finite == 0.1
    assert figures.virtual_norm_at_training == 2.0


async def test_drift_of_attributes_and_of_behaviour() -> None:
    bench = Bench()
    await bench.activate(1, None)
    await bench.ranked(1, 30)
    await bench.ranked(1, 30, attributes={"city": "south", "age": "45"})
    before = bench.watch.snapshot().figures
    assert before is not None
    assert before.attributes == {"city": 0, "age": 0}
    assert before.lengths is not None
    assert before.lengths > 0.25, "all are cold, four in ten of training were not"
    assert before.items is None
    for _ in range(60):
        await bench.acted("ada", "new")
        await bench.ranked(1, attributes=None)
    after = bench.watch.snapshot().figures
    assert after is not None
    assert after.attributes["city"] is not None
    assert after.attributes["city"] > 0.25, "half of them are missing now"
    assert after.items is not None
    assert after.items > 0.25


async def test_predicted_and_acted_by_group() -> None:
    bench = Bench()
    await bench.activate(1, None)
    for user in ("ada", "bob"):
        await bench.ranked(1, user_id=user)
        bench.time += 1
    await bench.ranked(1, user_id="eve", behaviour_items=("x",) * 3, served_by=Source.REAL, scores=(0.5, 0.1))
    await bench.acted("ada", "a")
    await bench.acted("ada", "b", "answered_yes")  # at sign-up: no act
    await bench.acted("eve", "a")
    bench.time += 61
    await bench.acted("bob", "a")
    await bench.ranked(1)
    figures = bench.watch.snapshot().figures
    assert figures is not None
    cold, warm = figures.groups[Stage.COLD], figures.groups[Stage.WARM]
    assert (cold.impressions, cold.predicted, cold.acted) == (4, 0.5, 0.25)
    assert (warm.impressions, warm.predicted, warm.acted) == pytest.approx((2, 0.3, 0.5))
    assert (cold.predicted_at_training, cold.acted_at_training) == (0.3, 0.25)
    assert figures.groups[Stage.WARMING].predicted is figures.groups[Stage.WARMING].predicted_at_training is None


async def test_the_norm_of_what_is_stored() -> None:
    bench = Bench()
    await bench.activate(1, None)
    vectors = {user: np.full(SHAPE, value, np.float32) for user, value in (("ada", 1.0), ("bob", 3.0))}
    await bench.store.write_enriched(
        [EnrichedUser(user, {}, VirtualBehaviour(1, each), 1) for user, each in vectors.items()]
    )
    for user in ("ada", "bob", "nobody"):
        await bench.ranked(1, user_id=user)
    bench.time += 31
    await bench.ranked(1, user_id="ada")
    figures = bench.watch.snapshot().figures
    assert figures is not None
    assert figures.virtual_norm == pytest.approx(2 * np.sqrt(6))

    bench.time += 31
    bench.store.read_outage = AWAY
    await bench.ranked(1)
    assert bench.watch.snapshot().figures == figures.model_copy(
        update={"rankings": 5, "groups": bench.watch.snapshot().figures.groups}
    )


async def test_what_is_over_is_forgotten_and_what_is_too_old_not_taken() -> None:
    bench = Bench()
    await bench.activate(1, None)
    await bench.ranked(1, 3)
    bench.time += 3601 + 300
    await bench.ranked(1, 1, at=datetime.fromtimestamp(bench.time - 3601, UTC))
    await bench.ranked(1, 1, at=datetime.fromtimestamp(bench.time + 9999, UTC))
    figures = bench.watch.snapshot().figures
    assert figures is not None
    assert figures.rankings == 1


async def test_what_cannot_be_read_is_counted_and_passed_over() -> None:
    bench = Bench()
    await bench.activate(1, None)
    good = message(json.loads(bench.event(1)))
    await bench.watch.rankings([message(b"{"), good, message(None), message({"user_id": "u"})])
    await bench.watch.acts([message(b"[]")])
    found = bench.watch.snapshot()
    assert found.unreadable == 4
    assert found.figures is not None
    assert found.figures.rankings == 1


async def test_a_generation_that_the_watch_does_not_know_yet_is_asked_for_at_once() -> None:
    bench = Bench()
    await bench.activate(1, None)
    await bench.ranked(1)
    await bench.activate(2, 1)
    bench.time -= 2
    await bench.ranked(2)
    figures = bench.watch.snapshot().figures
    assert figures is not None
    assert (figures.generation, figures.rankings) == (2, 1)


async def test_a_profile_that_cannot_be_read_costs_drift_alone(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.activate(1, None, {"attributes": 1})
    await bench.ranked(1, 100)
    figures = bench.watch.snapshot().figures
    assert figures is not None
    assert (figures.rankings, figures.attributes, figures.lengths) == (100, {}, None)
    assert "its profile cannot be read" in caplog.text


async def test_an_outage_counts_nothing_twice() -> None:
    bench = Bench()
    await bench.activate(1, None)
    bench.generations.read_outage = AWAY
    with pytest.raises(Unavailable):
        await bench.ranked(1)
    bench.generations.read_outage = None
    await bench.ranked(1)
    await bench.ranked(1)
    assert bench.generations.reads == 2, "the pointer is not read within a second"
    figures = bench.watch.snapshot().figures
    assert figures is not None
    assert figures.rankings == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        pytest.param(NOT_FINITE, "failures 100.0%; not finite 200", id="not finite"),
        pytest.param(REPAIRED, "coverage 0.0% of 200", id="coverage"),
        pytest.param({"served_by": Source.FALLBACK, "fallback": Fallback.MEAN_BEHAVIOUR}, "failures", id="failures"),
    ],
)
async def test_a_generation_that_goes_wrong_is_taken_back_once(
    wrong: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    await bench.moved()
    await bench.ranked(2, 199, **wrong)
    assert await bench.active() == 2
    await bench.ranked(2, 1, **wrong)
    assert await bench.active() == 1
    (move, *_) = await bench.generations.moves()
    assert (move.number, move.came_from) == (1, 2)
    assert move.reason.startswith(f"rolled back by the watch: {told}")
    assert "generation 2 was rolled back to 1" in caplog.text
    found = bench.watch.snapshot()
    assert (found.rollbacks, found.last_rollback) == (1, move.reason)

    bench.time += 2
    await bench.ranked(1, 300, **wrong)
    assert await bench.active() == 1, "a move back is not undone"
    assert len(await bench.generations.moves()) == 3


@pytest.mark.parametrize(
    ("before", "after", "wait"),
    [
        pytest.param({}, {}, 0, id="all is well"),
        pytest.param(NOT_FINITE, NOT_FINITE, 0, id="it was so before"),
        pytest.param(REPAIRED, REPAIRED, 0, id="coverage was no better before"),
        pytest.param({}, NOT_FINITE, 900, id="the guard is over"),
    ],
)
async def test_a_generation_stays(before: dict[str, Any], after: dict[str, Any], wait: float) -> None:
    bench = Bench()
    await bench.moved(**before)
    bench.time += wait
    await bench.ranked(2, 400, **after)
    assert await bench.active() == 2


POPULARITY: dict[str, Any] = NOT_FINITE | {"cause": Cause.RANKING_AWAY}


@pytest.mark.parametrize("wrong", ["nan", "shape", "away"])
async def test_a_generation_that_fails_what_the_previous_one_answers_is_taken_back(
    wrong: Literal["nan", "shape", "away"],
) -> None:
    bench = Bench()
    await bench.moved(wrong=wrong)
    await bench.ranked(2, 188)
    await bench.ranked(2, 12, **POPULARITY)
    assert await bench.active() == 1
    (move, *_) = await bench.generations.moves()
    assert "failures 6.0%; replayed, generation 1 answers 12 that it fails; of 200 rankings" in move.reason


async def test_an_outage_of_triton_is_no_generations_fault(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = Bench()
    await bench.moved(wrong=None)
    await bench.ranked(2, 140)
    bench.towers.outage = AWAY
    await bench.ranked(2, 60, **POPULARITY)
    assert await bench.active() == 2, "nobody answers"
    assert "generation 2 is not to blame: failures 30.0%; replayed, 1 is no better" in caplog.text
    bench.time += 1
    bench.towers.outage = None
    await bench.ranked(2, 10)
    assert await bench.active() == 2, "both answer again"
    bench.time += 1
    bench.towers.wrong = {2: "nan"}
    await bench.ranked(2, 10)
    assert await bench.active() == 1


@pytest.mark.parametrize("refused", [None, 20], ids=["answered by now", "failed by both"])
async def test_a_watch_that_starts_again_does_not_blame_a_generation_for_what_was_there_before(
    refused: int | None,
) -> None:
    bench = Bench()
    await bench.moved(wrong=None)
    bench.towers.refused = refused
    bench.restart()
    await bench.ranked(2, 188)
    await bench.ranked(2, 12, **POPULARITY)
    assert await bench.active() == 2


async def test_one_answer_that_is_not_finite_is_not_enough() -> None:
    bench = Bench()
    await bench.moved()
    await bench.ranked(2, 1000)
    await bench.ranked(2, 4, **NOT_FINITE)
    assert await bench.active() == 2


@pytest.mark.parametrize("after", [NOT_FINITE, REPAIRED], ids=["not finite", "coverage"])
async def test_a_previous_generation_that_does_not_answer_does_not_take_over(after: dict[str, Any]) -> None:
    bench = Bench()
    await bench.moved()
    bench.towers.wrong[1] = "away"
    await bench.ranked(2, 300, **after)
    assert await bench.active() == 2
    bench.time += 1
    del bench.towers.wrong[1]
    await bench.ranked(2, **after)
    assert await bench.active() == 1


async def test_coverage_is_not_asked_of_a_generation_that_nobody_filled() -> None:
    bench = Bench()
    await bench.moved(wrong=None, filled=False)
    await bench.ranked(2, 300, **REPAIRED)
    assert await bench.active() == 2


async def test_both_generations_are_asked_what_was_asked_before() -> None:
    bench = Bench()
    await bench.moved()
    behaviour: dict[str, Any] = {
        "behaviour_items": ("x",),
        "behaviour_actions": ("view",),
        "behaviour_times": (7,),
        "context": {"hour": 3},
    }
    await bench.ranked(2, 180)
    await bench.ranked(2, 10, **behaviour, **NOT_FINITE)
    await bench.ranked(2, 10, attributes=None, **NOT_FINITE)
    assert await bench.active() == 1
    by_generation = {number: [asked for asked, each in bench.towers.asked if each == number] for number in (1, 2)}
    assert len(by_generation[1]) == len(by_generation[2]) == 16
    assert [repr(each) for each in by_generation[1]] == [repr(each) for each in by_generation[2]]
    known, unknown = by_generation[1][0], by_generation[1][-1]
    assert (known.attributes, known.context, known.items) == ({"city": "north", "age": 20}, {"hour": 3}, ("a", "b"))
    assert known.behaviour == Behaviour(("x",), ("view",), (7,))
    assert known.virtual.tolist() == np.full(SHAPE, 20.0).tolist()
    assert (unknown.attributes, unknown.virtual.tolist()) == ({}, np.zeros(SHAPE).tolist()), "the mean"


async def test_a_previous_generation_that_was_forgotten_is_not_gone_back_to(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.moved()
    del bench.generations._records[1]
    await bench.ranked(2, 300, **NOT_FINITE)
    assert await bench.active() == 2
    assert "cannot be rolled back: generation: is not recorded any more" in caplog.text


async def test_without_a_previous_generation_nothing_is_done() -> None:
    bench = Bench()
    await bench.activate(1, None)
    await bench.ranked(1, 400, **NOT_FINITE)
    assert await bench.active() == 1


async def test_what_the_old_generation_served_is_not_the_new_ones() -> None:
    bench = Bench()
    await bench.moved()
    early = datetime.fromtimestamp(bench.time - 10, UTC)
    await bench.ranked(1, 300, **REPAIRED)
    await bench.ranked(2, 300, at=early, attributes=None, **NOT_FINITE)
    assert await bench.active() == 2
    figures = bench.watch.snapshot().figures
    assert figures is not None
    assert figures.rankings == 0
    await bench.ranked(2, 300, **REPAIRED)
    assert await bench.active() == 1


async def test_a_watch_that_starts_after_the_move_judges_failures_alone() -> None:
    bench = Bench()
    await bench.moved(before=0)
    await bench.ranked(2, 300, **REPAIRED)
    assert await bench.active() == 2
    await bench.ranked(2, 300, **NOT_FINITE)
    assert await bench.active() == 1


async def test_a_rollback_that_could_not_be_made_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.moved()
    bench.generations.move_outage = AWAY
    await bench.ranked(2, 200, **NOT_FINITE)
    assert "cannot be rolled back yet" in caplog.text
    bench.generations.move_outage = None
    await bench.ranked(2)
    assert await bench.active() == 2, "it is judged once a second"
    bench.time += 1
    await bench.ranked(2)
    assert await bench.active() == 1
    figures = bench.watch.snapshot().figures
    assert figures is not None
    assert figures.rankings == 202


async def test_a_rollback_that_is_refused_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.moved()
    bench.generations.move_outage = InvalidInput("generation", 1, "was retired")
    await bench.ranked(2, 200, **NOT_FINITE)
    assert "cannot be rolled back: generation: was retired" in caplog.text
    caplog.clear()
    bench.generations.move_outage = None
    await bench.ranked(2, 10)
    assert await bench.active() == 2
    assert not caplog.text


async def test_somebody_who_moved_the_pointer_first_wins() -> None:
    bench = Bench()
    await bench.moved()
    await bench.ranked(2, 199, **NOT_FINITE)
    await bench.generations.record(generation(3), {})
    assert await bench.generations.activate(3, 2, "by hand")
    await bench.ranked(2, 10, **NOT_FINITE)
    assert await bench.active() == 3
    assert bench.watch.snapshot().rollbacks == 0


async def test_a_pointer_that_moves_between_the_two_reads_is_read_again() -> None:
    bench = Bench()
    await bench.moved()

    async def a_newer_move(_: int = 20) -> Sequence[Move]:
        return [Move(3, 2, "2026-01-01T00:00:00+00:00", "")]

    known, bench.generations.moves = bench.generations.moves, a_newer_move  # type: ignore[method-assign,assignment]
    await bench.ranked(2)
    assert bench.watch.snapshot().active == 1
    bench.generations.moves = known  # type: ignore[method-assign]
    await bench.ranked(2)
    assert bench.watch.snapshot().active == 2


async def test_gauges_are_those_of_the_snapshot() -> None:
    registry, bench = CollectorRegistry(), Bench()
    registry.register(WatchGauges(bench.watch.snapshot))
    value = registry.get_sample_value
    assert value("foretaste_watch_rollbacks_total") == 0
    assert value("foretaste_watch_rankings") is None
    await bench.moved()
    await bench.ranked(2, 150)
    assert value("foretaste_watch_generation") == 2
    assert value("foretaste_watch_rankings") == 150
    assert value("foretaste_watch_coverage") == 1
    assert value("foretaste_watch_users_share", {"group": "cold"}) == 1
    assert value("foretaste_watch_predicted", {"group": "cold"}) is None
    assert value("foretaste_watch_attribute_psi", {"attribute": "city"}) == pytest.approx(
        bench.watch.snapshot().figures.attributes["city"]
    )
    assert value("foretaste_watch_norm", {"of": "behaviour_at_training"}) == 1.5
    await bench.ranked(2, 100, **NOT_FINITE)
    assert value("foretaste_watch_rollbacks_total") == 1
    assert value("foretaste_watch_failure_share") == pytest.approx(0.4)


async def test_a_snapshot_is_json() -> None:
    bench = Bench()
    await bench.moved()
    await bench.ranked(2)
    found = json.loads(bench.watch.snapshot().model_dump_json())
    assert found["figures"]["groups"]["cold"]["share"] == 1
    assert (found["active"], found["previous"]) == (2, 1)


def test_the_ways_and_the_group_have_the_deployments_prefix() -> None:
    config = WatchConfig(topics=TopicNames("shop-"))
    ways = watch_pipelines(Bench().watch, World().metrics, config)
    assert set(ways) == {"shop-user-ranked", "shop-user-behaved", "shop-user-erased"}
    assert config.group == "shop-foretaste-watch"


async def test_of_an_erased_user_nothing_is_kept_but_sums() -> None:
    bench = Bench()
    await bench.activate(1, None)
    await bench.ranked(1, 3)
    await bench.ranked(1, 2, **NOT_FINITE)
    window = bench.watch._window
    assert window is not None
    users = {each.user_id for each in window.failed}
    assert len(users) == 2
    assert "u1" in window.newest
    figures = bench.watch.snapshot().figures
    erased = [message({"user_id": each}, key=each.encode(), topic="user-erased") for each in (*users, "u1")]
    await bench.watch.erasures([*erased, message(b"{", topic="user-erased")])
    assert not window.failed
    assert "u1" not in window.newest
    assert bench.watch.snapshot().figures == figures
