"""The ranking service over HTTP: answers, problem documents, health, metrics and the console page."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from foretaste.kernel.errors import BadTowerOutput, ForetasteError, InvalidInput
from foretaste.kernel.events import UserRanked
from foretaste.kernel.generations import Generation
from foretaste.kernel.ranking import Source
from foretaste.kernel.running.store_watch import StoreWatch
from foretaste.testing import InMemoryEvents
from serving import health as health_module
from serving.api import build_api
from serving.health import examine
from serving.metrics import RankingMetrics
from serving.rankings.impressions import BufferedImpressions
from serving.requests import RankRequest
from streams.codec import EVENTS
from tests.http_parts import HttpParts, client_of, problem

GOOD = {"user_id": "u1", "items": ["i1", "i9"]}


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts(max_candidates=5)
    await made.start()
    await made.sign_up()
    return made


@pytest.fixture
async def client(parts: HttpParts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts.service()) as made:
        yield made


async def test_candidates_come_back_ranked(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/rank", json=GOOD | {"context": {"hour": 8, "device": None}, "unknown": 1})
    assert response.status_code == 200
    body = response.json()
    assert [item["item_id"] for item in body["ranked"]] == ["i9", "i1"]
    assert body["served_by"] == "virtual"
    assert body["fallback"] is None
    assert (body["zero_shot_generation"], body["ranking_generation"], body["behaviour_seen"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"items": []}, "items", "[]"),
        ({"items": ["a", "b", "a"]}, "items.2", "a"),
        ({"items": [f"i{n}" for n in range(6)]}, "items", 6),
        ({"items": ["a", "x" * 257]}, "items.1", "x" * 80 + "… (257 characters)"),
        ({"items": ["a", ""]}, "items.1", ""),
        ({"items": ["a", 7]}, "items.1", 7),
        ({"items": "a"}, "items", "a"),
        ({"user_id": ""}, "user_id", ""),
        ({"user_id": None}, "user_id", None),
        ({"user_id": "u" * 257}, "user_id", "u" * 80 + "… (257 characters)"),
        ({"context": {"hour": [8]}}, "context.hour", "[8]"),
        ({"context": {"hour": {"of": "day"}}}, "context.hour", "{'of': 'day'}"),
        ({"context": {"hour": float("nan")}}, "context.hour", "nan"),
        ({"context": [1]}, "context", "[1]"),
        ({"context": {"hour": 2**63}}, "context.hour", 2**63),
        ({"context": {"query": "trainers \ud83d"}}, "context.query", "trainers \\ud83d"),
        ({"context": {"query \ud83d": 1}}, "context.query \\ud83d", "query \\ud83d"),
        ({"user_id": "\udc00"}, "user_id", "\\udc00"),
        ({"items": ["a", "b\ud800"]}, "items.1", "b\\ud800"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, change: dict[str, object], field: str, value: object
) -> None:
    headers = {"content-type": "application/json"}
    body = problem(await client.post("/v1/rank", content=json.dumps(GOOD | change), headers=headers), 422)
    assert (body["field"], body["value"]) == (field, value)
    assert body["detail"].startswith(f"{field}: ")
    assert len(body["errors"]) == 1


async def test_everything_that_is_wrong_is_named_at_once(client: httpx.AsyncClient) -> None:
    wrong = {"user_id": 5, "items": ["a", 7, None], "context": {"a": [1], "b": [2]}}
    body = problem(await client.post("/v1/rank", json=wrong), 422)
    named = [error["field"] for error in body["errors"]]
    assert named == ["user_id", "items.1", "items.2", "context.a", "context.b"]


@pytest.mark.parametrize("missing", ["user_id", "items"])
async def test_a_missing_field_is_named(client: httpx.AsyncClient, missing: str) -> None:
    body = problem(await client.post("/v1/rank", json={k: v for k, v in GOOD.items() if k != missing}), 422)
    assert body["field"] == missing
    assert "required" in body["detail"]


@pytest.mark.parametrize("content", ["{", "", "[]", "null", "\udcff".encode("utf-8", "surrogateescape")])
async def test_what_is_no_request_is_refused(client: httpx.AsyncClient, content: str | bytes) -> None:
    headers = {"content-type": "application/json"}
    response = await client.post("/v1/rank", content=content, headers=headers)
    assert response.status_code in (400, 422)
    problem(response, response.status_code)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_too_large_is_refused(client: httpx.AsyncClient, announced: bool) -> None:
    content = json.dumps(GOOD | {"items": ["x" * 200] * 40}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 1000):
            yield content[at : at + 1000]

    headers = {"content-type": "application/json"}
    body = problem(await client.post("/v1/rank", content=content if announced else chunks(), headers=headers), 413)
    assert "4096 bytes" in body["detail"]


async def test_when_nothing_can_be_answered_it_says_when_to_ask_again(
    client: httpx.AsyncClient, parts: HttpParts, caplog: pytest.LogCaptureFixture
) -> None:
    parts.generations.away = True
    response = await client.post("/v1/rank", json=GOOD)
    body = problem(response, 503)
    assert response.headers["retry-after"] == "1"
    assert body["detail"] == "redis is not available", "addresses are for the log"
    assert "connection refused at 10.0.0.7" in caplog.text


async def test_before_the_first_generation_it_says_what_to_do() -> None:
    async with client_of(HttpParts().service()) as client:
        body = problem(await client.post("/v1/rank", json=GOOD), 503)
    assert body["detail"].endswith("none is active yet: train, publish and activate one first")


async def test_an_error_with_a_name_is_a_problem_that_says_it(
    client: httpx.AsyncClient, parts: HttpParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(*_: object) -> None:
        raise ForetasteError("the online store is of another version")

    monkeypatch.setattr(parts.store, "read", read)
    assert "of another version" in problem(await client.post("/v1/rank", json=GOOD), 500)["detail"]


@pytest.mark.parametrize(
    "error", [BadTowerOutput("expected (2,), got (3,)"), InvalidInput("virtual_behaviour", (3, 2), "expected (3, 4)")]
)
async def test_a_broken_ranking_tower_is_no_fault_of_the_clients(
    client: httpx.AsyncClient, parts: HttpParts, error: ForetasteError
) -> None:
    parts.towers.refusals["ranking"] = error
    response = await client.post("/v1/rank", json=GOOD)
    assert response.status_code == 200
    assert response.json()["fallback"] == "popularity"


async def test_what_nobody_foresaw_is_a_problem_that_tells_nothing(
    client: httpx.AsyncClient, parts: HttpParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def score(*_: object) -> None:
        raise LookupError("secret")

    monkeypatch.setattr(parts.towers, "score", score)
    assert "secret" not in problem(await client.post("/v1/rank", json=GOOD), 500)["detail"]


async def test_other_ways_and_methods_are_problems_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v2/rank"), 404)
    problem(await client.get("/v1/rank"), 405)


async def test_it_lives_whatever_is_away(client: httpx.AsyncClient, parts: HttpParts) -> None:
    parts.generations.away = parts.store.reads_away = True
    assert (await client.get("/healthz")).status_code == 200


async def test_it_is_ready_when_every_part_is(client: httpx.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert response.status_code == 200
    body = response.json()
    assert (body["readiness"], body["generation"]) == ("ready", 1)
    assert [part["name"] for part in body["parts"]] == [
        "generation",
        "online store",
        "zero-shot tower",
        "ranking tower",
    ]
    assert all(part["healthy"] for part in body["parts"])


@pytest.mark.parametrize("away", ["store", "zero_shot", "ranking", "pointer"])
async def test_it_is_ready_but_degraded_while_it_can_answer(
    client: httpx.AsyncClient, parts: HttpParts, away: str
) -> None:
    await client.get("/readyz")
    parts.now = 10.0
    parts.store.reads_away = away == "store"
    parts.generations.away = away == "pointer"
    parts.towers.away = {away} & {"zero_shot", "ranking"}
    response = await client.get("/readyz")
    assert response.status_code == 200
    assert response.json()["readiness"] == "degraded"
    (unhealthy,) = [part for part in response.json()["parts"] if not part["healthy"]]
    assert unhealthy["detail"].endswith(" is not available")
    assert "10.0.0." not in response.text
    assert (await client.post("/v1/rank", json=GOOD)).status_code == 200


async def test_a_tower_that_answers_wrongly_is_not_healthy(client: httpx.AsyncClient, parts: HttpParts) -> None:
    parts.towers.refusals["zero_shot"] = BadTowerOutput("zero_shot_tower 1: (1, 2) for 1 users")
    response = await client.get("/readyz")
    assert response.json()["readiness"] == "degraded"
    (unhealthy,) = [part for part in response.json()["parts"] if not part["healthy"]]
    assert unhealthy == {
        "name": "zero-shot tower",
        "healthy": False,
        "detail": "zero-shot tower answered with the wrong shape",
    }


async def test_it_is_not_ready_when_it_cannot_answer(client: httpx.AsyncClient, parts: HttpParts) -> None:
    await client.get("/readyz")
    parts.towers.away, parts.generations.away, parts.store.reads_away = {"ranking"}, True, True
    response = await client.get("/readyz")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["readiness"] == "unready"
    assert (await client.post("/v1/rank", json=GOOD)).status_code == 503


async def test_with_popularity_that_is_kept_it_answers_degraded(client: httpx.AsyncClient, parts: HttpParts) -> None:
    await client.get("/readyz")
    await parts.ranking.popularity.bring(1)
    parts.towers.away, parts.generations.away, parts.store.reads_away = {"ranking"}, True, True
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["readiness"]) == (200, "degraded")
    response = await client.post("/v1/rank", json=GOOD)
    assert (response.status_code, response.json()["fallback"]) == (200, "popularity")


async def test_a_task_that_ended_degrades_it(client: httpx.AsyncClient, parts: HttpParts) -> None:
    parts.readiness.unready("popularity", "the task ended: KeyError: 'x'")
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["readiness"]) == (200, "degraded")
    assert {"name": "popularity", "healthy": False, "detail": "the task ended: KeyError: 'x'"} in response.json()[
        "parts"
    ]
    parts.readiness.ready("popularity")
    assert (await client.get("/readyz")).json()["readiness"] == "ready"


async def test_a_part_that_hangs_is_told_in_time(
    client: httpx.AsyncClient, parts: HttpParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(health_module, "PART_SECONDS", 0.01)
    monkeypatch.setattr(parts.store, "read", hang)
    answered = (await client.get("/readyz")).json()
    assert answered["readiness"] == "degraded"
    assert {"name": "online store", "healthy": False, "detail": "no answer within 0.01 s"} in answered["parts"]


async def test_parts_are_asked_while_the_pointer_hangs(parts: HttpParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pointer answers once the last part was asked: one behind the other, each would wait in vain."""
    generation = await parts.active.get()
    asked = asyncio.Event()
    score = parts.towers.score

    async def active() -> Generation:
        await asked.wait()
        return generation

    async def noted(*arguments: Any) -> Any:
        asked.set()
        return await score(*arguments)

    monkeypatch.setattr(parts.generations, "active", active)
    monkeypatch.setattr(parts.towers, "score", noted)
    health = await examine(parts.store, parts.towers, parts.generations, parts.active)
    assert health.readiness == "ready"


