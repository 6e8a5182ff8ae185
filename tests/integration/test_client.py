"""The client against the service itself, over a real socket: every call, both forms, and what becomes of failures."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from foretaste.client import AsyncForetaste, Foretaste, RequestRefused, ServiceAway, TryPolicy, UnreadableAnswer
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.users import EnrichedUser
from serving.access.access_control import AccessPolicy
from serving.access.tokens import Scope, find_token, new_token
from serving.api import ServiceConfig
from tests.http_parts import NAMES, HttpParts
from tests.http_server import Served, served
from tests.integration.brokers import free_port
from tests.serving_parts import AT

ROOT = Path(__file__).parents[2]
TOKEN, KEPT = new_token("shop", Scope)
RANKER, RANKER_KEPT = new_token("ranker", [Scope.RANK])
KNOWN = {"shop": KEPT, "ranker": RANKER_KEPT}
HASTY = TryPolicy(deadline=5.0, timeout=0.3, most=3)
Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts()
    await made.start()
    await made.sign_up("anna")
    return made


@pytest.fixture
async def service(parts: HttpParts) -> AsyncIterator[Served]:
    config = ServiceConfig(AccessPolicy(lambda presented: find_token(KNOWN, presented)))
    async with served(parts.service(config)) as made:
        yield made


@pytest.fixture(params=["blocking", "asynchronous"])
async def ask(request: pytest.FixtureRequest, service: Served) -> AsyncIterator[Ask]:
    """`ask("rank", "anna", […])` is the call of that name, of either client."""
    if request.param == "blocking":
        with Foretaste(service.url, TOKEN, tries=HASTY) as client:
            yield lambda name, *given, **named: asyncio.to_thread(getattr(client, name), *given, **named)
    else:
        async with AsyncForetaste(f"{service.url}/", TOKEN, tries=HASTY) as other:
            yield lambda name, *given, **named: getattr(other, name)(*given, **named)


async def test_three_lines_to_the_first_ranking(service: Served) -> None:
    def three_lines() -> list[str]:
        with Foretaste(service.url, TOKEN) as client:
            client.register("anna", {"gender": "F", "age": 25})
            ranking = client.rank("anna", ["i1", "i9"])
            return [item["item_id"] for item in ranking.ranked]

    assert await asyncio.to_thread(three_lines) == ["i9", "i1"]


async def test_a_ranking(ask: Ask, parts: HttpParts) -> None:
    ranking = await ask("rank", "anna", ["i1", "i9"], context={"hour": 8}, shown=1)
    assert (ranking.served_by, ranking.ranked[0]["item_id"]) == ("virtual", "i9")
    (noted,) = parts.noted.served
    assert (noted.shown, noted.context) == (1, {"hour": 8})
    await ask("rank", "anna", ["i1"], shown=0)
    assert len(parts.noted.served) == 1


async def test_sign_ups(ask: Ask, parts: HttpParts) -> None:
    accepted = await ask(
        "register", "ben", {"age": 41, "vip": True}, registered_at=datetime(2025, 1, 1, tzinfo=UTC), event_id="e1"
    )
    assert (accepted.accepted, accepted.readable) == (1, None)
    many = [UserRegistered(user_id=f"ü{number}", attributes={}) for number in range(3)]
    assert (await ask("register_many", many)).accepted == 3
    sent = [UserRegistered.model_validate_json(each.value or b"") for each in parts.events.of(NAMES.registered)]
    assert [each.user_id for each in sent] == ["ben", "ü0", "ü1", "ü2"]
    assert (sent[0].attributes, sent[0].event_id) == ({"age": 41, "vip": True}, "e1")


async def test_questions(ask: Ask, parts: HttpParts) -> None:
    asked = await ask("onboard", "ben", attributes={"age": 41}, questions=2)
    assert (asked.items, asked.answered) == (["i1", "i2"], 0)
    told = await ask("onboard", "anna", {"i1": True, "i2": False, "i3": None}, wait=0.1)
    assert (told.items, told.answered, told.readable) == ([], 2, False)
    (signed_up,) = [UserRegistered.model_validate_json(each.value or b"") for each in parts.events.of(NAMES.registered)]
    assert (signed_up.user_id, signed_up.attributes) == ("ben", {"age": 41})
    sent = [UserBehaved.model_validate_json(each.value or b"") for each in parts.events.of(NAMES.behaved)]
    assert [(each.item_id, each.action) for each in sent] == [("i1", "answered_yes"), ("i2", "answered_no")]
    with pytest.raises(RequestRefused, match="answers"):
        await ask("onboard", "anna", {"nobody": True})
    with pytest.raises(InvalidInput, match="questions"):
        await ask("onboard", "anna", questions=65)


async def test_behaviours(ask: Ask, parts: HttpParts) -> None:
    parts.now = datetime.now(UTC).timestamp() - AT / 1000
    await ask("behave", "anna", "i1", action="liked", ranking_id="r1", event_id="e1", passed_over=["i3", "i4"])
    at = datetime(2025, 1, 1, tzinfo=UTC)
    await ask("behave_many", [UserBehaved(user_id="anna", item_id="i2", at=at)])
    first, second = (UserBehaved.model_validate_json(each.value or b"") for each in parts.events.of(NAMES.behaved))
    assert (first.item_id, first.action, first.ranking_id, first.event_id) == ("i1", "liked", "r1", "e1")
    assert first.passed_over == ("i3", "i4")
    assert second.event_id is None
    with pytest.raises(RequestRefused, match="passed_over"):
        await ask("behave", "anna", "i1", passed_over=["i1"])
    assert abs((datetime.now(UTC) - first.at).total_seconds()) < 60
    assert (second.item_id, second.at) == ("i2", at)


async def test_a_wait(ask: Ask, parts: HttpParts) -> None:
    assert (await ask("register", "anna", {"age": 25}, wait=1)).readable is True
    assert (await ask("register", "nobody", {"age": 25}, wait=1)).readable is False


async def test_an_erasure(ask: Ask, parts: HttpParts) -> None:
    assert (await ask("erase", "a/b")).gone is None
    assert (await ask("erase", "nobody", wait=1)).gone is True
    assert (await ask("erase", "anna", wait=1)).gone is False
    assert [each.key for each in parts.events.of(NAMES.erased)] == [b"a/b", b"nobody", b"anna"]


@pytest.mark.parametrize("user_id", ["ben", "a/b c?#&", "..", ".", "ü%2F", "/", " "])
async def test_a_user(ask: Ask, parts: HttpParts, user_id: str) -> None:
    await parts.store.write_enriched([EnrichedUser(user_id, {"age": 1}, None, AT)])
    found = await ask("user", user_id)
    assert (found.user_id, found.attributes, found.stage) == (user_id, {"age": 1}, "cold")
    assert await ask("user", "nobody") is None


async def test_generations_and_the_way_back(ask: Ask) -> None:
    assert [each.number for each in await ask("generations")] == [1, 2]
    done = await ask("rollback", expected=2, reason="worse")
    assert (done.left, done.active) == (2, 1)
    with pytest.raises(RequestRefused, match="generation 1 is active") as caught:
        await ask("rollback", expected=2)
    assert caught.value.status == 409


async def test_readiness(ask: Ask, parts: HttpParts) -> None:
    assert await ask("ready") is True
    parts.generations.away, parts.store.reads_away, parts.towers.away = True, True, {"ranking", "zero_shot"}
    parts.now += 10
    assert await ask("ready") is False


async def test_what_is_refused_carries_its_problem(ask: Ask) -> None:
    with pytest.raises(RequestRefused) as caught:
        await ask("rank", "anna", ["i1", "i1"])
    assert (caught.value.status, caught.value.problem.field) == (422, "items.1")
    assert caught.value.problem.errors[0].value == "i1"
    assert len(caught.value.request_id) == 32
    assert not caught.value.retriable


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("ft_shop_wrong", 401), (RANKER, 403)], ids=["none", "unknown", "another scope"]
)
async def test_who_may_not_is_told_so(service: Served, token: str | None, status: int) -> None:
    async with AsyncForetaste(service.url, token) as client:
        with pytest.raises(RequestRefused) as caught:
            await client.generations()
    assert caught.value.status == status


async def test_what_cannot_be_right_is_not_even_sent(ask: Ask, parts: HttpParts) -> None:
    with pytest.raises(InvalidInput, match="user_id"):
        await ask("register", "", {})
    with pytest.raises(InvalidInput, match="at: Input should have timezone info"):
        await ask("behave", "anna", "i1", at=datetime(2025, 1, 1))  # noqa: DTZ001
    for user_id in ("", "\ud800"):
        with pytest.raises(InvalidInput, match="user_id"):
            await ask("user", user_id)
    with pytest.raises(InvalidInput, match="cannot be sent as JSON"):
        await ask("rank", "anna", ["i1"], context={"hour": float("nan")})
    assert not parts.events.sent


class AwayFor:
    """A Kafka that is away for the first sends; it may have taken them all the same."""

    def __init__(self, parts: HttpParts, times: int, *, takes: bool = False) -> None:
        self.tries = 0
        self._send_all, self._times, self._takes = parts.events.send_all, times, takes

    async def send_all(self, *given: Any) -> None:
        self.tries += 1
        if self.tries <= self._times:
            if self._takes:
                await self._send_all(*given)
            raise Unavailable("kafka", "gone")
        await self._send_all(*given)


async def test_what_may_succeed_later_is_tried_again(
    ask: Ask, parts: HttpParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = AwayFor(parts, 2)
    monkeypatch.setattr(parts.events, "send_all", kafka.send_all)
    monkeypatch.setattr("serving.problems.RETRY_AFTER", "0")
    assert (await ask("register", "ben", {})).accepted == 1
    assert (kafka.tries, len(parts.events.sent)) == (3, 1)


async def test_it_is_given_up_after_so_many_tries(ask: Ask, parts: HttpParts, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = AwayFor(parts, 100)
    monkeypatch.setattr(parts.events, "send_all", kafka.send_all)
    monkeypatch.setattr("serving.problems.RETRY_AFTER", "0")
    with pytest.raises(ServiceAway, match="kafka is not available") as caught:
        await ask("register", "ben", {})
    assert (kafka.tries, caught.value.retriable) == (HASTY.most, True)
    assert caught.value.problem is not None
    assert caught.value.problem.status == 503


async def test_a_wait_beyond_the_deadline_is_not_waited_for(
    ask: Ask, parts: HttpParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = AwayFor(parts, 100)
    monkeypatch.setattr(parts.events, "send_all", kafka.send_all)
    monkeypatch.setattr("serving.problems.RETRY_AFTER", "3600")
    began = asyncio.get_running_loop().time()
    with pytest.raises(ServiceAway):
        await ask("register", "ben", {})
    assert asyncio.get_running_loop().time() - began < HASTY.deadline
    assert kafka.tries == 1


async def test_an_answer_that_is_lost_is_asked_for_again_and_carried_out_once(
    ask: Ask, parts: HttpParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try takes longer than the client waits; the second finds it in process, the third its answer."""
    send_all, entered = parts.events.send_all, []

    async def slow(*given: Any) -> None:
        entered.append(given)
        await asyncio.sleep(HASTY.timeout * 2)
        await send_all(*given)

    monkeypatch.setattr(parts.events, "send_all", slow)
    monkeypatch.setattr("serving.idempotency.RETRY_AFTER", "1")
    assert (await ask("register", "ben", {})).accepted == 1
    assert len(parts.events.sent) == len(entered) == 1


