"""Users who act, and traffic that goes on, against a ranking service on this machine."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from foretaste.demo.background_traffic import BackgroundTraffic, TrafficResult, generate_traffic, running_traffic
from foretaste.demo.context import DemoContext, StepTimer
from foretaste.demo.interactions import ReplayedRanking, replay_interactions
from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.users import BehavedUser, Behaviour
from foretaste.testing import InMemoryEvents, InMemoryOnlineStore
from streams.parts import SignUpParts
from tests.data_factory import dataset_of, encoding_of
from tests.serving_parts import FakeTowers, KnownGenerations, generation

Answer = Callable[[dict[str, Any]], web.Response]


def ranked(body: dict[str, Any], **fields: Any) -> web.Response:
    """All candidates as they came, by generation 1."""
    items = [{"item_id": item, "score": 0.5} for item in body["items"]]
    own = {"user_id": body["user_id"], "ranking_id": f"of {body['user_id']} {body['items'][0]}", "ranked": items}
    served = {"served_by": "virtual", "zero_shot_generation": 1, "ranking_generation": 1}
    return web.json_response(own | served | fields)


@asynccontextmanager
async def service(answer: Answer) -> AsyncIterator[str]:
    """The address of one that answers so."""

    async def handle(request: web.Request) -> web.Response:
        return answer(await request.json())

    app = web.Application()
    app.router.add_post("/v1/rank", handle)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


class Worker(InMemoryEvents):
    """Acts are readable once they are sent."""

    def __init__(self, store: InMemoryOnlineStore) -> None:
        super().__init__()
        self._store = store

    async def send_all(self, topic: str, events: Any) -> None:
        await super().send_all(topic, events)
        acts = [UserBehaved.model_validate_json(value) for _, value in events]
        user_id = acts[0].user_id
        (user,) = await self._store.read([user_id], 1)
        items = (*user.behaviour.items, *(each.item_id for each in acts))
        behaviour = Behaviour(items, ("did",) * len(items), tuple(range(len(items))))
        await self._store.write_behaviour([BehavedUser.after(user, behaviour)])


def context(api: str, store: InMemoryOnlineStore, events: InMemoryEvents) -> DemoContext:
    parts = SignUpParts(store, FakeTowers(), KnownGenerations(), events)
    dataset = dataset_of([(0, 0, 0, 1)])
    return DemoContext(parts, api, "p-", dataset, encoding_of(), generation(1), 0, StepTimer(), lambda *_: None)


async def test_acts_answer_their_ranking_and_are_readable_before_the_next() -> None:
    store = InMemoryOnlineStore()
    events, seen, shown = Worker(store), list[tuple[str, int]](), list[int]()

    def answer(body: dict[str, Any]) -> web.Response:
        seen.append((body["user_id"], len(events.sent)))
        shown.append(body["shown"])
        return ranked(body)

    rankings = {
        "u": [ReplayedRanking(["a", "b", "c"], {"a": "bought", "b": "did"}), ReplayedRanking(["d", "e"], {"e": "did"})]
    }
    done: list[int] = []
    async with service(answer) as api:
        acted = await replay_interactions(context(api, store, events), rankings, done.append)
    assert seen == [("u", 0), ("u", 2)]
    assert shown == [3, 2]
    assert done == [1, 2]
    assert (acted.users, acted.rankings, acted.actions) == (1, 2, 3)
    sent = [UserBehaved.model_validate_json(each.value or b"") for each in events.of("p-user-behaved")]
    assert [(each.item_id, each.action, each.ranking_id) for each in sent] == [
        ("a", "bought", "of u a"),
        ("b", "did", "of u a"),
        ("e", "did", "of u d"),
    ]
    assert {each.key for each in events.sent} == {b"u"}
    assert all(acted.started <= each.at.timestamp() <= acted.ended for each in sent)


async def test_a_service_that_refuses_ends_the_acting() -> None:
    store = InMemoryOnlineStore()
    async with service(lambda _: web.Response(status=503, text="no generation")) as api:
        with pytest.raises(ExceptionGroup) as caught:
            await replay_interactions(
                context(api, store, Worker(store)), {"u": [ReplayedRanking(["a"], {"a": "did"})]}, lambda _: None
            )
    assert caught.group_contains(Unavailable, match="503: no generation")


def traffic(api: str, events: InMemoryEvents | None = None) -> BackgroundTraffic:
    open_events: Callable[[], InMemoryEvents] = InMemoryEvents if events is None else partial(_same, events)
    return BackgroundTraffic(
        api, "signed", open_events, [{"city": "north"}, {"city": "south"}], "m", ["u", "v"], ["a", "b"], 0
    )


def _same(events: InMemoryEvents) -> InMemoryEvents:
    return events


@pytest.mark.parametrize(
    ("answer", "rankings", "failed", "mixed"),
    [
        (ranked, 1, 0, 0),
        (lambda body: ranked(body, ranking_generation=2), 1, 0, 1),
        (lambda body: ranked(body, zero_shot_generation=None), 1, 0, 0),
        (lambda _: web.Response(status=500, text="broken"), 0, 1, 0),
    ],
)
async def test_traffic_is_counted_by_what_became_of_it(answer: Answer, rankings: int, failed: int, mixed: int) -> None:
    """What one request counts as; a process that stood still has more of them under way than were waited for."""
    asked: list[dict[str, Any]] = []
    enough, events = asyncio.Event(), InMemoryEvents()

    def counted(body: dict[str, Any]) -> web.Response:
        asked.append(body)
        if len(asked) >= 8:
            enough.set()
        return answer(body)

    async with service(counted) as api:
        during = await generate_traffic(traffic(api, events), enough.wait)
    requests = len(asked)
    assert requests >= 8
    assert (during.rankings, during.failed, during.mixed) == (rankings * requests, failed * requests, mixed * requests)
    assert {body["user_id"] for body in asked} == {"u", "v"}
    assert all(body["shown"] == 0 for body in asked)
    assert len(during.latencies_ms) == rankings * requests
    signed = [UserRegistered.model_validate_json(each.value or b"") for each in events.of("signed")]
    assert [each.user_id for each in signed] == during.newcomers == [f"m{number}" for number in range(len(signed))]
    assert [each.attributes["city"] for each in signed[:2]] == ["north", "south"]


async def test_traffic_goes_on_in_another_process_until_it_is_told() -> None:
    enough = asyncio.Event()

    def answer(body: dict[str, Any]) -> web.Response:
        enough.set()
        return ranked(body)

    def go_on(api: str, loop: asyncio.AbstractEventLoop) -> TrafficResult:
        with running_traffic(traffic(api)) as stop:
            asyncio.run_coroutine_threadsafe(enough.wait(), loop).result(60)
            return stop()

    async with service(answer) as api:
        during = await asyncio.to_thread(go_on, api, asyncio.get_running_loop())
    assert during.rankings >= 1
    assert during.failed == 0


async def test_traffic_ends_quietly_with_whoever_wanted_it(capfd: pytest.CaptureFixture[str]) -> None:
    def go_wrong(api: str) -> None:
        with running_traffic(traffic(api)):
            raise KeyError("something else")

    async with service(ranked) as api:
        with pytest.raises(KeyError, match="something else"):
            await asyncio.to_thread(go_wrong, api)
    assert capfd.readouterr().err == ""


def test_traffic_that_cannot_begin_is_told() -> None:
    broken = BackgroundTraffic("http://127.0.0.1:9", "signed", _no_events, [{}], "m", ["u"], ["a"], 0)
    with pytest.raises(ForetasteError, match="does not answer"), running_traffic(broken) as stop:
        stop()


def _no_events() -> InMemoryEvents:
    raise SystemExit(3)