async def test_it_is_not_ready_before_the_first_generation() -> None:
    parts = HttpParts()
    health = await examine(parts.store, parts.towers, parts.generations, parts.active)
    assert (health.readiness, health.generation) == ("unready", None)
    assert "none is active yet" in health.parts[0].detail


async def test_it_is_not_ready_once_the_store_was_emptied(
    parts: HttpParts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def gone() -> None:
        return None

    await parts.active.get()
    monkeypatch.setattr(parts.generations, "active", gone)
    health = await examine(parts.store, parts.towers, parts.generations, parts.active)
    assert (health.readiness, health.generation) == ("unready", 1)
    assert not health.parts[0].healthy
    assert "it was emptied" in health.parts[0].detail
    assert "foretaste rebuild" in health.parts[0].detail
    assert "it was emptied" in caplog.text


async def test_a_store_that_drops_users_is_told_beside_the_parts(parts: HttpParts) -> None:
    class Dropping:
        async def eviction(self) -> str:
            return "allkeys-lru"

    watch = StoreWatch([Dropping()], list[bool]().append)
    await watch.look()
    health = await examine(parts.store, parts.towers, parts.generations, parts.active, stores=watch)
    assert health.readiness == "ready"
    assert "maxmemory-policy allkeys-lru" in health.parts[-1].detail


async def test_metrics_are_prometheus(client: httpx.AsyncClient) -> None:
    await client.post("/v1/rank", json=GOOD)
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'foretaste_rank_answers_total{fallback="none",served_by="virtual"} 1.0' in response.text


async def test_the_page_of_routes_loads_nothing_from_outside(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert [name for name in loaded if name != "data:,"] == [
        "docs/swagger-ui.css",
        "docs/swagger-ui-bundle.js",
        "docs/start.js",
    ]
    kinds = {"css": "text/css", "js": "text/javascript"}
    for name in loaded:
        if name != "data:,":
            answer = await client.get(f"/{name}")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])
    assert "'unsafe-inline'" not in page.headers["content-security-policy"].partition("script-src")[2].partition(";")[0]
    assert 'url: "openapi.json"' in (await client.get("/docs/start.js")).text
    problem(await client.get("/docs/__init__.py"), 404)


