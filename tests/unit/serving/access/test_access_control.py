"""Who gets through: host, token, scope and rate, at every route."""

from collections.abc import AsyncIterator

import httpx
import pytest

from serving.access.access_control import AccessPolicy
from serving.access.scopes import PUBLIC, SCOPES
from serving.access.tokens import Scope, find_token, new_token
from serving.api import ServiceConfig, build_api
from serving.openapi import openapi_document
from tests.http_parts import HttpParts, client_of, problem

MADE = {scope: new_token(scope.value, [scope]) for scope in Scope}
KNOWN = {kept.name: kept for _, kept in MADE.values()}
ROUTES = [
    ("POST", "/v1/rank", {Scope.RANK}),
    ("POST", "/v1/users", {Scope.WRITE}),
    ("GET", "/v1/users/anna", {Scope.WRITE, Scope.OPERATE}),
    ("POST", "/v1/behaviours", {Scope.WRITE}),
    ("GET", "/v1/generations", {Scope.OPERATE}),
    ("POST", "/v1/generations/rollback", {Scope.OPERATE}),
    ("GET", "/metrics", {Scope.OPERATE}),
    ("GET", "/v1/nothing", {Scope.OPERATE}),
    ("GET", "//v1/rank", {Scope.OPERATE}),
]


def policy(rate: float | None = None, hosts: frozenset[str] = frozenset()) -> ServiceConfig:
    return ServiceConfig(AccessPolicy(lambda presented: find_token(KNOWN, presented), hosts, rate))


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts()
    await made.start()
    return made


@pytest.fixture
async def client(parts: HttpParts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts.service(policy())) as made:
        yield made


def bearer(scope: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {MADE[scope][0]}"}


def test_every_route_is_listed_with_who_may_use_it() -> None:
    paths = openapi_document(build_api(HttpParts().service_parts()))["paths"].keys()
    assert paths - PUBLIC == SCOPES.keys()
    assert paths & PUBLIC == {"/healthz", "/readyz"}


@pytest.mark.parametrize(("method", "path", "scopes"), ROUTES)
async def test_each_route_asks_for_its_scope(
    client: httpx.AsyncClient, method: str, path: str, scopes: set[Scope]
) -> None:
    missing = await client.request(method, f"http://test{path}")
    assert problem(missing, 401)["detail"].startswith("a token is needed")
    assert missing.headers["www-authenticate"] == 'Bearer realm="foretaste"'
    for scope in Scope:
        response = await client.request(method, f"http://test{path}", headers=bearer(scope))
        if scope in scopes:
            assert response.status_code not in (401, 403)
        else:
            assert all(needed in problem(response, 403)["detail"] for needed in scopes)
            assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    "authorization",
    ["Bearer", "Bearer ", "Bearer ft_rank_wrong", "Basic cmFuazo=", MADE[Scope.RANK][0], "Bearer \xff\xfe"],
    ids=["no token", "an empty one", "unknown", "another scheme", "without a scheme", "no text"],
)
async def test_a_token_that_is_not_known_is_401(client: httpx.AsyncClient, authorization: str) -> None:
    headers = [(b"authorization", authorization.encode("latin-1"))]
    response = await client.post("/v1/rank", headers=headers, json={})
    problem(response, 401)
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


async def test_the_scheme_is_read_in_any_case(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics", headers={"authorization": f"bearer {MADE[Scope.OPERATE][0]}"})
    assert response.status_code == 200


async def test_a_ranking_that_a_stranger_invents_teaches_nobody(client: httpx.AsyncClient, parts: HttpParts) -> None:
    body = {"user_id": "u1", "items": ["i1", "i2"]}
    for headers in ({}, {"Authorization": "Bearer ft_rank_invented"}, bearer(Scope.WRITE), bearer(Scope.OPERATE)):
        assert (await client.post("/v1/rank", json=body, headers=headers)).status_code in (401, 403)
    assert not parts.noted.served
    assert (await client.post("/v1/rank", json=body, headers=bearer(Scope.RANK))).status_code == 200
    assert len(parts.noted.served) == 1


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/docs", "/openapi.json", "/docs/swagger-ui.css"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer ft_rank_stale"}])
async def test_what_is_public_asks_for_nothing(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
    assert (await client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_answers_head(client: httpx.AsyncClient, path: str) -> None:
    response = await client.head(path)
    assert (response.status_code, response.content) == (200, b"")


async def test_a_stranger_learns_ready_or_not_and_nothing_else(client: httpx.AsyncClient, parts: HttpParts) -> None:
    assert (await client.get("/readyz")).json() == {"readiness": "ready"}
    assert (await client.get("/readyz", headers=bearer(Scope.RANK))).json() == {"readiness": "ready"}
    told = (await client.get("/readyz", headers=bearer(Scope.OPERATE))).json()
    assert (told["generation"], len(told["parts"])) == (1, 4)


async def test_strangers_cost_the_towers_no_inference_each(client: httpx.AsyncClient, parts: HttpParts) -> None:
    for _ in range(20):
        await client.get("/readyz")
    assert len(parts.towers.scored) == 1
    await client.get("/readyz", headers=bearer(Scope.OPERATE))
    assert len(parts.towers.scored) == 2


async def test_a_stranger_learns_that_it_is_not_ready() -> None:
    async with client_of(HttpParts().service(policy())) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"readiness": "unready"})
    assert response.headers["retry-after"] == "1"


async def test_a_token_that_comes_too_often_waits(parts: HttpParts) -> None:
    async with client_of(parts.service(policy(rate=5))) as client:
        answers = [await client.get("/metrics", headers=bearer(Scope.OPERATE)) for _ in range(12)]
        refused = [each for each in answers if each.status_code == 429]
        assert 5 <= len(refused) <= 7
        assert "5 requests a second" in problem(refused[0], 429)["detail"]
        assert refused[0].headers["retry-after"] == "1"
        assert (await client.get("/v1/users/u1", headers=bearer(Scope.WRITE))).status_code == 404, "its own bucket"
        assert (await client.get("/healthz")).status_code == 200


async def test_a_rate_below_one_a_second_says_how_long_to_wait(parts: HttpParts) -> None:
    async with client_of(parts.service(policy(rate=0.1))) as client:
        assert (await client.get("/metrics", headers=bearer(Scope.OPERATE))).status_code == 200
        response = await client.get("/metrics", headers=bearer(Scope.OPERATE))
    assert (response.status_code, response.headers["retry-after"]) == (429, "10")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8080", 421),
        ("localhost:8080@evil.example", 421),
        ("", 421),
    ],
)
async def test_a_host_that_is_not_this_one_is_misdirected(parts: HttpParts, host: str, status: int) -> None:
    hosts = frozenset({"localhost", "[::1]"})
    async with client_of(parts.service(ServiceConfig(AccessPolicy(hosts=hosts)))) as client:
        response = await client.get("/healthz", headers={"host": host})
    assert response.status_code == status
    if status != 200:
        problem(response, 421)
