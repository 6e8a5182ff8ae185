"""Answers are counted by route, method and status, whoever gave them."""

import httpx
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serving.access.answer_counts import AnswerCounts
from tests.http_parts import HttpParts, client_of


async def _broken(_: Request) -> PlainTextResponse:
    raise KeyError("a defect")


async def test_routes_go_by_their_templates_and_refusals_by_none() -> None:
    parts = HttpParts()
    await parts.start()
    async with client_of(parts.service()) as client:
        assert (await client.get("/v1/users/anna")).status_code == 404
        assert (await client.get("/v1/users/bob")).status_code == 404
        assert (await client.post("/v1/rank", json={"user_id": "anna", "items": []})).status_code == 422
        assert (await client.get("/nothing/here")).status_code == 404
        assert (await client.request("BREW", "/healthz")).status_code == 405

    def counted(route: str, method: str, status: int) -> float:
        return parts.count("foretaste_http_answers_total", route=route, method=method, status=str(status))

    assert counted("/v1/users/{user_id:path}", "GET", 404) == 2
    assert counted("/v1/rank", "POST", 422) == 1
    assert counted("none", "GET", 404) == 1
    assert sum(counted(route, "other", 405) for route in ("/healthz", "none")) == 1


async def test_a_defect_is_counted_as_its_answer() -> None:
    registry = CollectorRegistry()
    app = AnswerCounts(Starlette(routes=[Route("/broken", _broken)]), registry)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/broken")).status_code == 500
    labels = {"route": "/broken", "method": "GET", "status": "500"}
    assert registry.get_sample_value("foretaste_http_answers_total", labels) == 1
