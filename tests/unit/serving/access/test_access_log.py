"""What every answer carries, and the access log."""

import json
import logging
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from serving.access.access_control import AccessPolicy
from serving.access.tokens import Scope, find_token, new_token
from serving.api import ServiceConfig
from tests.http_parts import HttpParts, client_of

TOKEN, KEPT = new_token("shop", Scope)
CONFIG = ServiceConfig(AccessPolicy(lambda presented: find_token({"shop": KEPT}, presented)), log_key=b"key")
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    parts = HttpParts()
    await parts.start()
    await parts.sign_up("anna")
    async with client_of(parts.service(CONFIG)) as made:
        yield made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="foretaste.access")
    return caplog


def logged(lines: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [json.loads(record.getMessage()) for record in lines.records if record.name == "foretaste.access"]


@pytest.mark.parametrize("path", ["/healthz", "/", "/docs", "/v1/rank", "/nothing", "/v1/generations"])
async def test_every_answer_has_the_headers_of_a_careful_service(client: httpx.AsyncClient, path: str) -> None:
    for headers in ({}, BEARER):
        answer = (await client.get(path, headers=headers)).headers
        assert answer["x-content-type-options"] == "nosniff"
        assert answer["x-frame-options"] == "DENY"
        assert answer["referrer-policy"] == "no-referrer"
        assert answer["content-security-policy"].startswith("default-src 'none'")
        assert answer["cache-control"] == ("no-cache" if path == "/" else "no-store")
        assert "server" not in answer


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_page_has_one_policy_of_its_own(client: httpx.AsyncClient, path: str) -> None:
    (policy,) = (await client.get(path)).headers.get_list("content-security-policy")
    assert "connect-src 'self'" in policy


async def test_a_request_id_is_given_back_or_made(client: httpx.AsyncClient) -> None:
    answer = await client.get("/healthz", headers={"X-Request-ID": "abc-1:2"})
    assert answer.headers["x-request-id"] == "abc-1:2"
    first, second = [(await client.get("/healthz")).headers["x-request-id"] for _ in range(2)]
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b"\xff", b"a\tb"])
async def test_a_request_id_that_is_none_is_replaced(client: httpx.AsyncClient, given: bytes) -> None:
    answer = await client.get("/healthz", headers=[(b"x-request-id", given)])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_an_answer_is_one_line_of_the_log(client: httpx.AsyncClient, lines: pytest.LogCaptureFixture) -> None:
    await client.get("/v1/generations", headers=BEARER | {"X-Request-ID": "abc"})
    await client.get("/v1/generations", headers={"X-Request-ID": "def"})
    first, second = logged(lines)
    assert {name: first[name] for name in ("request_id", "caller", "method", "path", "status")} == {
        "request_id": "abc",
        "caller": "shop",
        "method": "GET",
        "path": "/v1/generations",
        "status": 200,
    }
    assert float(str(first["ms"])) >= 0
    assert int(str(first["bytes"])) > 0
    assert (second["caller"], second["status"]) == ("stranger", 401)
    assert TOKEN not in lines.text


async def test_a_user_stands_in_the_log_as_a_keyed_hash(
    client: httpx.AsyncClient, lines: pytest.LogCaptureFixture
) -> None:
    for user in ("anna", "anna", "ben"):
        await client.get(f"/v1/users/{user}", headers=BEARER)
    await client.post("/v1/rank", headers=BEARER, json={"user_id": "anna", "items": ["i1"]})
    paths = [str(line["path"]) for line in logged(lines)]
    assert re.fullmatch("/v1/users/[0-9a-f]{16}", paths[0])
    assert paths[0] == paths[1] != paths[2]
    assert "anna" not in lines.text


async def test_the_hash_is_another_one_with_another_key(lines: pytest.LogCaptureFixture) -> None:
    for key in (b"one", b"other", None, None):
        async with client_of(HttpParts().service(ServiceConfig(log_key=key))) as client:
            await client.get("/v1/users/anna")
    assert len({str(line["path"]) for line in logged(lines)}) == 4


async def test_a_line_cannot_be_forged(client: httpx.AsyncClient, lines: pytest.LogCaptureFixture) -> None:
    await client.get("/x%0a%7b%22status%22:200%7d", headers=BEARER)
    assert len(logged(lines)) == 1


async def test_a_defect_is_logged_with_its_status(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = HttpParts()
    await parts.start()
    monkeypatch.setattr(parts.store, "read", None)
    async with client_of(parts.service()) as client:
        answer = await client.get("/v1/users/anna", headers={"X-Request-ID": "abc"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "abc")
    assert logged(lines)[-1]["status"] == 500