async def test_a_rollback_whose_answer_is_lost_is_not_sent_again(
    ask: Ask, parts: HttpParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollback = parts.summaries.rollback

    async def slow(*given: Any) -> object:
        done = await rollback(*given)
        await asyncio.sleep(HASTY.timeout * 2)
        return done

    monkeypatch.setattr(parts.summaries, "rollback", slow)
    with pytest.raises(ServiceAway):
        await ask("rollback")
    assert (parts.summaries.active, len(parts.summaries.moves)) == (1, 1)


@pytest.mark.parametrize("call", ["rank", "rollback"])
async def test_a_service_that_is_not_there(call: str) -> None:
    arguments: list[Any] = ["anna", ["i1"]] if call == "rank" else []
    async with AsyncForetaste(f"http://127.0.0.1:{free_port()}", tries=HASTY) as client:
        with pytest.raises(ServiceAway, match=r"http://127\.0\.0\.1") as caught:
            await getattr(client, call)(*arguments)
    assert (caught.value.sent, caught.value.retriable) == (False, True)


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (b"502 Bad Gateway", ServiceAway, "502 Bad Gateway: nginx"),
        (b"413 Too Large", RequestRefused, "413 Too Large: nginx"),
        (b"200 OK", UnreadableAnswer, "cannot be read: StoredUser: Invalid JSON"),
    ],
)
async def test_what_stands_between_may_answer_with_anything(status: bytes, error: type[Exception], said: str) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 5\r\nconnection: close\r\n\r\nnginx")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, AsyncForetaste(f"http://127.0.0.1:{port}", tries=TryPolicy(most=1)) as client:
        with pytest.raises(error, match=said):
            await client.user("anna")


async def test_the_example_of_the_page_runs(service: Served) -> None:
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines = compile(example.replace("http://localhost:8080", service.url), "docs/http.md", "exec")
    known: dict[str, Any] = {"token": TOKEN}
    await asyncio.to_thread(exec, lines, known)
    assert [item["item_id"] for item in known["ranking"].ranked] == ["Heat (1995)", "Toy Story (1995)"]
    known["service"].close()


@pytest.mark.parametrize(
    ("field", "value"), [("deadline", 0), ("timeout", -1), ("most", 0), ("deadline", float("nan"))]
)
def test_a_policy_that_is_none_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=field):
        TryPolicy(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "http://", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="expected http://host:port"):
        Foretaste(url)
