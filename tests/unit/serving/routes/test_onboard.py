"""`POST /v1/onboard`: what is asked, what answers become, and what is refused."""

import json
from typing import Any

import httpx
import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.users import BehavedUser, Behaviour
from tests.http_parts import NAMES, HttpParts, client_of, problem
from tests.serving_parts import AT


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts()
    await made.start()
    return made


async def onboard(
    parts: HttpParts, query: str = "", headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    async with client_of(parts.service()) as client:
        return await client.post(f"/v1/onboard{query}", json={"user_id": "anna"} | body, headers=headers)


def sent(parts: HttpParts) -> list[Any]:
    """The attributes of sign-ups, and then the items and actions of behaviours."""
    signed_up = [json.loads(each.value or b"")["attributes"] for each in parts.events.of(NAMES.registered)]
    behaved = [json.loads(each.value or b"") for each in parts.events.of(NAMES.behaved)]
    return [*signed_up, *((each["item_id"], each["action"]) for each in behaved)]


async def test_a_user_is_asked_and_nothing_is_sent(parts: HttpParts) -> None:
    body = (await onboard(parts, questions=2)).json()
    assert body == {"user_id": "anna", "generation": 1, "items": ["i1", "i2"], "answered": 0, "readable": None}
    assert sent(parts) == []


async def test_a_user_signs_up_with_it(parts: HttpParts) -> None:
    body = (await onboard(parts, attributes={"age": 25}, answers={"i2": True})).json()
    assert (body["items"], body["answered"]) == (["i1", "i3"], 1)
    assert sent(parts) == [{"age": 25}, ("i2", "answered_yes")]


async def test_answers_become_behaviours_of_this_moment(parts: HttpParts) -> None:
    parts.now = 60.0
    body = (await onboard(parts, answers={"i1": True, "i3": False})).json()
    assert (body["items"], body["answered"]) == (["i2"], 2)
    assert sent(parts) == [("i1", "answered_yes"), ("i3", "answered_no")]
    times = [json.loads(each.value or b"")["at"] for each in parts.events.of(NAMES.behaved)]
    assert times == ["2026-01-01T00:01:00Z"] * 2


async def test_what_was_answered_or_acted_on_is_not_asked(parts: HttpParts) -> None:
    await parts.store.write_behaviour(
        [BehavedUser("anna", Behaviour(["i2", "i1"], ["liked", "answered_no"], [AT, AT]))]
    )
    body = (await onboard(parts)).json()
    assert (body["items"], body["answered"]) == (["i3"], 1)


async def test_what_was_passed_over_in_a_list_is_asked(parts: HttpParts) -> None:
    await parts.store.write_behaviour([BehavedUser("anna", Behaviour(["i1", "x"], ["passed_over", "liked"], [AT, AT]))])
    assert (await onboard(parts)).json()["items"] == ["i1", "i2", "i3"]


async def test_a_question_that_is_skipped_is_not_asked_again_at_once(parts: HttpParts) -> None:
    body = (await onboard(parts, answers={"i1": None})).json()
    assert (body["items"], body["answered"], sent(parts)) == (["i2", "i3"], 0, [])


async def test_a_warm_user_is_asked_nothing(parts: HttpParts) -> None:
    await parts.behave("a", "b", "c", user_id="anna")
    assert (await onboard(parts)).json()["items"] == []


async def test_what_is_skipped_may_be_an_item_that_nobody_knows_any_more(parts: HttpParts) -> None:
    assert (await onboard(parts, answers={"Heat (1995)": None, "i1": True})).json()["answered"] == 1


async def test_an_answer_to_a_question_of_another_generation_is_taken(parts: HttpParts) -> None:
    """A swap may come between question and answer."""
    parts.towers.asks = ("i1",)
    assert (await onboard(parts, answers={"i2": True})).json()["items"] == ["i1"]
    assert sent(parts) == [("i2", "answered_yes")]


async def test_a_generation_that_asks_nothing_signs_up_all_the_same(parts: HttpParts) -> None:
    parts.towers.asks = ()
    assert (await onboard(parts, attributes={"age": 25})).json()["items"] == []
    assert sent(parts) == [{"age": 25}]


async def test_it_waits_until_a_ranking_reads_the_answers(parts: HttpParts) -> None:
    parts.now = 60.0
    assert (await onboard(parts, "?wait=0.1", answers={"i1": True})).json()["readable"] is False
    at_ms = round(parts.wall() * 1000)
    await parts.store.write_behaviour([BehavedUser("anna", Behaviour(["i1"], ["answered_yes"], [at_ms]))])
    assert (await onboard(parts, "?wait=0.1", answers={"i1": True})).json()["readable"] is True
    assert (await onboard(parts, "?wait=0.1")).json()["readable"] is None


async def test_a_request_that_comes_again_is_carried_out_once(parts: HttpParts) -> None:
    key = {"Idempotency-Key": "one"}
    first, again = [await onboard(parts, headers=key, answers={"i1": True, "i2": False}) for _ in range(2)]
    assert first.json() == again.json()
    ids = [json.loads(each.value or b"")["event_id"] for each in parts.events.of(NAMES.behaved)]
    assert len(set(ids)) == 2
    assert all(ids)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"answers": {"nobody": True}}, "answers"),
        ({"answers": {"i1": "yes"}}, "answers.i1"),
        ({"answers": {"i1": 1}}, "answers.i1"),
        ({"answers": {"": True}}, "answers"),
        ({"answers": ["i1"]}, "answers"),
        ({"answers": {f"i{place}": True for place in range(65)}}, "answers"),
        ({"questions": -1}, "questions"),
        ({"questions": 65}, "questions"),
        ({"questions": 2.5}, "questions"),
        ({"attributes": {"age": {"of": 1}}}, "attributes.age"),
        ({"attributes": "young"}, "attributes"),
        ({"user_id": ""}, "user_id"),
    ],
)
async def test_what_is_wrong_is_named(parts: HttpParts, body: dict[str, Any], field: str) -> None:
    assert problem(await onboard(parts, **body), 422)["field"].startswith(field)
    assert sent(parts) == []


async def test_items_that_nobody_knows_are_named(parts: HttpParts) -> None:
    found = problem(await onboard(parts, answers={"i1": True, "Heat (1995)": False, "Elf": True}), 422)
    (error,) = found["errors"]
    assert (error["field"], error["value"]) == ("answers", "['Heat (1995)', 'Elf']")
    assert error["problem"] == "generation 1 knows no such item"


@pytest.mark.parametrize("away", ["store", "towers"])
async def test_a_part_that_is_away_is_503(parts: HttpParts, away: str) -> None:
    if away == "store":
        parts.store.reads_away = True
    else:
        parts.towers.refusals["questions"] = Unavailable("triton", "connection refused")
    problem(await onboard(parts), 503)
