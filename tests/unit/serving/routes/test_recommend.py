"""`POST /v1/recommend` over HTTP: answers, and a problem document for each wrong field."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from foretaste.kernel.errors import Unavailable
from serving.api import ServiceConfig
from tests.http_parts import HttpParts, client_of


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts()
    await made.start(popularity={f"i{number}": number / 1000 for number in range(40)})
    await made.sign_up()
    return made


@pytest.fixture
async def client(parts: HttpParts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts.service()) as made:
        yield made


async def test_items_come_back_best_first(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/recommend", json={"user_id": "u1", "k": 2, "context": {"hour": 8}, "unknown": 1})
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["ranked"][0]["item_id"] == "i39"
    assert {name: body[name] for name in ("user_id", "ranking_id", "served_by", "candidates", "candidates_from")} == {
        "user_id": "u1",
        "ranking_id": "r1",
        "served_by": "virtual",
        "candidates": 10,
        "candidates_from": "index",
    }


async def test_a_user_id_is_enough(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/recommend", json={"user_id": "nobody"})
    assert response.status_code == 200
    assert len(response.json()["ranked"]) == 20


@pytest.mark.parametrize(
    ("wrong", "field", "value"),
    [
        ({"k": 0}, "k", 0),
        ({"k": -1}, "k", -1),
        ({"k": 1_000_000}, "k", 1_000_000),
        ({"k": 10**30}, "k", 10**30),
        ({"k": "5"}, "k", "5"),
        ({"k": True}, "k", True),
        ({"k": None}, "k", None),
        ({"user_id": ""}, "user_id", ""),
        ({"user_id": None}, "user_id", None),
        ({"exclude_seen": "yes"}, "exclude_seen", "yes"),
        ({"shown": -1}, "shown", -1),
        ({"filter": []}, "filter", "[]"),
        ({"filter": {"alow": ["i1"]}}, "filter.alow", "['i1']"),
        ({"filter": {"allow": []}}, "filter.allow", "[]"),
        ({"filter": {"allow": [""]}}, "filter.allow.0", ""),
        ({"filter": {"deny": "i1"}}, "filter.deny", "i1"),
        ({"filter": {"attributes": {"colour": ["red"]}}}, "filter.attributes.colour", "['red']"),
        ({"filter": {"attributes": {"genre": "odd"}}}, "filter.attributes.genre", "odd"),
        ({"filter": {"attributes": {"genre": []}}}, "filter.attributes.genre", "[]"),
        ({"filter": {"attributes": {"genre": [{}]}}}, "filter.attributes.genre.0", "{}"),
        ({"context": {"hour": []}}, "context.hour", "[]"),
        ({"context": {"hour": 2**63}}, "context.hour", 2**63),
    ],
)
async def test_wrong_input_is_named(client: httpx.AsyncClient, wrong: Any, field: str, value: Any) -> None:
    response = await client.post("/v1/recommend", json={"user_id": "u1"} | wrong)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["field"], response.json()["value"]) == (field, value)


async def test_a_list_beyond_the_limit_is_refused(parts: HttpParts) -> None:
    denied = [f"i{number}" for number in range(10_001)]
    async with client_of(parts.service(ServiceConfig(max_body_bytes=1_000_000))) as client:
        response = await client.post("/v1/recommend", json={"user_id": "u1", "filter": {"deny": denied}})
    assert response.status_code == 422
    assert response.json()["field"] == "filter.deny"


async def test_neither_index_nor_popularity_is_503(client: httpx.AsyncClient, parts: HttpParts) -> None:
    parts.retrieval.outage = Unavailable("triton", "connection refused at 10.0.0.8")
    await parts.active.get()
    parts.generations.away = True
    response = await client.post("/v1/recommend", json={"user_id": "u1"})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "10.0.0.8" not in response.text


async def test_the_document_of_the_api_names_the_body(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    schema = document["paths"]["/v1/recommend"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    found = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert set(found["properties"]) == {"user_id", "k", "exclude_seen", "filter", "context", "shown", "vouched"}
    assert "ItemFilter" in document["components"]["schemas"]