async def test_a_service_that_lost_impressions_is_degraded(monkeypatch: pytest.MonkeyPatch) -> None:
    events = InMemoryEvents()
    impressions = BufferedImpressions(events, "user-ranked", EVENTS.encode, RankingMetrics(CollectorRegistry()))
    parts = HttpParts(impressions=impressions)
    await parts.start()
    monkeypatch.setattr(events, "send_all", None)
    async with client_of(parts.service()) as client:
        assert (await client.get("/readyz")).json()["readiness"] == "ready"
        impressions.note(UserRankedImpression())
        assert impressions._task is not None
        await asyncio.wait({impressions._task}, timeout=5)
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["readiness"]) == (200, "degraded")
    assert [part["name"] for part in response.json()["parts"] if not part["healthy"]] == ["impressions"]


async def test_what_was_noted_is_sent_before_the_application_ends() -> None:
    events = InMemoryEvents()
    impressions = BufferedImpressions(events, "user-ranked", EVENTS.encode, RankingMetrics(CollectorRegistry()))
    api = build_api(HttpParts(impressions=impressions).service_parts())
    async with api.router.lifespan_context(api):
        impressions.note(UserRankedImpression())
        assert not events.of("user-ranked")
    assert len(events.of("user-ranked")) == 1


class UserRankedImpression:
    """One that is noted without a ranking."""

    def event(self) -> UserRanked:
        return UserRanked(
            ranking_id="r1",
            user_id="u1",
            at=datetime(2026, 1, 1, tzinfo=UTC),
            items=("i1",),
            scores=(0.5,),
            served_by=Source.REAL,
        )


