"""The way of a ranking request: what serves whom, and what happens when a part is away."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from foretaste.kernel.errors import BadTowerOutput, ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.events import UserRanked
from foretaste.kernel.ports import Generations
from foretaste.kernel.ranking import Cause, Fallback, RankingInput, Source
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser
from foretaste.kernel.values import FloatArray
from serving.rankings.ranking import RankingLimits
from serving.requests import RankRequest, RankResponse
from tests.serving_parts import AT, FakeTowers, KnownGenerations, Parts, generation

ITEMS = ["i10", "i90", "i50"]


@pytest.fixture
async def parts() -> Parts:
    made = Parts()
    await made.start(popularity={"i50": 0.5, "i10": 0.25})
    return made


async def rank(parts: Parts, user_id: str = "u1", items: list[str] | None = None) -> RankResponse:
    request = RankRequest(user_id=user_id, items=items or ITEMS, context={"hour": 8})
    (response,) = await parts.ranking.rank([request])
    return response


async def moved_on(parts: Parts, number: int) -> None:
    """The service goes over to a generation that is active: one look begins to prepare it, the next one finds it."""
    assert (await parts.active.get()).number != number
    await asyncio.sleep(0)
    assert (await parts.active.get()).number == number


def order(response: RankResponse) -> list[str]:
    return [item["item_id"] for item in response.ranked]


def given(parts: Parts) -> tuple[RankingInput, int]:
    """What the ranking tower was last given, and of which generation."""
    return parts.towers.scored[-1]


async def test_a_cold_user_is_served_by_virtual_behaviour(parts: Parts) -> None:
    await parts.sign_up()
    response = await rank(parts)
    assert (response.served_by, response.fallback, response.reason) == (Source.VIRTUAL, None, None)
    assert (response.zero_shot_generation, response.ranking_generation, response.behaviour_seen) == (1, 1, 0)
    assert order(response) == ["i90", "i50", "i10"]
    assert [item["score"] for item in response.ranked] == pytest.approx([0.9, 0.5, 0.1])
    tower_input, number = given(parts)
    assert number == 1
    assert tower_input.attributes == {"age": 25}
    assert tower_input.context == {"hour": 8}
    assert (tower_input.virtual == 7.0).all()
    assert parts.store.reads == 1
    assert parts.towers.made == []


async def test_a_warming_user_is_served_by_both(parts: Parts) -> None:
    await parts.sign_up()
    await parts.behave("a", "b")
    response = await rank(parts)
    assert (response.served_by, response.zero_shot_generation, response.behaviour_seen) == (Source.BLENDED, 1, 2)
    tower_input, _ = given(parts)
    assert list(tower_input.behaviour.items) == ["a", "b"]
    assert (tower_input.virtual == 7.0).all()


async def test_a_user_who_only_answered_questions_is_cold_and_the_tower_is_told_the_answers(parts: Parts) -> None:
    await parts.sign_up()
    answers = Behaviour(["a", "b", "c"], ["answered_yes", "answered_no", "answered_yes"], [AT] * 3)
    await parts.store.write_behaviour([BehavedUser("u1", answers)])
    response = await rank(parts)
    assert (response.served_by, response.zero_shot_generation, response.behaviour_seen) == (Source.VIRTUAL, 1, 0)
    tower_input, _ = given(parts)
    assert list(tower_input.behaviour.actions) == list(answers.actions)
    (noted,) = parts.noted.served
    assert noted.event().behaviour_items == (), "training learns of acts alone"


@pytest.mark.parametrize("virtual_of", [None, 1])
async def test_a_warm_user_is_served_by_real_behaviour(parts: Parts, virtual_of: int | None) -> None:
    await parts.sign_up(virtual_of=virtual_of)
    await parts.behave("a", "b", "c")
    response = await rank(parts)
    assert (response.served_by, response.zero_shot_generation, response.behaviour_seen) == (Source.REAL, None, 3)
    assert response.ranking_generation == 1
    assert parts.towers.made == []


async def test_a_warm_user_without_attributes_is_served_by_real_behaviour(parts: Parts) -> None:
    await parts.behave("a", "b", "c")
    assert (await rank(parts)).served_by == Source.REAL


async def test_nobody_is_warm_with_nothing_seen() -> None:
    parts = Parts()
    await parts.start(generation(1, warm_after=0))
    await parts.sign_up()
    assert (await rank(parts)).served_by == Source.VIRTUAL


async def test_equal_scores_keep_the_order_of_the_request(parts: Parts) -> None:
    await parts.sign_up()
    response = await rank(parts, items=["i105", "i7", "i205", "i5", "i107"])
    assert order(response) == ["i7", "i107", "i105", "i205", "i5"]


async def test_a_missing_virtual_behaviour_is_computed_and_kept(parts: Parts) -> None:
    await parts.sign_up(virtual_of=None)
    first, second = await rank(parts), await rank(parts)
    assert (first.served_by, first.zero_shot_generation) == (Source.READ_REPAIRED, 1)
    assert first.reason == "no virtual behaviour was stored"
    assert (second.served_by, second.reason) == (Source.VIRTUAL, None)
    assert parts.towers.made == [1]
    assert (given(parts)[0].virtual == 26.0).all()


@pytest.mark.parametrize("seen", [0, 2])
async def test_a_stale_virtual_behaviour_of_an_older_generation_is_never_read(parts: Parts, seen: int) -> None:
    await parts.sign_up()
    await parts.behave(*["a", "b"][:seen])
    await parts.move(1, 3)
    response = await rank(parts)
    assert (response.served_by, response.zero_shot_generation, response.ranking_generation) == ("read_repaired", 3, 3)
    assert response.reason == "the stored virtual behaviour was of generation 1"
    assert (given(parts)[0].virtual == 28.0).all()
    assert (await rank(parts)).served_by == (Source.BLENDED if seen else Source.VIRTUAL)


async def refreshed(parts: Parts) -> None:
    """2 is active, 1 the one before, and 3 fills the slot of 1."""
    await parts.move(1, 2)
    await parts.generations.record(generation(3), {})
    await parts.generations.fill(3)


async def stored_number(parts: Parts) -> int | None:
    """Of the odd slot."""
    (stored,) = await parts.store.read(["u1"], 1)
    return None if stored.virtual is None else stored.virtual.generation


async def test_a_repair_by_a_reader_that_is_behind_is_not_written_over_the_generation_that_fills(parts: Parts) -> None:
    await rank(parts, "another")  # pinned to 1 for half a second
    await refreshed(parts)
    await parts.sign_up(virtual_of=3)
    for _ in range(2):
        response = await rank(parts)
        assert (response.served_by, response.zero_shot_generation, response.ranking_generation) == (
            Source.READ_REPAIRED,
            1,
            1,
        )
    assert await stored_number(parts) == 3


async def test_nor_over_the_one_that_took_over_just_now(parts: Parts) -> None:
    await rank(parts, "another")
    await parts.move(1, 3)
    await parts.sign_up(virtual_of=3)
    assert (await rank(parts)).zero_shot_generation == 1
    assert await stored_number(parts) == 3


async def test_after_a_rollback_while_another_filled_the_first_request_repairs_and_the_next_reads(parts: Parts) -> None:
    await refreshed(parts)
    await parts.sign_up(virtual_of=3)
    assert await parts.generations.activate(1, 2, "rollback")
    first, second = await rank(parts), await rank(parts)
    assert (first.served_by, first.reason) == (
        Source.READ_REPAIRED,
        "the stored virtual behaviour was of generation 3",
    )
    assert (second.served_by, second.zero_shot_generation, second.ranking_generation) == (Source.VIRTUAL, 1, 1)
    assert parts.towers.made == [1]


async def test_a_repair_that_cannot_learn_what_is_in_use_writes_nothing_and_is_counted(parts: Parts) -> None:
    await rank(parts, "another")
    await parts.sign_up(virtual_of=3)
    parts.generations.away = True
    assert (await rank(parts)).served_by == Source.READ_REPAIRED
    assert await stored_number(parts) == 3
    assert parts.count("foretaste_rank_repairs_lost_total") == 1


async def test_the_same_number_of_another_shape_is_stale() -> None:
    parts = Parts()
    await parts.start(generation(1, shape=(3, 4)))
    await parts.sign_up()
    parts.towers.shapes["zero_shot"] = (1, 3, 4)
    response = await rank(parts)
    assert response.served_by == Source.READ_REPAIRED
    assert response.reason == "the stored virtual behaviour was of another shape, (3, 2)"


async def test_virtual_behaviour_older_than_the_attributes_is_stale(parts: Parts) -> None:
    await parts.sign_up()
    await parts.store.write_enriched([EnrichedUser("u1", {"age": 60}, None, AT + 1)])
    response = await rank(parts)
    assert (response.served_by, response.zero_shot_generation) == (Source.READ_REPAIRED, 1)
    assert response.reason == "the stored virtual behaviour was older than the attributes"
    assert (given(parts)[0].virtual == 61.0).all()
    assert (await rank(parts)).served_by == Source.VIRTUAL


async def test_a_repair_writes_no_attributes(parts: Parts) -> None:
    """Or a registration of the next millisecond, already on its way, would come too late."""
    await parts.sign_up(virtual_of=None)
    await rank(parts)
    await parts.store.write_enriched([EnrichedUser("u1", {"age": 60}, None, AT + 1)])
    (stored,) = await parts.store.read(["u1"], 1)
    assert (stored.attributes, stored.attributes_ms) == ({"age": 60}, AT + 1)


async def test_a_repair_yields_to_a_registration_still_on_its_way(parts: Parts) -> None:
    await parts.sign_up(virtual_of=None)
    await rank(parts)
    (repaired,) = await parts.store.read(["u1"], 1)
    assert (repaired.attributes_ms, repaired.virtual_ms) == (AT, AT + 1)


async def test_a_repair_that_cannot_be_kept_fails_no_answer_and_is_counted(parts: Parts) -> None:
    await parts.sign_up(virtual_of=None)
    parts.store.writes_away = True
    response = await rank(parts)
    assert (response.served_by, order(response)[0]) == (Source.READ_REPAIRED, "i90")
    assert parts.count("foretaste_rank_repairs_lost_total") == 1


async def test_an_unknown_user_is_served_by_the_mean_behaviour(parts: Parts) -> None:
    response = await rank(parts, "nobody")
    assert (response.served_by, response.fallback) == (Source.FALLBACK, Fallback.MEAN_BEHAVIOUR)
    assert response.reason == "the attributes of this user are not known"
    assert (response.zero_shot_generation, response.ranking_generation) == (None, 1)
    assert order(response) == ["i90", "i50", "i10"]
    tower_input, _ = given(parts)
    assert (tower_input.virtual == -1.0).all()
    assert tower_input.attributes == {}


async def test_without_the_store_everyone_is_served_by_the_mean_behaviour(parts: Parts) -> None:
    await parts.sign_up()
    parts.store.reads_away = True
    response = await rank(parts)
    assert (response.served_by, response.fallback) == (Source.FALLBACK, Fallback.MEAN_BEHAVIOUR)
    assert response.reason == "redis is not available"


@pytest.mark.parametrize("trouble", ["away", "not_finite"])
async def test_without_the_zero_shot_tower_the_mean_behaviour_serves(parts: Parts, trouble: str) -> None:
    await parts.sign_up(virtual_of=None)
    getattr(parts.towers, trouble).add("zero_shot")
    response = await rank(parts)
    assert (response.served_by, response.fallback) == (Source.FALLBACK, Fallback.MEAN_BEHAVIOUR)
    assert response.reason is not None
    assert response.reason.startswith("no virtual behaviour was stored; ")
    assert (given(parts)[0].virtual == -1.0).all()
    (stored,) = await parts.store.read(["u1"], 1)
    assert stored.virtual is None, "what is not finite is never stored"


@pytest.mark.parametrize("trouble", ["away", "not_finite"])
async def test_without_the_ranking_tower_popularity_serves(parts: Parts, trouble: str) -> None:
    await parts.sign_up()
    getattr(parts.towers, trouble).add("ranking")
    response = await rank(parts)
    assert (response.served_by, response.fallback) == (Source.FALLBACK, Fallback.POPULARITY)
    assert (response.zero_shot_generation, response.ranking_generation) == (None, None)
    assert order(response) == ["i50", "i10", "i90"]
    assert [item["score"] for item in response.ranked] == [0.5, 0.25, 0.0]


async def test_with_all_parts_away_the_popularity_that_is_kept_serves(parts: Parts) -> None:
    await rank(parts)
    await parts.ranking.popularity.bring(1)
    parts.towers.away = {"zero_shot", "ranking"}
    parts.generations.away = parts.store.reads_away = True
    parts.now += 10
    response = await rank(parts)
    assert (response.fallback, response.cause) == (Fallback.POPULARITY, Cause.RANKING_AWAY)
    assert [(item["item_id"], item["score"]) for item in response.ranked] == [("i50", 0.5), ("i10", 0.25), ("i90", 0.0)]


async def test_without_anything_to_go_by_it_is_unavailable(parts: Parts) -> None:
    await rank(parts)
    parts.towers.away = {"zero_shot", "ranking"}
    parts.generations.away = True
    with pytest.raises(Unavailable, match="redis"):
        await rank(parts)


async def test_before_the_first_generation_it_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="generation is not available: none is active yet"):
        await rank(Parts())


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 3, 4), (2, 3, 2), (0, 0, 0), (3, 2)])
async def test_a_zero_shot_answer_of_another_shape_is_neither_read_nor_kept(
    parts: Parts, shape: tuple[int, ...]
) -> None:
    await parts.sign_up(virtual_of=None)
    parts.towers.shapes["zero_shot"] = shape
    response = await rank(parts)
    assert (response.served_by, response.fallback) == (Source.FALLBACK, Fallback.MEAN_BEHAVIOUR)
    assert response.reason == "no virtual behaviour was stored; the zero-shot tower answered with the wrong shape"
    (stored,) = await parts.store.read(["u1"], 1)
    assert stored.virtual is None


WRONG_SHAPE = BadTowerOutput("zero_shot_tower 1: (1, 2) for 1 users")
REFUSED = InvalidInput(
    "request", "virtual_behaviour: expected the shape (3, 4), got (3, 2)", "was refused by the tower"
)


@pytest.mark.parametrize(
    ("error", "said"), [(WRONG_SHAPE, "answered with the wrong shape"), (REFUSED, "refused what it was asked")]
)
async def test_a_zero_shot_tower_that_is_broken_is_as_good_as_away(
    parts: Parts, error: ForetasteError, said: str
) -> None:
    await parts.sign_up(virtual_of=None)
    parts.towers.refusals["zero_shot"] = error
    response = await rank(parts)
    assert response.fallback == Fallback.MEAN_BEHAVIOUR
    assert response.reason == f"no virtual behaviour was stored; the zero-shot tower {said}"


@pytest.mark.parametrize(
    ("error", "said"), [(WRONG_SHAPE, "answered with the wrong shape"), (REFUSED, "refused what it was asked")]
)
async def test_a_ranking_tower_that_is_broken_is_as_good_as_away(
    parts: Parts, error: ForetasteError, said: str
) -> None:
    await parts.sign_up()
    parts.towers.refusals["ranking"] = error
    response = await rank(parts)
    assert (response.fallback, order(response)) == (Fallback.POPULARITY, ["i50", "i10", "i90"])
    assert response.reason == f"the ranking tower {said}"


@pytest.mark.parametrize("shape", [(2,), (4,), (1, 3), ()])
async def test_scores_of_another_shape_are_not_used(parts: Parts, shape: tuple[int, ...]) -> None:
    await parts.sign_up()
    parts.towers.shapes["ranking"] = shape
    response = await rank(parts)
    assert response.fallback == Fallback.POPULARITY
    assert response.reason == "the ranking tower answered with the wrong shape"


async def test_no_request_mixes_generations_while_the_pointer_moves(parts: Parts) -> None:
    await parts.sign_up()
    await parts.active.get()
    for now, old, new in [(1.0, 1, 2), (2.0, 2, 3), (3.0, 3, 4)]:
        parts.now = now
        await parts.move(old, new)
        await moved_on(parts, new)
        response = await rank(parts)
        tower_input, number = given(parts)
        assert response.zero_shot_generation == response.ranking_generation == number == new
        assert (tower_input.virtual == 25.0 + new).all()


async def test_a_pointer_that_moves_within_a_request_does_not_change_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(seconds=60.0)
    await parts.start()
    await parts.sign_up(virtual_of=None)
    make = parts.towers.virtual_behaviour

    async def moved_meanwhile(attributes: list[dict[str, int]], number: int) -> object:
        await parts.move(1, 2)
        parts.now += 10
        return await make(attributes, number)

    monkeypatch.setattr(parts.towers, "virtual_behaviour", moved_meanwhile)
    response = await rank(parts)
    assert (response.zero_shot_generation, response.ranking_generation) == (1, 1)


async def test_the_active_generation_is_asked_for_four_times_a_second_at_most(parts: Parts) -> None:
    for now in [0.0, 0.1, 0.24]:
        parts.now = now
        await rank(parts)
    assert parts.generations.asked == 1
    parts.now = 0.5
    await rank(parts)
    assert parts.generations.asked == 2


async def test_the_generation_last_seen_serves_while_redis_is_away(parts: Parts) -> None:
    await rank(parts)
    parts.now, parts.generations.away, parts.store.reads_away = 10.0, True, True
    response = await rank(parts)
    assert (response.fallback, response.ranking_generation) == (Fallback.MEAN_BEHAVIOUR, 1)


async def test_one_request_asks_for_the_pointer_and_the_others_go_on(parts: Parts) -> None:
    await rank(parts)
    held = asyncio.Event()
    asked = 0

    class Slow(KnownGenerations):
        async def active(self) -> None:
            nonlocal asked
            asked += 1
            await held.wait()

    slow: Generations = Slow()
    parts.active._generations = slow
    parts.now = 1.0
    asking = asyncio.create_task(parts.active.get())
    await asyncio.sleep(0)
    assert (await parts.active.get()).number == 1
    held.set()
    assert (await asking).number == 1
    assert asked == 1


async def test_answers_are_counted_by_what_served_them(parts: Parts) -> None:
    await parts.sign_up()
    await rank(parts)
    await rank(parts)
    await rank(parts, "nobody")
    assert parts.count("foretaste_rank_answers_total", served_by="virtual", fallback="none") == 2
    assert parts.count("foretaste_rank_answers_total", served_by="fallback", fallback="mean_behaviour") == 1
    assert parts.count("foretaste_rank_seconds_count", served_by="virtual") == 2


@pytest.mark.parametrize(
    ("items", "field", "value", "problem"),
    [
        ([], "items", [], "at least one candidate"),
        (["a", "b", "c", "b", "a"], "items.3", "b", "each candidate once, it is at 1 too"),
        ([f"i{n}" for n in range(10_000)], "items", 10_000, "at most 1000 candidates"),
    ],
)
async def test_wrong_candidates_are_refused_before_anything_is_asked(
    parts: Parts, items: list[str], field: str, value: object, problem: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        parts.ranking.check(RankRequest(user_id="u1", items=items))
    assert (caught.value.field, caught.value.value) == (field, value)
    assert problem in caught.value.problem
    assert parts.store.reads == parts.generations.asked == 0


async def test_as_many_candidates_as_allowed_are_ranked(parts: Parts) -> None:
    await parts.sign_up()
    assert len((await rank(parts, items=[f"i{n}" for n in range(1000)])).ranked) == 1000


async def test_each_answer_has_a_number_of_its_own_and_is_noted_as_it_was_served(parts: Parts) -> None:
    await parts.sign_up()
    await parts.behave("a", "b")
    parts.now = 0.25
    first, second = await rank(parts), await rank(parts)
    assert [first.ranking_id, second.ranking_id] == ["r1", "r2"]
    event, _ = (each.event() for each in parts.noted.served)
    assert event == UserRanked(
        ranking_id="r1",
        user_id="u1",
        at=datetime.fromtimestamp(AT / 1000 + 0.25, UTC),
        items=("i90", "i50"),
        scores=tuple(item["score"] for item in first.ranked[:2]),
        context={"hour": 8},
        attributes={"age": 25},
        behaviour_items=("a", "b"),
        behaviour_actions=("liked", "liked"),
        behaviour_times=(AT, AT),
        served_by=Source.BLENDED,
        zero_shot_generation=1,
        ranking_generation=1,
        warm_after=3,
        registered_at=datetime.fromtimestamp(AT / 1000, UTC),
    )


async def test_the_features_noted_are_those_that_the_tower_was_given(parts: Parts) -> None:
    """Whatever is stored a moment later."""
    await parts.sign_up()
    await rank(parts)
    tower_input, _ = given(parts)
    await parts.behave("later")
    event = parts.noted.served[0].event()
    assert event.behaviour_items == tuple(tower_input.behaviour.items) == ()
    assert event.attributes == tower_input.attributes


@pytest.mark.parametrize(("shown", "noted"), [(None, 2), (1, 1), (3, 3), (50, 3), (0, None)])
async def test_as_many_are_noted_as_are_shown(parts: Parts, shown: int | None, noted: int | None) -> None:
    (response,) = await parts.ranking.rank([RankRequest(user_id="u1", items=ITEMS, shown=shown)])
    assert response.ranking_id == "r1"
    assert [len(each.event().items) for each in parts.noted.served] == ([] if noted is None else [noted])


async def test_answers_by_popularity_are_noted_without_a_generation(parts: Parts) -> None:
    parts.towers.away = {"ranking"}
    response = await rank(parts, "nobody")
    event = parts.noted.served[0].event()
    assert (event.served_by, event.fallback, event.reason) == ("fallback", "popularity", response.reason)
    assert (event.ranking_generation, event.zero_shot_generation, event.warm_after) == (None, None, None)
    assert (event.items, event.attributes) == (("i50", "i10"), None)


async def test_what_could_not_be_answered_is_not_noted(parts: Parts) -> None:
    parts.towers.away = {"ranking"}
    parts.generations.away = True
    with pytest.raises(Unavailable):
        await rank(parts)
    assert parts.noted.served == []


@pytest.mark.parametrize(
    ("tower", "trouble", "cause"),
    [
        ("zero_shot", "away", Cause.ZERO_SHOT_AWAY),
        ("zero_shot", "not_finite", Cause.ZERO_SHOT_NOT_FINITE),
        ("zero_shot", WRONG_SHAPE, Cause.ZERO_SHOT_WRONG_SHAPE),
        ("zero_shot", REFUSED, Cause.ZERO_SHOT_REFUSED),
        ("ranking", "away", Cause.RANKING_AWAY),
        ("ranking", "not_finite", Cause.RANKING_NOT_FINITE),
        ("ranking", WRONG_SHAPE, Cause.RANKING_WRONG_SHAPE),
        ("ranking", REFUSED, Cause.RANKING_REFUSED),
    ],
)
async def test_the_cause_of_a_fallback_is_typed_and_noted(
    parts: Parts, tower: str, trouble: str | ForetasteError, cause: Cause
) -> None:
    await parts.sign_up(virtual_of=None)
    if isinstance(trouble, str):
        getattr(parts.towers, trouble).add(tower)
    else:
        parts.towers.refusals[tower] = trouble
    response = await rank(parts)
    assert response.cause is cause
    assert response.reason
    assert parts.noted.served[-1].event().cause is cause
    assert cause.not_finite is (trouble == "not_finite")


async def test_the_cause_of_a_repair_is_what_was_stored(parts: Parts) -> None:
    assert (await rank(parts, "nobody")).cause is Cause.ATTRIBUTES_UNKNOWN
    await parts.sign_up(virtual_of=None)
    assert (await rank(parts)).cause is Cause.VIRTUAL_MISSING
    assert (await rank(parts)).cause is None, "by stored virtual behaviour"
    await parts.store.write_enriched([EnrichedUser("u1", {"age": 60}, None, AT + 2)])
    assert (await rank(parts)).cause is Cause.VIRTUAL_OUTDATED
    await parts.move(1, 3)
    parts.now += 1
    await moved_on(parts, 3)
    assert (await rank(parts)).cause is Cause.VIRTUAL_OF_ANOTHER_GENERATION
    parts.store.reads_away = True
    assert (await rank(parts)).cause is Cause.STORE_AWAY


async def test_requests_that_are_ranked_together_share_each_step(parts: Parts) -> None:
    await parts.sign_up("cold")
    await parts.sign_up("without", age=30, virtual_of=None)
    await parts.sign_up("warm")
    await parts.behave("a", "b", "c", user_id="warm")
    reads = parts.store.reads
    users, items = ["cold", "without", "warm", "nobody", "cold"], [ITEMS, ["i1"], ITEMS[:2], ITEMS, ["i7", "i8"]]
    requests = [RankRequest(user_id=user, items=own) for user, own in zip(users, items, strict=True)]
    together = await parts.ranking.rank(requests)
    assert (parts.store.reads - reads, len(parts.towers.made), parts.towers.calls) == (1, 1, [5])
    served_by = [response.served_by.value for response in together]
    assert served_by == [
        "virtual",
        "read_repaired",
        "real",
        "fallback",
        "virtual",
    ]
    for response, request in zip(together, requests, strict=True):
        (alone,) = await parts.ranking.rank([request])
        assert (response.user_id, response.ranked) == (request.user_id, alone.ranked)
    assert len({response.ranking_id for response in together}) == 5


async def test_of_requests_together_only_the_one_that_is_not_finite_goes_by_popularity(parts: Parts) -> None:
    class OneOdd(FakeTowers):
        async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
            first, *others = await super().score(requests, generation)
            return [np.full_like(first, np.nan), *others]

    parts.ranking._towers = OneOdd()
    first, second = await parts.ranking.rank([RankRequest(user_id=user, items=ITEMS) for user in ("a", "b")])
    assert (first.fallback, first.cause) == (Fallback.POPULARITY, Cause.RANKING_NOT_FINITE)
    assert order(first) == ["i50", "i10", "i90"]
    assert second.ranking_generation == 1


class Hanging:
    """A part whose calls never end, counted by their name."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def read(self, *_: object) -> None:
        await self._hang("read")

    async def score(self, *_: object) -> None:
        await self._hang("score")

    async def _hang(self, name: str) -> None:
        self.calls[name] += 1
        await asyncio.Event().wait()


