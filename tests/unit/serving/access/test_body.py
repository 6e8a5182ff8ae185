"""Bodies: their type, their size, and JSON that is meant to hurt."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from serving.access.access_control import AccessPolicy
from serving.api import ServiceConfig
from tests.http_parts import HttpParts, client_of, problem

JSON = {"content-type": "application/json"}
ANNA = b'{"user_id": "anna", "attributes": {"age": 25}}'
BOM = b"\xef\xbb\xbf"
BIG = 1_048_576
POSTS = ["/v1/rank", "/v1/users", "/v1/behaviours", "/v1/generations/rollback"]


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts()
    await made.start()
    return made


@pytest.fixture
async def client(parts: HttpParts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts.service(ServiceConfig(AccessPolicy(), BIG))) as made:
        yield made


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"])
async def test_another_type_than_json_is_415(client: httpx.AsyncClient, parts: HttpParts, path: str, kind: str) -> None:
    problem(await client.post(path, content=ANNA, headers={"content-type": kind}), 415)
    assert not parts.events.sent


async def test_no_type_at_all_is_415(client: httpx.AsyncClient) -> None:
    problem(await client.post("/v1/users", content=ANNA), 415)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_is_taken_with_its_parameters(client: httpx.AsyncClient, kind: str) -> None:
    assert (await client.post("/v1/users", content=ANNA, headers={"content-type": kind})).status_code == 202


async def test_an_encoded_body_is_415(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/users", content=ANNA, headers=JSON | {"content-encoding": "gzip"})
    assert problem(response, 415)["detail"] == "expected a body without a content encoding"
    assert response.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("path", POSTS)
async def test_an_announced_body_too_large_is_413_before_it_is_read(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path, content=b" " * (BIG + 1), headers=JSON)
    assert problem(response, 413)["detail"] == f"the body is larger than {BIG} bytes"
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("path", POSTS)
async def test_one_that_is_not_announced_is_413_too(client: httpx.AsyncClient, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (BIG // 4)

    problem(await client.post(path, content=chunks(), headers=JSON), 413)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 400_000,
        b'{"a":' * 150_000,
        b'{"user_id":"u","items":["i"],"context":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"user_id":"u","attributes":{"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}",
        b"1" * 900_000,
        b'{"user_id": "u", "attributes": {"n": ' + b"9" * 100_000 + b'}, "items": ["i"], "expected": 1e999}',
        b'"' + b"\\u0000" * 100_000 + b'"',
        b"\xff\xfe{}",
        BOM + b"{}",
        b'{"user_id": "\\ud800", "attributes": {}, "items": ["\\udfff"], "reason": "\\ud800", "expected": "\\ud800"}',
        b'{"user_id": "u", "attributes": {"n": NaN}, "items": ["i"], "context": {"n": Infinity}, "expected": NaN}',
        b"NaN",
        b"",
        b"null",
        b"[]",
        b"{",
        b"\x00",
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_a_body_that_is_meant_to_hurt_is_refused(
    client: httpx.AsyncClient, parts: HttpParts, path: str, body: bytes
) -> None:
    response = await client.post(path, content=body, headers=JSON)
    if path.endswith("rollback") and body in (b"", b"null", BOM + b"{}"):
        assert response.status_code == 200, "it needs no body"
        return
    assert response.status_code in (400, 422), response.text[:300]
    problem(response, response.status_code)
    assert len(response.content) < 4000, "what is told back is short"
    assert not parts.events.sent
    assert not parts.noted.served


async def test_of_two_keys_the_last_counts_as_in_an_event_on_kafka(client: httpx.AsyncClient, parts: HttpParts) -> None:
    body = b'{"user_id": "a", "user_id": "b", "attributes": {"x": 1}, "attributes": {"x": 2, "x": 3}}'
    assert (await client.post("/v1/users", content=body, headers=JSON)).status_code == 202
    (sent,) = parts.events.sent
    assert (sent.key, json.loads(sent.value or b"")["attributes"]) == (b"b", {"x": 3})


@pytest.mark.parametrize("path", [*POSTS, "/v1/recommend", "/v1/compare"])
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"user_id": "a", "items": ["s00",]}', "trailing comma at line 1 column 34"),
        ('{\n "user_id": "a"\n "items": []}', "expected `,` or `}` at line 3 column 2"),
        ('{"user_id": "a"', "EOF while parsing an object at line 1 column 15"),
        ("{'user_id': 'a'}", "key must be a string at line 1 column 2"),
    ],
)
async def test_what_is_wrong_with_the_json_is_named_with_its_place(
    client: httpx.AsyncClient, path: str, body: str, detail: str
) -> None:
    answer = problem(await client.post(path, content=body, headers=JSON), 422)
    assert (answer["field"], answer["value"]) == ("body", body)
    assert answer["detail"].startswith(f"body: is not JSON: {detail}")


@pytest.mark.parametrize("path", [*POSTS, "/v1/recommend", "/v1/compare"])
async def test_a_body_in_another_encoding_is_named_by_its_byte(client: httpx.AsyncClient, path: str) -> None:
    answer = problem(await client.post(path, content='{"user_id": "ä"}'.encode("latin-1"), headers=JSON), 422)
    assert answer["detail"].startswith("body: is not UTF-8 at byte 13")


async def test_of_a_long_body_the_place_alone_is_told_back(client: httpx.AsyncClient) -> None:
    body = b'{"user_id": "' + b"a" * 5000 + b'" "items": []}'
    answer = problem(await client.post("/v1/users", content=body, headers=JSON), 422)
    assert '" "items": []}' in answer["value"]
    assert len(answer["value"]) <= 80