async def test_rankings_of_many_users_are_one_body(client: httpx.AsyncClient) -> None:
    asked = [GOOD, {"user_id": "nobody", "items": ["i2", "i3"]}, GOOD | {"explain": True}]
    response = await client.post("/v1/rank", json={"rankings": asked})
    assert response.status_code == 200
    first, second, third = response.json()["rankings"]
    assert (first["user_id"], second["user_id"], second["served_by"]) == ("u1", "nobody", "fallback")
    assert first["ranked"] == third["ranked"]
    assert third["explanation"]


async def test_what_is_to_be_explained_holds_up_nobody(
    client: httpx.AsyncClient, parts: HttpParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while two groups are at work, with another request that would be answered in its group."""
    explain, read = parts.ranking._explain, parts.store.read
    explaining, reading = asyncio.Event(), asyncio.Event()

    async def held_explain(request: RankRequest, *rest: Any) -> None:
        if request.explain:
            await explaining.wait()
        await explain(request, *rest)

    async def held_read(*given: Any) -> Any:
        await reading.wait()
        return await read(*given)

    monkeypatch.setattr(parts.ranking, "_explain", held_explain)
    monkeypatch.setattr(parts.store, "read", held_read)
    asked = [GOOD, GOOD, GOOD | {"explain": True}, GOOD]
    *plain, explained, last = (asyncio.create_task(client.post("/v1/rank", json=each)) for each in asked)
    for _ in range(20):
        await asyncio.sleep(0)
    reading.set()
    answers = await asyncio.wait_for(asyncio.gather(*plain, last), 5)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert not explained.done()
    explaining.set()
    assert (await explained).json()["explanation"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ([], "rankings"),
        ([GOOD] * 101, "rankings"),
        ("all", "rankings"),
        ([GOOD, {"user_id": "u1"}], "rankings.1.items"),
        ([GOOD, GOOD | {"items": []}], "rankings.1.items"),
        ([GOOD | {"items": ["a", "a"]}], "rankings.0.items.1"),
    ],
)
async def test_what_is_wrong_with_one_of_many_is_named(client: httpx.AsyncClient, wrong: Any, field: str) -> None:
    assert problem(await client.post("/v1/rank", json={"rankings": wrong}), 422)["field"] == field


async def test_a_user_whom_the_caller_vouches_for_is_noted_as_one_who_registered_with_nothing(
    client: httpx.AsyncClient, parts: HttpParts
) -> None:
    stranger = {"user_id": "nobody", "items": ["i1", "i9"]}
    for request in (stranger, stranger | {"vouched": True}, GOOD | {"vouched": True}):
        assert (await client.post("/v1/rank", json=request)).status_code == 200
    first, vouched, registered = (each.event().attributes for each in parts.noted.served)
    assert (first, vouched) == (None, {})
    assert registered, "what is known of a user stays"
    assert problem(await client.post("/v1/rank", json=stranger | {"vouched": "yes"}), 422)["field"] == "vouched"