async def test_a_store_that_hangs_costs_its_share_of_the_time(parts: Parts) -> None:
    parts.ranking._limits = RankingLimits(seconds=0.05)
    parts.ranking._store = Hanging()  # type: ignore[assignment]
    async with asyncio.timeout(2):
        response = await rank(parts)
    assert (response.fallback, response.cause) == (Fallback.MEAN_BEHAVIOUR, Cause.STORE_AWAY)


async def test_parts_that_hang_are_left_alone_for_a_moment(parts: Parts) -> None:
    """Two answers wait for each of them; those after it wait for none, until one a pause tries again."""
    await rank(parts)
    await parts.ranking.popularity.bring(1)
    parts.ranking._limits = RankingLimits(seconds=0.04)
    hanging = Hanging()
    parts.ranking._store = hanging  # type: ignore[assignment]
    parts.ranking._towers = hanging  # type: ignore[assignment]
    for _ in range(10):
        assert (await rank(parts)).fallback is Fallback.POPULARITY
    assert hanging.calls == {"read": 2, "score": 2}
    parts.now += 0.5
    answers = await asyncio.gather(*(rank(parts) for _ in range(10)))
    assert {answer.fallback for answer in answers} == {Fallback.POPULARITY}
    assert hanging.calls == {"read": 3, "score": 3}


