"""`GET /v1/users/{id}`: what is stored of a user."""

from urllib.parse import quote

import httpx
import numpy as np
import pytest

from foretaste.kernel.users import EnrichedUser, VirtualBehaviour
from tests.http_parts import HttpParts, client_of, problem
from tests.serving_parts import AT, SHAPE


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts()
    await made.start()
    return made


async def read(parts: HttpParts, path: str) -> httpx.Response:
    async with client_of(parts.service()) as client:
        return await client.get(path)


async def test_a_cold_user_is_shown_whole(parts: HttpParts) -> None:
    await parts.sign_up("anna", age=25)
    body = (await read(parts, "/v1/users/anna")).json()
    assert body == {
        "user_id": "anna",
        "stage": "cold",
        "generation": 1,
        "attributes": {"age": 25},
        "attributes_at": "2026-01-01T00:00:00Z",
        "behaviour": [],
        "virtual_behaviour": {
            "generation": 1,
            "current": True,
            "vectors": [[7.0, 7.0]] * 3,
            "at": "2026-01-01T00:00:00Z",
        },
        "damaged": [],
    }


async def test_a_time_of_another_client_that_no_date_can_tell_is_none(parts: HttpParts) -> None:
    await parts.store.write_enriched([EnrichedUser("anna", {"age": 25}, None, 1000 * AT)])
    body = (await read(parts, "/v1/users/anna")).json()
    assert (body["attributes"], body["attributes_at"]) == ({"age": 25}, None)


async def test_behaviour_warms_a_user(parts: HttpParts) -> None:
    await parts.behave("i1", user_id="anna")
    body = (await read(parts, "/v1/users/anna")).json()
    assert body["stage"] == "warming"
    assert body["behaviour"] == [{"item_id": "i1", "action": "liked", "at": "2026-01-01T00:00:00Z"}]
    assert (body["attributes"], body["virtual_behaviour"]) == (None, None)


async def test_virtual_behaviour_of_another_generation_is_not_current(parts: HttpParts) -> None:
    virtual = VirtualBehaviour(3, np.zeros(SHAPE, np.float32))
    await parts.store.write_enriched([EnrichedUser("anna", {}, virtual, AT)])
    found = (await read(parts, "/v1/users/anna")).json()["virtual_behaviour"]
    assert (found["generation"], found["current"]) == (3, False)


async def test_before_the_first_generation_no_stage_is_known() -> None:
    parts = HttpParts()
    await parts.store.write_enriched([EnrichedUser("anna", {"age": 1}, None, AT)])
    body = (await read(parts, "/v1/users/anna")).json()
    assert (body["stage"], body["generation"], body["attributes"]) == (None, None, {"age": 1})


@pytest.mark.parametrize("user_id", ["a/b c?d#e", "ü%41", ".hidden", "x" * 256])
async def test_any_id_can_be_asked_for(parts: HttpParts, user_id: str) -> None:
    await parts.sign_up(user_id)
    assert (await read(parts, f"/v1/users/{quote(user_id, safe='')}")).json()["user_id"] == user_id


async def test_a_user_of_whom_nothing_is_known_is_404(parts: HttpParts) -> None:
    assert "'nobody'" in problem(await read(parts, "/v1/users/nobody"), 404)["detail"]


async def test_an_id_that_is_too_long_is_named(parts: HttpParts) -> None:
    assert problem(await read(parts, "/v1/users/" + "x" * 257), 422)["field"] == "user_id"


async def test_a_store_that_is_away_is_503(parts: HttpParts) -> None:
    parts.store.reads_away = True
    assert problem(await read(parts, "/v1/users/anna"), 503)["detail"] == "redis is not available"
