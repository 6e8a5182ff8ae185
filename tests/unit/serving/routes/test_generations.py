"""`/v1/generations`: the list, and the way back."""

import httpx
import pytest

from tests.http_parts import HttpParts, client_of, problem


@pytest.fixture
def parts() -> HttpParts:
    return HttpParts()


async def post(parts: HttpParts, body: object = None) -> httpx.Response:
    async with client_of(parts.service()) as client:
        path = "/v1/generations/rollback"
        return await (client.post(path) if body is None else client.post(path, json=body))


async def test_generations_are_listed_with_their_figures(parts: HttpParts) -> None:
    async with client_of(parts.service()) as client:
        body = (await client.get("/v1/generations")).json()
    assert [(each["number"], each["state"]) for each in body["generations"]] == [(1, "previous"), (2, "active")]
    assert body["generations"][0]["metrics"] == {"cold.virtual.gauc": 0.61, "cold.virtual.gauc_low": None}


async def test_a_rollback_without_a_body_goes_back(parts: HttpParts) -> None:
    assert (await post(parts)).json() == {"left": 2, "active": 1}
    assert parts.summaries.moves == ["rollback over HTTP (local)"]


async def test_its_reason_is_kept_with_who_asked(parts: HttpParts) -> None:
    await post(parts, {"reason": "worse", "expected": 2})
    assert parts.summaries.moves == ["worse (local)"]


async def test_sent_twice_it_does_not_lead_back(parts: HttpParts) -> None:
    assert (await post(parts, {"expected": 2})).status_code == 200
    assert "generation 1 is active" in problem(await post(parts, {"expected": 2}), 409)["detail"]
    assert parts.summaries.active == 1


async def test_without_a_previous_one_there_is_no_way_back(parts: HttpParts) -> None:
    parts.summaries.previous = None
    assert "no previous one" in problem(await post(parts), 409)["detail"]


@pytest.mark.parametrize("body", [{"expected": 0}, {"expected": "two"}, {"reason": "x" * 201}, [], 7])
async def test_a_wrong_body_moves_nothing(parts: HttpParts, body: object) -> None:
    problem(await post(parts, body), 422)
    assert parts.summaries.active == 2