async def test_a_part_that_answers_again_is_asked_again(parts: Parts) -> None:
    await parts.sign_up()
    parts.ranking._limits = RankingLimits(seconds=0.04)
    store, parts.ranking._store = parts.ranking._store, Hanging()  # type: ignore[assignment]
    for _ in range(3):
        assert (await rank(parts)).cause is Cause.STORE_AWAY
    parts.ranking._store = store
    assert (await rank(parts)).cause is Cause.STORE_AWAY
    parts.now += 0.5
    for _ in range(2):
        assert (await rank(parts)).served_by is Source.VIRTUAL


async def test_a_pointer_that_hangs_holds_no_answer_up(parts: Parts) -> None:
    await parts.sign_up()
    await rank(parts)
    parts.generations.active = Hanging().read  # type: ignore[method-assign]
    parts.now += 10
    async with asyncio.timeout(1):
        assert (await rank(parts)).served_by is Source.VIRTUAL


async def test_without_any_generation_a_pointer_that_hangs_is_given_up_in_time() -> None:
    parts = Parts(seconds=0.02)
    parts.generations.active = Hanging().read  # type: ignore[method-assign]
    async with asyncio.timeout(2):
        with pytest.raises(Unavailable, match=r"redis is not available: no answer within 0\.020 s"):
            await rank(parts)


