"""`POST /v1/users` and `/v1/behaviours`: what reaches Kafka, the answers, idempotency keys and the wait."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.running.registered_items import RegisteredItem
from foretaste.kernel.service_ports import KeptRequest
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, VirtualBehaviour
from serving.api import ServiceConfig
from tests.http_parts import NAMES, HttpParts, client_of, problem
from tests.serving_parts import AT, SHAPE

ANNA = {"user_id": "anna", "attributes": {"gender": "F", "age": 25, "note": None, "vip": True, "share": 0.5}}
ACT = {"user_id": "anna", "item_id": "i1", "action": "liked", "at": "2025-12-31T12:00:00Z", "ranking_id": "r1"}
ACT_MS = round(datetime(2025, 12, 31, 12, tzinfo=UTC).timestamp() * 1000)
PLACES = [("/v1/users", "users", ANNA), ("/v1/behaviours", "behaviours", ACT)]


class Parts(HttpParts):
    """A worker writes what it is told to at the third look of whoever waits."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[EnrichedUser | BehavedUser] = []

    async def while_waiting(self) -> None:
        if len(self.slept) == 3:
            for row in self.written:
                if isinstance(row, EnrichedUser):
                    await self.store.write_enriched([row])
                else:
                    await self.store.write_behaviour([row])


@pytest.fixture
async def parts() -> Parts:
    made = Parts()
    await made.start()
    return made


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts.service()) as made:
        yield made


def enriched(at_ms: int = AT, attributes: Any = ANNA["attributes"], of: int = 1) -> EnrichedUser:
    return EnrichedUser("anna", attributes, VirtualBehaviour(of, np.zeros(SHAPE, np.float32)), at_ms)


async def test_a_sign_up_reaches_its_topic_keyed_by_user(client: httpx.AsyncClient, parts: Parts) -> None:
    response = await client.post("/v1/users", json=ANNA | {"unknown": 1})
    assert (response.status_code, response.json()) == (202, {"accepted": 1, "readable": None})
    (sent,) = parts.events.of(NAMES.registered)
    assert sent.key == b"anna"
    assert UserRegistered.model_validate_json(sent.value or b"").attributes == ANNA["attributes"]


async def test_a_behaviour_reaches_its_topic_keyed_by_user(client: httpx.AsyncClient, parts: Parts) -> None:
    assert (await client.post("/v1/behaviours", json=ACT)).json() == {"accepted": 1, "readable": None}
    (sent,) = parts.events.of(NAMES.behaved)
    assert (sent.key, UserBehaved.model_validate_json(sent.value or b"")) == (b"anna", UserBehaved.model_validate(ACT))


@pytest.mark.parametrize(("path", "name", "event"), PLACES)
async def test_a_batch_is_sent_in_its_order(
    client: httpx.AsyncClient, parts: Parts, path: str, name: str, event: dict[str, Any]
) -> None:
    batch = [event | {"user_id": f"u{number}"} for number in range(3)]
    assert (await client.post(path, json={name: batch})).json()["accepted"] == 3
    assert [sent.key for sent in parts.events.sent] == [b"u0", b"u1", b"u2"]


