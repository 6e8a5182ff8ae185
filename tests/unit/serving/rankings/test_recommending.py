"""Recommendations: what the index is asked, what becomes of its candidates, and what is answered without it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from foretaste.kernel.errors import BadTowerOutput, InvalidInput, Unavailable
from foretaste.kernel.ranking import Cause, Fallback, Source
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.users import BehavedUser, Behaviour
from foretaste.kernel.values import Scalar
from foretaste.testing import InMemoryRetrieval
from serving.rankings.recommending import CandidateShares, seed_of
from serving.requests import CandidateSource, RecommendRequest, RecommendResponse
from tests.serving_parts import AT, GENRES, Parts

POPULARITY = {f"i{number}": number / 1000 for number in range(40)}


@pytest.fixture
async def parts() -> Parts:
    made = Parts()
    await made.start(popularity=POPULARITY)
    await made.sign_up()
    return made


async def recommended(parts: Parts, user_id: str = "u1", **asked: Any) -> RecommendResponse:
    request = RecommendRequest.model_validate({"user_id": user_id} | asked)
    await parts.recommending.check(request)
    (response,) = await parts.recommending.recommend([request])
    return response


def items(response: RecommendResponse) -> list[str]:
    return [each["item_id"] for each in response.ranked]


async def test_the_best_of_the_candidates_come_first_and_no_more_than_k(parts: Parts) -> None:
    response = await recommended(parts, k=4)
    asked, generation = parts.retrieval.asked[0]
    assert (asked.nearest, asked.popular, asked.exploratory, generation) == (7, 2, 1, 1)
    assert response.candidates == 10
    assert response.candidates_from is CandidateSource.INDEX
    ((given, _),) = parts.towers.scored
    assert list(given.items[:9]) == [*(f"i{number}" for number in range(7)), "i39", "i38"]
    assert items(response) == sorted(given.items, key=lambda item: -int(item[1:]))[:4]
    assert (response.served_by, response.zero_shot_generation, response.ranking_generation) == (Source.VIRTUAL, 1, 1)


async def test_one_read_and_one_call_of_each_part_serve_all_requests_together(parts: Parts) -> None:
    await parts.sign_up("u2")
    requests = [RecommendRequest(user_id=user, k=count) for user, count in (("u1", 3), ("u2", 5), ("nobody", 2))]
    responses = await parts.recommending.recommend(requests)
    assert [len(each.ranked) for each in responses] == [3, 5, 2]
    assert [each.user_id for each in responses] == ["u1", "u2", "nobody"]
    assert (parts.store.reads, parts.retrieval.calls, parts.towers.calls) == (1, 1, [3])


@pytest.mark.parametrize(("user_id", "age_ms"), [("u1", 30_000), ("nobody", None)])
async def test_the_index_is_asked_as_of_the_accounts_age(parts: Parts, user_id: str, age_ms: int | None) -> None:
    parts.now = 30.0
    await recommended(parts, user_id)
    ((asked, _),), ((given, _),) = parts.retrieval.asked, parts.towers.scored
    assert (asked.age_ms, given.age_ms) == (age_ms, age_ms)


async def test_as_many_candidates_as_are_asked_for_are_found(parts: Parts) -> None:
    response = await recommended(parts, k=20)
    assert (response.candidates, len(response.ranked)) == (20, 20)


@pytest.mark.parametrize(("k", "expected"), [(1, (170, 20, 10)), (200, (170, 20, 10)), (300, (255, 30, 15))])
def test_the_shares_are_of_all_candidates(k: int, expected: tuple[int, int, int]) -> None:
    assert CandidateShares().of(k) == expected


async def test_what_was_seen_is_left_out_unless_it_is_asked_for(parts: Parts) -> None:
    await parts.behave("i0", "i39")
    assert not {"i0", "i39"} & set(items(await recommended(parts, k=20)))
    assert {"i0", "i39"} <= set(items(await recommended(parts, k=20, exclude_seen=False)))


async def test_of_items_that_a_user_answered_about_those_not_liked_are_left_out(parts: Parts) -> None:
    behaviour = Behaviour(["i0", "i39"], ["answered_yes", "answered_no"], [AT, AT])
    await parts.store.write_behaviour([BehavedUser("u1", behaviour)])
    assert {"i0", "i39"} & set(items(await recommended(parts, k=20, filter={"allow": ["i0", "i39"]}))) == {"i0"}


async def test_what_was_passed_over_may_be_recommended_again(parts: Parts) -> None:
    behaviour = Behaviour(["i0", "i39"], ["passed_over", "liked"], [AT, AT])
    await parts.store.write_behaviour([BehavedUser("u1", behaviour)])
    assert {"i0", "i39"} & set(items(await recommended(parts, k=20, filter={"allow": ["i0", "i39"]}))) == {"i0"}


async def test_filters_go_to_the_index_and_hold(parts: Parts) -> None:
    only = {"allow": ["i1", "i2", "i3", "i5"], "deny": ["i3"], "attributes": {"genre": ["odd"]}}
    assert set(items(await recommended(parts, filter=only))) == {"i1", "i5"}


async def test_values_of_an_attribute_are_alternatives(parts: Parts) -> None:
    response = await recommended(parts, k=20, filter={"attributes": {"genre": list(GENRES)}})
    assert len(response.ranked) == 20


async def test_nothing_that_may_be_recommended_is_an_empty_answer(parts: Parts) -> None:
    response = await recommended(parts, filter={"allow": ["i1"], "deny": ["i1"]})
    assert (response.ranked, response.candidates, response.fallback) == ([], 0, None)


async def test_an_attribute_that_items_lack_is_refused_by_its_name(parts: Parts) -> None:
    with pytest.raises(InvalidInput) as refused:
        await recommended(parts, filter={"attributes": {"colour": ["red"]}})
    assert (refused.value.field, refused.value.value) == ("filter.attributes.colour", ["red"])


@pytest.mark.parametrize("k", [21, 1_000_000])
async def test_a_k_above_the_limit_is_refused(parts: Parts, k: int) -> None:
    with pytest.raises(InvalidInput, match="expected at most 20") as refused:
        await recommended(parts, k=k)
    assert (refused.value.field, refused.value.value) == ("k", k)


async def test_the_draw_can_be_drawn_again_by_the_number_of_the_answer(parts: Parts) -> None:
    first, second = [await recommended(parts, k=20) for _ in range(2)]
    seeds = [asked.seed for asked, _ in parts.retrieval.asked]
    assert seeds == [seed_of(first.ranking_id), seed_of(second.ranking_id)]
    assert len(set(seeds)) == 2
    assert all(0 <= seed < 1 << 63 for seed in seeds)


async def test_the_context_reaches_the_tower(parts: Parts) -> None:
    await recommended(parts, context={"hour": 8})
    assert parts.towers.scored[0][0].context == {"hour": 8}


@pytest.mark.parametrize(
    ("asked", "shown"), [({"k": 1}, 1), ({"k": 9}, 2), ({"k": 9, "shown": 5}, 5), ({"shown": 0}, 0)]
)
async def test_what_a_user_gets_to_see_is_noted(parts: Parts, asked: Any, shown: int) -> None:
    response = await recommended(parts, **asked)
    events = [noted.event() for noted in parts.noted.served]
    assert [len(event.items) for event in events] == [shown] * bool(shown)
    assert [event.ranking_id for event in events] == [response.ranking_id] * bool(shown)
    assert all(list(event.items) == items(response)[:shown] for event in events)


async def test_without_the_index_the_popular_items_are_ranked_by_the_tower(parts: Parts) -> None:
    parts.retrieval.outage = Unavailable("triton", "connection refused at 10.0.0.8")
    await parts.behave("i39")
    response = await recommended(parts, k=3)
    assert items(response) == ["i38", "i37", "i36"]
    assert response.candidates == 10
    assert response.candidates_from is CandidateSource.POPULAR
    assert (response.cause, response.reason) == (Cause.RETRIEVAL_AWAY, "triton is not available")
    assert (response.fallback, response.ranking_generation) == (None, 1)


async def test_without_index_and_tower_the_popular_items_stay_by_popularity(parts: Parts) -> None:
    parts.retrieval.outage = Unavailable("triton", "away")
    parts.towers.away.add("ranking")
    response = await recommended(parts, k=2)
    assert items(response) == ["i39", "i38"]
    assert (response.fallback, response.cause) == (Fallback.POPULARITY, Cause.RANKING_AWAY)


async def test_filters_hold_without_the_index(parts: Parts) -> None:
    parts.retrieval.outage = Unavailable("triton", "away")
    odd = {"attributes": {"genre": ["odd"]}, "deny": ["i39"]}
    assert items(await recommended(parts, k=2, filter=odd)) == ["i37", "i35"]
    allowed = await recommended(parts, k=2, filter={"allow": ["i4", "unknown", "i8", "i7"], "deny": ["i7"]})
    assert items(allowed) == ["i8", "i4"]
    assert allowed.candidates == 2


async def test_an_attribute_that_the_next_generation_lacks_finds_nothing_without_the_index(parts: Parts) -> None:
    """It took over between the check of a request and its answer: the others that came along are answered."""
    requests = [
        RecommendRequest.model_validate({"user_id": "u1", "k": 2, "filter": {"attributes": {"colour": ["red"]}}}),
        RecommendRequest(user_id="u1", k=2),
    ]
    lacking, other = await parts.recommending.recommend(requests)
    assert (lacking.ranked, lacking.cause) == ([], Cause.RETRIEVAL_REFUSED)
    assert items(other) == ["i39", "i38"]


async def test_an_index_that_answers_for_others_is_as_good_as_away(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(*_: object) -> None:
        raise BadTowerOutput("retrieval 1: (3, 2) for 1 users")

    monkeypatch.setattr(parts.retrieval, "candidates", wrong)
    assert (await recommended(parts)).cause is Cause.RETRIEVAL_WRONG_SHAPE


async def test_an_index_that_hangs_is_left_in_time(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(parts.retrieval, "candidates", hang)
    async with asyncio.timeout(2):
        assert (await recommended(parts)).cause is Cause.RETRIEVAL_AWAY


async def test_the_popular_items_that_are_kept_need_no_redis(parts: Parts) -> None:
    parts.retrieval.outage = Unavailable("triton", "away")
    await recommended(parts)
    await parts.ranking.popularity.bring(1)
    parts.generations.away = True
    assert len((await recommended(parts, k=3)).ranked) == 3
    parts.generations.away = False
    await parts.move(1, 2)
    parts.now += 1
    await recommended(parts)  # the next one is prepared behind it
    await asyncio.sleep(0)
    parts.now += 1
    response = await recommended(parts)
    assert (response.ranked, response.ranking_generation) == ([], 2), "of the second, nothing is popular"


async def test_without_index_and_popularity_nothing_can_be_said(parts: Parts) -> None:
    parts.retrieval.outage = Unavailable("triton", "away")
    await parts.active.get()
    parts.generations.away = True
    with pytest.raises(Unavailable, match="redis"):
        await recommended(parts)


async def test_without_the_store_a_user_is_recommended_what_is_near_to_the_mean(parts: Parts) -> None:
    parts.store.reads_away = True
    response = await recommended(parts, k=3)
    assert len(response.ranked) == 3
    assert (response.fallback, response.cause) == (Fallback.MEAN_BEHAVIOUR, Cause.STORE_AWAY)


async def test_a_request_never_mixes_two_generations() -> None:
    """What is asked while the next generation takes over is answered by one of the two in all its parts."""

    class Watched(InMemoryRetrieval):
        async def candidates(self, requests: Sequence[CandidateRequest], generation: int) -> list[list[str]]:
            await asyncio.sleep(0)
            return await super().candidates(requests, generation)

        async def matching(
            self, items: Sequence[str], attributes: Mapping[str, Sequence[Scalar]], generation: int
        ) -> list[str]:
            return await super().matching(items, attributes, generation)

    parts = Parts(seconds=60.0)
    parts.recommending._retrieval = watched = Watched(parts.retrieval.items)
    await parts.start(popularity=POPULARITY)
    await parts.sign_up()
    asking = [asyncio.create_task(recommended(parts, k=2)) for _ in range(5)]
    await asyncio.sleep(0)
    await parts.move(1, 2)
    parts.now += 1
    asking += [asyncio.create_task(recommended(parts, k=2)) for _ in range(5)]
    answers = await asyncio.gather(*asking)
    assert len(answers) == 10
    asked = [generation for _, generation in watched.asked]
    assert sorted(asked) == sorted(generation for _, generation in parts.towers.scored)
    assert all(answer.ranking_generation in (1, 2) for answer in answers)
