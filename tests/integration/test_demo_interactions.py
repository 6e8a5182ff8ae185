"""Users who act, and traffic that goes on, against a ranking service on this machine."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from foretaste.demo.background_traffic import BackgroundTraffic, TrafficResult, generate_traffic, running_traffic
from foretaste.demo.context import DemoContext, StepTimer
from foretaste.demo.first_session import CANDIDATES, CLICKS, PlannedSession, SessionPlanner, first_sessions
from foretaste.demo.interactions import ReplayedRanking, replay_interactions
from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.users import BehavedUser, Behaviour
from foretaste.testing import InMemoryEvents, InMemoryOnlineStore
from streams.parts import SignUpParts
from tests.data_factory import dataset_of, encoding_of
from tests.serving_parts import FakeTowers, KnownGenerations, generation
from tests.towers_factory import dataset, trained

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


def session(*items: str) -> PlannedSession:
    return PlannedSession(items, ["x", "y", "z"], dict.fromkeys(items, "did"))


def of_clicks(store: dict[str, int], place: Callable[[int], int]) -> Answer:
    """Who acts next stands at a place that depends on the clicks which the service has read."""

    def answer(body: dict[str, Any]) -> web.Response:
        seen = store.get(body["user_id"], 0)
        next_item, *others = body["items"]
        at = place(seen)
        assert body["shown"] == 0
        return ranked({**body, "items": [*others[:at], next_item, *others[at:]]}, behaviour_seen=seen)

    return answer


async def test_each_click_of_a_session_is_read_before_the_next_ranking_counts() -> None:
    read: dict[str, int] = {}

    class Late(InMemoryEvents):
        """A click is read at the second ranking after it."""

        async def send_all(self, topic: str, events: Any) -> None:
            await super().send_all(topic, events)
            for key, _ in events:
                asked[key.decode()] = 0

    asked: dict[str, int] = {}
    plain = of_clicks(read, lambda seen: max(3 - seen, 0))

    def answer(body: dict[str, Any]) -> web.Response:
        user = body["user_id"]
        asked[user] = asked.get(user, 0) + 1
        if asked[user] == 2:
            read[user] = read.get(user, 0) + 1
        return plain(body)

    items = [f"i{at}" for at in range(CLICKS + 1)]
    events, plans = Late(), {"u": session(*items), "v": session(*items)}
    asked.update(dict.fromkeys(plans, 10))
    async with service(answer) as api:
        found = await first_sessions(context(api, InMemoryOnlineStore(), events), plans)
    assert [sorted(set(places)) for places in found.places] == [[4], [3], [2], *[[1]] * (CLICKS - 2)]
    assert (found.users, found.unread, len(found.waits)) == (2, 0, 2 * CLICKS)
    assert [step.clicked for step in found.shown] == [None, *items[:CLICKS]]
    assert [step.place for step in found.shown][:3] == [4, 3, 2]
    sent = [UserBehaved.model_validate_json(each.value or b"") for each in events.of("p-user-behaved")]
    assert sorted((each.user_id, each.item_id) for each in sent) == sorted(
        (user, item) for user in plans for item in items[:CLICKS]
    )


async def test_a_click_that_is_never_read_is_counted_and_the_session_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretaste.demo.first_session.PATIENCE", 0.0)
    async with service(of_clicks({}, lambda _: 1)) as api:
        whole = context(api, InMemoryOnlineStore(), InMemoryEvents())
        found = await first_sessions(whole, {"u": session(*(f"i{at}" for at in range(CLICKS + 1)))})
    assert found.unread == CLICKS
    assert found.places == [[2]] * (CLICKS + 1)


def test_sessions_are_of_users_with_enough_to_click_on_and_of_others_that_they_never_met() -> None:
    data, split = dataset()
    encoding = trained().encoding
    frame = data.interactions
    users = {str(user): f"{user}.live" for user in frame["user_id"].unique()[:60]}
    planned = SessionPlanner(data, encoding, split.instant_ms, np.random.default_rng(0)).of(users)
    many = frame[frame["label"] == 1].groupby("user_id", observed=True)["item_id"].nunique()
    assert set(planned) <= {users[user] for user in users if many.get(user, 0) > CLICKS}
    assert planned
    for user, live in users.items():
        if live in planned:
            met = frame.loc[frame["user_id"] == user, "item_id"].astype(str)
            acted = frame.loc[(frame["user_id"] == user) & (frame["label"] == 1), "item_id"].astype(str)
            assert list(planned[live].items) == acted.drop_duplicates().tolist()[: CLICKS + 1]
            assert not set(planned[live].others) & set(met)
            assert len(set(planned[live].others)) == len(planned[live].others) < CANDIDATES


def test_a_session_has_no_click_on_an_item_that_is_never_drawn_beside_others() -> None:
    data, split = dataset()
    frame, encoding = data.interactions, trained().encoding
    users = {user: user for user in split.cold_users}
    before = SessionPlanner(data, encoding, split.instant_ms, np.random.default_rng(0)).of(users)
    user, plan = next(iter(before.items()))
    item = plan.items[0]
    early = (frame["item_id"] == item) & (frame["time_ms"] < split.instant_ms)
    late = replace(data, interactions=frame[~early])
    after = SessionPlanner(late, encoding, split.instant_ms, np.random.default_rng(0)).of(users)
    assert list(after[user].items)[:CLICKS] == list(plan.items)[1:]
    assert item not in {each for plan in after.values() for each in [*plan.items, *plan.others]}


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