async def test_what_waited_for_its_group_for_all_of_its_time_is_answered_at_once(parts: Parts) -> None:
    await parts.sign_up()
    await parts.ranking.popularity.bring(1)
    request = RankRequest(user_id="u1", items=["i1", "i2"])
    parts.now += 1
    (late,) = await parts.ranking.rank([request], parts.now - 0.25)
    assert (late.fallback, parts.towers.calls) == (Fallback.POPULARITY, [])
    (in_time,) = await parts.ranking.rank([request], parts.now - 0.05)
    assert (in_time.served_by, parts.towers.calls) == (Source.VIRTUAL, [1])


async def test_a_vocabulary_that_is_not_here_marks_no_item_and_fails_no_answer(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> list[str]:
        raise Unavailable("triton", "connection refused")

    monkeypatch.setattr(parts.towers, "unknown", away)
    await parts.sign_up()
    response = await rank(parts, items=["i10", "new"])
    assert (response.served_by, [item.get("unknown") for item in response.ranked]) == (Source.VIRTUAL, [None, None])


async def test_a_tower_that_hangs_is_as_good_as_away(parts: Parts) -> None:
    parts.ranking._limits = RankingLimits(seconds=0.05)
    parts.ranking._towers = Hanging()  # type: ignore[assignment]
    async with asyncio.timeout(2):
        response = await rank(parts)
    assert (response.fallback, response.cause) == (Fallback.POPULARITY, Cause.RANKING_AWAY)


async def test_the_generation_before_serves_on_until_the_next_ones_towers_can_be_asked(parts: Parts) -> None:
    await parts.active.get()
    await parts.move(1, 2)
    parts.towers.away = {"prepare"}
    for _ in range(3):
        parts.now += 1
        assert (await parts.active.get()).number == 1
        await asyncio.sleep(0)
    parts.towers.away = set()
    parts.now += 1
    await parts.active.get()
    parts.now += 1
    await moved_on(parts, 2)
    assert parts.towers.prepared == [2]


async def test_items_that_the_generation_does_not_know_are_marked(parts: Parts) -> None:
    await parts.sign_up()
    response = await rank(parts, items=["i10", "new", "i90"])
    assert [item.get("unknown") for item in response.ranked] == [None, None, True]
    parts.towers.away = {"ranking"}
    assert "unknown" not in {key for item in (await rank(parts, items=["new"])).ranked for key in item}


async def test_the_tower_is_given_the_accounts_age_and_the_log_when_it_began(parts: Parts) -> None:
    await parts.sign_up()
    await parts.store.write_enriched([EnrichedUser("u1", {"age": 26}, None, AT + 5_000)])  # registers again
    parts.now = 90.0
    await rank(parts)
    assert given(parts)[0].age_ms == 90_000
    event = parts.noted.served[-1].event()
    assert event.registered_at == datetime.fromtimestamp(AT / 1000, UTC)


async def test_of_a_user_whom_the_store_does_not_know_the_age_is_unknown(parts: Parts) -> None:
    await rank(parts, "nobody")
    assert given(parts)[0].age_ms is None
    assert parts.noted.served[-1].event().registered_at is None
    assert parts.count("foretaste_rank_registered_ahead_total") == 0


@pytest.mark.parametrize(("ahead_s", "age_ms"), [(4.0, 0), (60.0, None)])
async def test_a_registration_ahead_of_the_clock_is_just_now_or_unknown_and_counted(
    parts: Parts, ahead_s: float, age_ms: int | None
) -> None:
    await parts.sign_up()
    parts.now = -ahead_s
    await rank(parts)
    assert given(parts)[0].age_ms == age_ms
    assert parts.count("foretaste_rank_registered_ahead_total") == (age_ms is None)