@pytest.mark.parametrize(
    ("path", "body", "field", "value"),
    [
        ("/v1/users", {"attributes": {}}, "user_id", "{'attributes': {}}"),
        ("/v1/users", {"user_id": "a"}, "attributes", "{'user_id': 'a'}"),
        ("/v1/users", {"user_id": 7, "attributes": {}}, "user_id", 7),
        ("/v1/users", ANNA | {"attributes": {"age": [[1]]}}, "attributes.age", "[[1]]"),
        ("/v1/users", ANNA | {"attributes": {"filter": [[1]]}}, "attributes.filter", "[[1]]"),
        ("/v1/users", ANNA | {"attributes": {"age": 2**63}}, "attributes.age", 2**63),
        ("/v1/users", ANNA | {"attributes": {"bio": "x" * 3000}}, "body", ...),
        ("/v1/users", ANNA | {"registered_at": "2026-01-03T00:00:00Z"}, "registered_at", "2026-01-03T00:00:00+00:00"),
        ("/v1/users", ANNA | {"registered_at": "2026-01-03T00:00:00"}, "registered_at", "2026-01-03T00:00:00"),
        ("/v1/users", {"users": []}, "users", "[]"),
        ("/v1/users", {"users": {"user_id": "a"}}, "users", "{'user_id': 'a'}"),
        ("/v1/users", {"users": [ANNA, {"user_id": "", "attributes": {}}]}, "users.1.user_id", ""),
        ("/v1/users", {"users": [ANNA, ANNA | {"attributes": {"a": {}}}]}, "users.1.attributes.a", "{}"),
        ("/v1/users", {"users": [ANNA, ANNA | {"attributes": {"a": 2**70}}]}, "users.1.attributes.a", 2**70),
        ("/v1/behaviours", {**ACT, "item_id": ""}, "item_id", ""),
        ("/v1/behaviours", {**ACT, "at": "yesterday"}, "at", "yesterday"),
        ("/v1/behaviours", {"behaviours": [ACT, ACT | {"at": "1969-01-01T00:00:00Z"}]}, "behaviours.1.at", ...),
        ("/v1/behaviours", {**ACT, "action": "passed_over"}, "action", "passed_over"),
        ("/v1/behaviours", {**ACT, "passed_over": [ACT["item_id"]]}, "passed_over", ACT["item_id"]),
        ("/v1/behaviours", {**ACT, "passed_over": ["i2", 3]}, "passed_over.1", 3),
        ("/v1/behaviours", {**ACT, "at": 1_766_000}, "at", "1970-01-21T10:33:20+00:00"),
        ("/v1/users", ANNA | {"registered_at": "1979-12-31T23:59:59Z"}, "registered_at", "1979-12-31T23:59:59+00:00"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_sent(
    parts: Parts, path: str, body: object, field: str, value: object
) -> None:
    async with client_of(parts.service()) as client:
        found = problem(await client.post(path, json=body), 422)
    assert found["field"] == field, found
    assert value is ... or found["value"] == value
    assert not parts.events.sent


async def test_a_batch_beyond_the_limit_is_refused(parts: Parts) -> None:
    async with client_of(parts.service(ServiceConfig())) as client:
        found = problem(await client.post("/v1/users", json={"users": [ANNA] * 1001}), 422)
    assert found["field"] == "users"
    assert not parts.events.sent


async def test_a_kafka_that_is_away_is_503(client: httpx.AsyncClient, parts: Parts) -> None:
    parts.events.outage = Unavailable("kafka", "10.0.0.9 refuses")
    response = await client.post("/v1/users", json=ANNA)
    assert problem(response, 503)["detail"] == "kafka is not available"
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(("path", "name", "event"), PLACES)
async def test_a_key_that_comes_again_is_answered_as_before_and_sends_nothing(
    client: httpx.AsyncClient, parts: Parts, path: str, name: str, event: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "5b5c1d2e"}
    first = await client.post(path, json={name: [event]}, headers=headers)
    again = await client.post(path, json={name: [event]}, headers=headers)
    assert (first.status_code, first.content) == (again.status_code, again.content) == (202, again.content)
    assert len(parts.events.sent) == 1


async def test_the_same_key_is_another_one_on_another_path(client: httpx.AsyncClient, parts: Parts) -> None:
    headers = {"Idempotency-Key": "5b5c1d2e"}
    await client.post("/v1/users", json=ANNA, headers=headers)
    assert (await client.post("/v1/behaviours", json=ACT, headers=headers)).status_code == 202
    assert len(parts.events.sent) == 2


async def test_a_key_with_another_body_is_refused(client: httpx.AsyncClient, parts: Parts) -> None:
    headers = {"Idempotency-Key": "5b5c1d2e"}
    await client.post("/v1/users", json=ANNA, headers=headers)
    found = problem(await client.post("/v1/users", json=ANNA | {"user_id": "ben"}, headers=headers), 422)
    assert "Idempotency-Key" in found["detail"]
    assert len(parts.events.sent) == 1


async def test_a_key_whose_request_is_in_process_is_a_conflict(
    client: httpx.AsyncClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = asyncio.Event(), asyncio.Event()
    send_all = parts.events.send_all

    async def held(*arguments: Any) -> None:
        entered.set()
        await go.wait()
        await send_all(*arguments)

    monkeypatch.setattr(parts.events, "send_all", held)
    headers = {"Idempotency-Key": "5b5c1d2e"}
    first = asyncio.create_task(client.post("/v1/users", json=ANNA, headers=headers))
    await entered.wait()
    problem(await client.post("/v1/users", json=ANNA, headers=headers), 409)
    go.set()
    assert (await first).status_code == 202
    assert len(parts.events.sent) == 1


async def test_after_a_failure_the_same_key_is_another_try(client: httpx.AsyncClient, parts: Parts) -> None:
    headers = {"Idempotency-Key": "5b5c1d2e"}
    parts.events.outage = Unavailable("kafka", "gone")
    problem(await client.post("/v1/users", json=ANNA, headers=headers), 503)
    parts.events.outage = None
    assert (await client.post("/v1/users", json=ANNA, headers=headers)).status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 129, "two words", "ü"])
async def test_a_key_that_is_none_is_refused(client: httpx.AsyncClient, parts: Parts, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode())]
    found = problem(await client.post("/v1/users", json=ANNA, headers=headers), 422)
    assert found["field"] == "Idempotency-Key"
    assert not parts.events.sent


class KeysAway:
    """Redis, away from the start or once a request is carried out."""

    def __init__(self, *, from_the_start: bool) -> None:
        self._from_the_start = from_the_start

    async def begin(self, key: str, fingerprint: str) -> KeptRequest | None:
        if self._from_the_start:
            raise Unavailable("redis", "gone")
        return None

    async def finish(self, key: str, kept: KeptRequest) -> None:
        raise Unavailable("redis", "gone")

    async def forget(self, key: str) -> None:
        raise Unavailable("redis", "gone")

    async def close(self) -> None: ...


async def test_without_redis_a_key_cannot_be_kept_and_a_request_without_one_is_taken(parts: Parts) -> None:
    parts.keys = KeysAway(from_the_start=True)
    async with client_of(parts.service()) as client:
        problem(await client.post("/v1/users", json=ANNA, headers={"Idempotency-Key": "k"}), 503)
        assert not parts.events.sent
        assert (await client.post("/v1/users", json=ANNA)).status_code == 202


async def test_what_is_durable_is_accepted_though_its_answer_cannot_be_kept(parts: Parts) -> None:
    parts.keys = KeysAway(from_the_start=False)
    async with client_of(parts.service()) as client:
        assert (await client.post("/v1/users", json=ANNA, headers={"Idempotency-Key": "k"})).status_code == 202
        parts.events.outage = Unavailable("kafka", "gone")
        problem(await client.post("/v1/users", json=ANNA, headers={"Idempotency-Key": "k"}), 503)


async def test_a_sign_up_whose_key_could_not_be_kept_has_the_same_event_id_when_it_comes_again(parts: Parts) -> None:
    parts.keys = KeysAway(from_the_start=False)
    body = {"users": [ANNA, ANNA | {"event_id": "theirs"}, ANNA | {"user_id": "ben"}]}
    async with client_of(parts.service()) as client:
        await client.post("/v1/users", json=body, headers={"Idempotency-Key": "k"})
    parts.keys = KeysAway(from_the_start=False)
    async with client_of(parts.service()) as client:
        await client.post("/v1/users", json=body, headers={"Idempotency-Key": "k"})
        await client.post("/v1/users", json=body)
    ids = [UserRegistered.model_validate_json(each.value or b"").event_id for each in parts.events.of(NAMES.registered)]
    assert ids[:3] == ids[3:6]
    assert len({*ids[:3]}) == 3
    assert ids[1] == "theirs"
    assert ids[6:] == [None, "theirs", None]


@pytest.mark.parametrize(("path", "event"), [("/v1/users", ANNA), ("/v1/behaviours", ACT)])
@pytest.mark.parametrize("event_id", ["", "x" * 257, 5])
async def test_an_event_id_that_is_none_is_refused(
    client: httpx.AsyncClient, path: str, event: dict[str, Any], event_id: object
) -> None:
    found = problem(await client.post(path, json=event | {"event_id": event_id}), 422)
    assert found["field"] == "event_id"


async def test_an_act_from_a_clock_ahead_is_readable_as_of_kafkas_time(client: httpx.AsyncClient, parts: Parts) -> None:
    """It claims an hour after now; a worker keeps it as of when Kafka had it."""
    sent_ms = round(parts.wall() * 1000)
    ahead = ACT | {"at": sent_ms / 1000 + 3600}
    await parts.store.write_behaviour([BehavedUser("anna", Behaviour(["i1"], ["liked"], [sent_ms - 60_000]))])
    assert (await client.post("/v1/behaviours?wait=0.1", json=ahead)).json()["readable"] is False
    (read,) = await parts.store.read(["anna"], 1)
    both = Behaviour(["i1"] * 2, ["liked"] * 2, [sent_ms - 60_000, sent_ms - 20])
    await parts.store.write_behaviour([BehavedUser.after(read, both)])
    assert (await client.post("/v1/behaviours?wait=0.1", json=ahead)).json()["readable"] is True


async def test_it_waits_until_a_sign_up_can_be_read(client: httpx.AsyncClient, parts: Parts) -> None:
    parts.written = [enriched()]
    response = await client.post("/v1/users?wait=1", json=ANNA)
    assert response.json() == {"accepted": 1, "readable": True}
    assert len(parts.slept) == 3


async def test_it_waits_until_a_behaviour_can_be_read(client: httpx.AsyncClient, parts: Parts) -> None:
    parts.written = [BehavedUser("anna", Behaviour(["i1"], ["liked"], [ACT_MS]))]
    assert (await client.post("/v1/behaviours?wait=1", json=ACT)).json()["readable"] is True
    assert len(parts.slept) == 3


async def test_a_wait_that_ends_first_says_so(client: httpx.AsyncClient, parts: Parts) -> None:
    response = await client.post("/v1/users?wait=1", json=ANNA)
    assert (response.status_code, response.json()["readable"]) == (202, False)
    assert 0.9 < sum(parts.slept) <= 1.0
    parts.slept.clear()
    assert (await client.post("/v1/behaviours?wait=0.5", json=ACT)).json()["readable"] is False


@pytest.mark.parametrize(
    ("stored", "readable"),
    [
        (enriched(AT - 1000, {"age": 1}), False),
        (enriched(AT + 1, {"age": 1}), True),
        (enriched(AT - 1000), True),
        (enriched(AT, of=2), False),
    ],
    ids=["older attributes", "newer attributes", "the same attributes", "virtual behaviour of another generation"],
)
async def test_what_counts_as_readable(
    client: httpx.AsyncClient, parts: Parts, stored: EnrichedUser, readable: bool
) -> None:
    await parts.store.write_enriched([stored])
    assert (await client.post("/v1/users?wait=0.1", json=ANNA)).json()["readable"] is readable


async def test_a_behaviour_older_than_a_full_one_has_nothing_to_wait_for(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    behaviour = Behaviour(["i2"] * 100, ["liked"] * 100, [ACT_MS + 1 + n for n in range(100)])
    await parts.store.write_behaviour([BehavedUser("anna", behaviour)])
    assert (await client.post("/v1/behaviours?wait=0.1", json=ACT)).json()["readable"] is True


async def test_a_store_that_is_away_has_it_not_yet(client: httpx.AsyncClient, parts: Parts) -> None:
    parts.store.reads_away = True
    assert (await client.post("/v1/users?wait=0.1", json=ANNA)).json() == {"accepted": 1, "readable": False}


@pytest.mark.parametrize("wait", ["-1", "11", "nan", "inf", "soon"])
async def test_a_wait_that_is_none_is_refused(client: httpx.AsyncClient, parts: Parts, wait: str) -> None:
    assert problem(await client.post(f"/v1/users?wait={wait}", json=ANNA), 422)["field"] == "wait"
    assert not parts.events.sent


ITEM = {"item_id": "i9", "attributes": {"genre": "drama", "tags": ["a", 1], "year": None}}


async def test_an_item_reaches_its_topic_keyed_by_item(client: httpx.AsyncClient, parts: Parts) -> None:
    response = await client.post("/v1/items", json=ITEM | {"unknown": 1})
    assert (response.status_code, response.json()) == (202, {"accepted": 1, "readable": None})
    batch = [ITEM | {"item_id": f"i{number}"} for number in range(3)]
    assert (await client.post("/v1/items", json={"items": batch})).json()["accepted"] == 3
    assert [sent.key for sent in parts.events.of(NAMES.item_registered)] == [b"i9", b"i0", b"i1", b"i2"]


async def test_who_waits_for_an_item_hears_whether_this_service_has_it(client: httpx.AsyncClient, parts: Parts) -> None:
    assert (await client.post("/v1/items?wait=0.5", json=ITEM)).json() == {"accepted": 1, "readable": False}
    await parts.item_registry.register([RegisteredItem("i9", ITEM["attributes"], AT)])  # type: ignore[arg-type]
    await parts.items.look()
    assert (await client.post("/v1/items?wait=0.5", json=ITEM)).json() == {"accepted": 1, "readable": True}


async def test_an_item_under_an_idempotency_key_is_sent_once(client: httpx.AsyncClient, parts: Parts) -> None:
    for _ in range(2):
        assert (await client.post("/v1/items", json=ITEM, headers={"Idempotency-Key": "k1"})).status_code == 202
    assert len(parts.events.of(NAMES.item_registered)) == 1


async def test_an_item_that_is_taken_out_is_a_null_value_under_its_key(client: httpx.AsyncClient, parts: Parts) -> None:
    answer = await client.delete("/v1/items/a%2Fb%20c")
    assert (answer.status_code, answer.json()) == (202, {"gone": None})
    (sent,) = parts.events.of(NAMES.item_registered)
    assert (sent.key, sent.value) == (b"a/b c", None)
    await parts.item_registry.register([RegisteredItem("i9", {"genre": "drama"}, AT)])
    await parts.items.look()
    assert (await client.delete("/v1/items/i9?wait=0.5")).json() == {"gone": False}
    await parts.item_registry.register([RegisteredItem("i9", None, AT + 1)])
    await parts.items.look()
    assert (await client.delete("/v1/items/i9?wait=0.5")).json() == {"gone": True}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"item_id": "", "attributes": {}}, "item_id"),
        ({"item_id": "i1"}, "attributes"),
        ({"item_id": "i1", "attributes": {"tags": [["a"]]}}, "attributes.tags"),
        ({"item_id": "i1", "attributes": {"year": 2**70}}, "attributes.year"),
        ({"items": [ITEM, {"item_id": "i1", "attributes": {"year": 2**70}}]}, "items.1.attributes.year"),
        ({"items": []}, "items"),
    ],
)
async def test_an_item_that_is_wrong_is_named_and_nothing_is_sent(
    client: httpx.AsyncClient, parts: Parts, body: dict[str, Any], field: str
) -> None:
    response = await client.post("/v1/items", json=body)
    assert response.status_code == 422
    assert response.json()["field"].startswith(field)
    assert not parts.events.sent
