"""`POST /v1/onboard`: what is asked, what answers become, and what is refused."""

import json
from typing import Any

import httpx
import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.users import EnrichedUser
from foretaste.kernel.values import Attributes
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


def sent(parts: HttpParts) -> list[dict[str, Any]]:
    return [json.loads(each.value or b"") for each in parts.events.of(NAMES.registered)]


async def test_a_user_who_is_stored_is_asked_and_nothing_is_sent(parts: HttpParts) -> None:
    await parts.sign_up("anna", age=25)
    body = (await onboard(parts, questions=2)).json()
    assert body == {"user_id": "anna", "generation": 1, "items": ["i1", "i2"], "answered": 0, "readable": None}
    assert sent(parts) == []


async def test_a_user_signs_up_with_it(parts: HttpParts) -> None:
    body = (await onboard(parts, attributes={"age": 25})).json()
    assert body["items"] == ["i1", "i2", "i3"]
    assert [each["attributes"] for each in sent(parts)] == [{"age": 25}]


async def test_answers_go_with_the_attributes_that_are_stored(parts: HttpParts) -> None:
    await parts.sign_up("anna", age=25)
    body = (await onboard(parts, answers={"i1": True, "i3": False})).json()
    assert (body["items"], body["answered"]) == (["i2"], 2)
    (event,) = sent(parts)
    assert event["attributes"] == {"age": 25, "answered_no": ["i3"], "answered_yes": ["i1"]}


async def test_an_answer_takes_the_place_of_an_earlier_one(parts: HttpParts) -> None:
    await parts.register({"answered_yes": ["i1", "i2"], "answered_no": "i3"}, "anna")
    assert (await onboard(parts)).json()["items"] == []
    body = (await onboard(parts, answers={"i1": False})).json()
    assert body["answered"] == 3
    (event,) = sent(parts)
    assert event["attributes"] == {"answered_no": ["i3", "i1"], "answered_yes": ["i2"]}


async def test_attributes_that_are_sent_anew_keep_the_answers(parts: HttpParts) -> None:
    await parts.register({"age": 25, "answered_yes": ["i1"]}, "anna")
    await onboard(parts, attributes={"age": 26})
    (event,) = sent(parts)
    assert event["attributes"] == {"age": 26, "answered_yes": ["i1"]}


async def test_what_the_user_acted_on_is_not_asked(parts: HttpParts) -> None:
    await parts.sign_up("anna", age=25)
    await parts.behave("i2", user_id="anna")
    assert (await onboard(parts)).json()["items"] == ["i1", "i3"]


async def test_a_generation_that_asks_nothing_signs_up_all_the_same(parts: HttpParts) -> None:
    parts.towers.asks = ()
    body = (await onboard(parts, attributes={"age": 25})).json()
    assert (body["items"], len(sent(parts))) == ([], 1)


async def test_it_waits_until_a_ranking_reads_the_answers(parts: HttpParts) -> None:
    await parts.sign_up("anna", age=25)
    parts.now = 60.0
    assert (await onboard(parts, "?wait=0.1", answers={"i1": True})).json()["readable"] is False
    attributes: Attributes = {"age": 25, "answered_no": [], "answered_yes": ["i1"]}
    await parts.store.write_enriched([EnrichedUser("anna", attributes, None, AT + 10_000_000)])
    await parts.behave(*"abc", user_id="anna")  # warm: no virtual behaviour is needed
    assert (await onboard(parts, "?wait=0.1", answers={"i1": True})).json()["readable"] is True


async def test_a_request_that_comes_again_is_carried_out_once(parts: HttpParts) -> None:
    await parts.sign_up("anna", age=25)
    first, again = [await onboard(parts, headers={"Idempotency-Key": "one"}, answers={"i1": True}) for _ in range(2)]
    assert first.json() == again.json()
    (event,) = sent(parts)
    assert event["event_id"]


async def test_of_a_user_of_whom_nothing_is_known_attributes_are_wanted_and_the_key_is_free_again(
    parts: HttpParts,
) -> None:
    key = {"Idempotency-Key": "one"}
    refused = problem(await onboard(parts, headers=key, answers={"i1": True}), 404)
    assert refused["detail"] == "nothing is stored of the user 'anna': send attributes too"
    await parts.sign_up("anna", age=25)
    assert (await onboard(parts, headers=key, answers={"i1": True})).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"answers": {"i9": True}}, "answers"),
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
    await parts.sign_up("anna", age=25)
    assert problem(await onboard(parts, **body), 422)["field"].startswith(field)
    assert sent(parts) == []


async def test_an_answer_about_an_item_that_nobody_asks_about_names_it(parts: HttpParts) -> None:
    await parts.sign_up("anna", age=25)
    found = problem(await onboard(parts, answers={"i1": True, "Heat (1995)": False}), 422)
    assert "Heat (1995)" in json.dumps(found["errors"])
    assert "generation 1 does not ask about" in found["detail"]


@pytest.mark.parametrize("away", ["store", "towers"])
async def test_a_part_that_is_away_is_503(parts: HttpParts, away: str) -> None:
    await parts.sign_up("anna", age=25)
    if away == "store":
        parts.store.reads_away = True
    else:
        parts.towers.refusals["questions"] = Unavailable("triton", "connection refused")
    problem(await onboard(parts), 503)
