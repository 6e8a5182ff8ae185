"""`DELETE /v1/users/{id}`: what reaches Kafka, who may, and the wait."""

from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.event_order import AttributesVersion
from foretaste.kernel.events import UserErased
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, UserFeatures, VirtualBehaviour
from serving.access.access_control import AccessPolicy
from serving.access.tokens import Scope, find_token, new_token
from serving.api import ServiceConfig
from tests.http_parts import NAMES, HttpParts, client_of, problem
from tests.serving_parts import AT, SHAPE

LATER = AT + 1_000_000_000_000
"""After all that the clocks of these tests say."""


class Parts(HttpParts):
    """A worker erases whom it is told to at the third look of whoever waits."""

    erased: ErasedUser | None = None

    async def while_waiting(self) -> None:
        if len(self.slept) == 3 and self.erased is not None:
            await self.store.erase([self.erased])


@pytest.fixture
async def parts() -> Parts:
    made = Parts()
    await made.start()
    virtual = VirtualBehaviour(1, np.zeros(SHAPE, np.float32))
    await made.store.write_enriched([EnrichedUser("anna", {"age": 25}, virtual, AT)])
    await made.store.write_behaviour([BehavedUser.after(UserFeatures("anna"), Behaviour(["i1"], ["liked"], [AT]))])
    return made


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts.service()) as made:
        yield made


async def test_the_event_reaches_its_topic_keyed_by_user(client: httpx.AsyncClient, parts: Parts) -> None:
    response = await client.delete("/v1/users/anna%2Fberlin")
    assert (response.status_code, response.json()) == (202, {"gone": None})
    (sent,) = parts.events.of(NAMES.erased)
    assert sent.key == b"anna/berlin"
    assert UserErased.model_validate_json(sent.value or b"") == UserErased(user_id="anna/berlin")


async def test_it_is_waited_for_until_nothing_is_stored(client: httpx.AsyncClient, parts: Parts) -> None:
    parts.erased = ErasedUser("anna", AttributesVersion(LATER))
    response = await client.delete("/v1/users/anna", params={"wait": 5})
    assert (response.status_code, response.json()) == (202, {"gone": True})
    assert (await client.get("/v1/users/anna")).status_code == 404


async def test_it_is_waited_for_before_any_generation_is_active() -> None:
    async with client_of(HttpParts().service()) as client:
        assert (await client.delete("/v1/users/anna", params={"wait": 0.2})).json() == {"gone": True}


async def test_what_is_still_there_after_the_wait_is_told(client: httpx.AsyncClient) -> None:
    assert (await client.delete("/v1/users/anna", params={"wait": 0.2})).json() == {"gone": False}


async def test_under_one_key_it_is_sent_once_and_names_the_event(client: httpx.AsyncClient, parts: Parts) -> None:
    for _ in range(2):
        assert (await client.delete("/v1/users/anna", headers={"Idempotency-Key": "k1"})).status_code == 202
    (sent,) = parts.events.of(NAMES.erased)
    assert UserErased.model_validate_json(sent.value or b"").event_id is not None


async def test_with_kafka_away_it_is_503(client: httpx.AsyncClient, parts: Parts) -> None:
    parts.events.outage = Unavailable("kafka", "away")
    problem(await client.delete("/v1/users/anna"), 503)


@pytest.mark.parametrize(("scope", "status"), [(Scope.WRITE, 403), (Scope.RANK, 403), (Scope.OPERATE, 202)])
async def test_who_may_write_may_not_erase(parts: Parts, scope: Scope, status: int) -> None:
    presented, kept = new_token("one", [scope])
    policy = AccessPolicy(lambda shown: find_token({"one": kept}, shown))
    async with client_of(parts.service(ServiceConfig(policy))) as client:
        found = await client.delete("/v1/users/anna", headers={"Authorization": f"Bearer {presented}"})
    assert found.status_code == status
