"""What the console asks: the overview, the choices, the map, a comparison."""

from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.values import FloatArray
from serving.console.bodies import ConsoleOverview
from tests.http_parts import HttpParts, client_of, problem
from tests.serving_parts import FakeTowers


class LiftingTowers(FakeTowers):
    """i1 gains by virtual behaviour, i2 does not."""

    def _score(self, request: RankingInput, generation: int) -> FloatArray:
        super()._score(request, generation)
        known = not len(request.behaviour) and float(request.virtual.mean()) > 0
        return np.array([0.8 if item == "i1" and known else 0.5 for item in request.items], np.float32)


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts()
    await made.start()
    return made


@pytest.fixture
async def client(parts: HttpParts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts.service()) as opened:
        yield opened


async def overview(client: httpx.AsyncClient) -> ConsoleOverview:
    return ConsoleOverview.model_validate_json((await client.get("/v1/overview")).content)


async def test_the_overview_tells_events_users_and_rankings(parts: HttpParts, client: httpx.AsyncClient) -> None:
    await client.post("/v1/users", json={"user_id": "ben", "attributes": {"age": 41}})
    await parts.sign_up("anna")
    await parts.sign_up("carl", virtual_of=None)
    await parts.behave("i1", user_id="carl")
    await parts.behave("i1", "i2", "i3", user_id="dora")
    await parts.register({"age": 1}, user_id="dora")
    await client.post("/v1/rank", json={"user_id": "anna", "items": ["i1"]})
    parts.counts.unhandled = 3
    found = await overview(client)
    assert found.generation == 1
    assert (found.events["registered"].events, found.events["registered"].unhandled) == (1, 3)
    assert set(found.events) == {"registered", "behaved", "enriched", "ranked", "dead_letters"}
    assert found.users is not None
    assert found.users.model_dump() == {
        "users": 3,
        "cold": 1,
        "warming": 1,
        "warm": 1,
        "virtual": 1,
        "whole": True,
    }
    assert found.answers == {"virtual": 1}
    assert sum(found.ranking_seconds.counts) == 1
    assert len(found.ranking_seconds.counts) == len(found.ranking_seconds.upper) + 1
    assert found.away == []


async def test_all_who_look_within_a_second_share_one_look(parts: HttpParts, client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await overview(client)
    assert parts.counts.looks == 1
    parts.now += 1.0
    await overview(client)
    assert parts.counts.looks == 2


async def test_a_part_that_is_away_is_named_and_the_rest_is_told(parts: HttpParts, client: httpx.AsyncClient) -> None:
    await parts.sign_up("anna")
    parts.counts.away = True
    found = await overview(client)
    assert (found.events, found.away) == ({}, ["kafka"])
    assert found.users is not None
    parts.now, parts.counts.away, parts.store.reads_away = 2.0, False, True
    found = await overview(client)
    assert (found.users, found.away) == (None, ["redis"])
    assert found.events["enriched"].events == 0


async def test_before_the_first_generation_there_is_an_overview_too() -> None:
    async with client_of(HttpParts().service()) as client:
        found = await overview(client)
        assert (found.generation, found.users, found.away) == (None, None, ["generation"])
        problem(await client.get("/v1/choices"), 503)


async def test_the_choices_are_those_of_the_active_generation(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/choices")).json()
    assert (found["generation"], found["warm_after"]) == (1, 3)
    assert found["attributes"]["age"] == {"kind": "numeric", "values": [18, 25, 41]}
    assert found["actions"] == ["liked", "viewed"]
    assert found["items"][0] == "i60"


async def test_the_map_and_a_users_place_on_it(parts: HttpParts, client: httpx.AsyncClient) -> None:
    await parts.sign_up("anna")
    found = (await client.get("/v1/map")).json()
    assert found == {"generation": 1, "real": [[0.0, 0.25], [1.0, 0.75]], "virtual": [[0.25, 0.0], [0.75, 1.0]]}
    placed = (await client.get("/v1/map/user", params={"user_id": "anna"})).json()
    assert placed == {"generation": 1, "x": 0.5, "y": 0.5, "distance": 0.125}


async def test_without_a_map_or_virtual_behaviour_it_says_so(parts: HttpParts, client: httpx.AsyncClient) -> None:
    await parts.sign_up("anna", virtual_of=3)
    answer = problem(await client.get("/v1/map/user", params={"user_id": "anna"}), 404)
    assert answer["detail"] == "the user 'anna' has no virtual behaviour of the active generation"
    assert problem(await client.post("/v1/compare", json={"user_id": "anna", "items": ["i1"]}), 404) == answer
    parts.summaries.map = None
    assert "without a map" in problem(await client.get("/v1/map"), 404)["detail"]


async def test_a_comparison_scores_with_and_without_virtual_behaviour_and_is_no_training_data() -> None:
    parts = HttpParts()
    parts.towers = LiftingTowers()
    await parts.start()
    await parts.sign_up("anna")
    async with client_of(parts.service()) as client:
        body = {"user_id": "anna", "items": ["i2", "i1"]}
        found = (await client.post("/v1/compare", json=body)).json()
        assert [item["item_id"] for item in found["ranked"]] == ["i1", "i2"]
        first, second = found["ranked"]
        assert (first["score"], first["without"]) == (pytest.approx(0.8), 0.5)
        assert first["lift"] == pytest.approx(np.log(4), rel=1e-5)
        assert (second["lift"], found["stage"]) == (0.0, "cold")
        assert parts.towers.calls == [2], "both in one call"
        (mean,) = {float(each.virtual.mean()) for each, _ in parts.towers.scored[1:]}
        assert mean == -1.0
        await parts.behave("i7", user_id="anna")
        found = (await client.post("/v1/compare", json=body)).json()
        assert (found["stage"], [item["lift"] for item in found["ranked"]]) == ("warming", [0.0, 0.0])
    assert not parts.noted.served


async def test_a_comparison_names_an_item_that_comes_twice(parts: HttpParts, client: httpx.AsyncClient) -> None:
    await parts.sign_up("anna")
    answer = problem(await client.post("/v1/compare", json={"user_id": "anna", "items": ["i1", "i2", "i1"]}), 422)
    assert (answer["field"], answer["value"]) == ("items", "i1")


async def test_a_tower_that_answers_what_is_not_finite_is_a_problem(
    parts: HttpParts, client: httpx.AsyncClient
) -> None:
    await parts.sign_up("anna")
    parts.towers.not_finite.add("ranking")
    problem(await client.post("/v1/compare", json={"user_id": "anna", "items": ["i1"]}), 500)
