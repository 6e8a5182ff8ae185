"""The OpenAPI document is true: whatever a generator makes of it is answered as it says, and never by a 5xx."""

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import negative_data_rejection, positive_data_acceptance
from schemathesis.core.parameters import ParameterLocation

from foretaste.kernel.service_ports import KeptRequest
from foretaste.testing import InMemoryIdempotencyKeys
from serving.access.access_control import AccessPolicy
from serving.access.scopes import scopes_for
from serving.access.tokens import Scope, find_token, new_token
from serving.api import ServiceConfig, build_api
from serving.openapi import openapi_document
from tests.http_parts import HttpParts, client_of

TOKEN, KEPT = new_token("fuzzer", Scope)
CONFIG = ServiceConfig(AccessPolicy(lambda presented: find_token({"fuzzer": KEPT}, presented)))
LEFT_OUT = {
    "/v1/users": [positive_data_acceptance],  # no schema says that a time must not be in the future
    "/v1/onboard": [positive_data_acceptance],  # nor what a generation asks
    "/v1/behaviours": [positive_data_acceptance],
    "/v1/items": [positive_data_acceptance],
    "/v1/recommend": [positive_data_acceptance],  # nor which attributes items have
}


class NothingKept(InMemoryIdempotencyKeys):
    """A generator gives the same key to many bodies, which is refused."""

    async def begin(self, key: str, fingerprint: str) -> KeptRequest | None:
        return None


def started() -> HttpParts:
    parts = HttpParts()
    parts.keys = NothingKept()

    async def start() -> None:
        await parts.start()
        await parts.sign_up("anna")
        parts.towers.known |= {"Heat (1995)", "Toy Story (1995)"}

    asyncio.run(start())
    return parts


schema = schemathesis.openapi.from_asgi("/openapi.json", started().service(CONFIG))


@schema.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_route_answers_as_it_says(case: schemathesis.Case[Any]) -> None:
    left_out = set(LEFT_OUT.get(case.operation.path, ()))
    components = case.meta.components if case.meta is not None else {}
    if any(info.mode.is_negative for place, info in components.items() if place is not ParameterLocation.BODY):
        left_out.add(negative_data_rejection)  # parameters that nobody knows are passed over; the token is put in here
    case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=list(left_out))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document(build_api(started().service_parts()))


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    paths = document["paths"].items()
    return [(path, method, operation) for path, each in paths for method, operation in each.items()]


def test_the_routes_are_these(document: dict[str, Any]) -> None:
    assert {(path, method) for path, method, _ in operations(document)} == {
        ("/v1/rank", "post"),
        ("/v1/recommend", "post"),
        ("/v1/users", "post"),
        ("/v1/users/{user_id}", "get"),
        ("/v1/users/{user_id}", "delete"),
        ("/v1/onboard", "post"),
        ("/v1/behaviours", "post"),
        ("/v1/items", "post"),
        ("/v1/items/{item_id}", "delete"),
        ("/v1/generations", "get"),
        ("/v1/generations/rollback", "post"),
        ("/v1/overview", "get"),
        ("/v1/choices", "get"),
        ("/v1/compare", "post"),
        ("/v1/map", "get"),
        ("/v1/map/user", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    }


def test_each_route_names_its_problems_and_who_may_use_it(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        expected = {"421", "429"} | ({"401", "403"} if operation["security"] else set())
        if method == "post":
            expected |= {"400", "413", "415", "422", "503"}
        assert expected <= operation["responses"].keys(), path
        assert [{"bearer": [scope]} for scope in sorted(scopes_for(path, method.upper()) or ())] == operation[
            "security"
        ]
        assert operation["summary"]


def test_bodies_have_examples_that_are_taken(document: dict[str, Any]) -> None:
    service = started().service()

    async def send(path: str, example: object) -> int:
        async with client_of(service) as client:
            return (await client.post(path, json=example)).status_code

    tried = 0
    for path, _, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        examples = [each["value"] for each in content.get("examples", {}).values()]
        for example in [*examples, *([content["example"]] if "example" in content else [])]:
            assert asyncio.run(send(path, example)) < 300
            tried += 1
    assert tried == 11


def test_fields_have_their_limits(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["UserRegistered"]["properties"]["user_id"] | {"title": ""} == {
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "title": "",
    }
    assert schemas["UsersRegistered"]["properties"]["users"]["maxItems"] == 1000
    assert "detail" in schemas["Problem"]["required"]
