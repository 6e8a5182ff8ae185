"""The ways into the training log: what is good is durable before it is acknowledged, what is bad is told."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Message, Reason, UserRanked
from foretaste.testing import InMemoryTrainingLog
from streams.training_log import LogConfig, LogMetrics, log_pipelines
from streams.worker.collector import CollectorConfig
from tests.log_factory import AT_MS, behaved, ranked
from tests.stream_parts import NOW_MS, World, message

NOW = AT_MS / 1000 + 60


class Log(InMemoryTrainingLog):
    """Its first `failures` writes of rankings fail."""

    failures = 0

    async def write_rankings(self, rankings: Sequence[UserRanked]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("log", "No space left on device")
        await super().write_rankings(rankings)


class Form:
    def __init__(self) -> None:
        self.world, self.log = World(), Log()
        self.registry = CollectorRegistry()
        self.acknowledged: list[int] = []
        config = LogConfig(collector=CollectorConfig(BatchPolicy(size=100, age=0), max_backoff=0.001))
        metrics = LogMetrics(self.registry)
        self.ways = log_pipelines(
            self.log, self.world.store, self.world.dead_letters, self.world.metrics, metrics, config, now=lambda: NOW
        )

    async def take(self, topic: str, messages: Sequence[Message]) -> None:
        """All of them through the way of `topic`, until it has settled them."""
        way = self.ways[topic]
        for each in messages:
            way.put_nowait(each, partial(self.acknowledged.append, each.origin.offset))
        await asyncio.gather(way.run(), way.stop(grace=5))

    async def logged(self) -> tuple[list[str], list[str]]:
        found = await self.log.read(0, 2 * AT_MS)
        return [str(each) for each in found.rankings["ranking_id"].to_pylist()], [
            str(each) for each in found.behaviours["item_id"].to_pylist()
        ]

    def counted(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def ranking(ranking_id: str, offset: int = 0) -> Message:
    return message(ranked(ranking_id).model_dump_json().encode(), topic="user-ranked", offset=offset)


def behaviour(item: str, offset: int = 0) -> Message:
    return message(behaved(item).model_dump_json().encode(), topic="user-behaved", offset=offset)


async def test_all_is_logged_and_acknowledged_and_bad_rankings_are_dead_letters() -> None:
    form = Form()
    bad = [message(b"{", topic="user-ranked", offset=1), message({"user_id": "u1"}, topic="user-ranked", offset=2)]
    await form.take("user-ranked", [ranking("r0"), *bad, ranking("r3", 3)])
    assert await form.logged() == (["r0", "r3"], [])
    assert form.acknowledged == [0, 1, 2, 3]
    assert [each.value for each in form.world.events.of("dead-letters")] == [each.value for each in bad]
    assert form.counted("foretaste_logged_total", kind="ranking") == 2
    assert form.counted("foretaste_log_refused_total", kind="ranking", reason=Reason.INVALID) == 1


async def test_a_bad_behaviour_is_only_counted_since_the_way_of_a_behaviour_keeps_it() -> None:
    form = Form()
    bad = message(b"{", topic="user-behaved", offset=1)
    await form.take("user-behaved", [behaviour("i0"), bad, behaviour("i2", 2)])
    assert await form.logged() == ([], ["i0", "i2"])
    assert form.acknowledged == [0, 1, 2]
    assert form.world.events.sent == []
    assert form.counted("foretaste_logged_total", kind="behaviour") == 2
    assert form.counted("foretaste_log_refused_total", kind="behaviour", reason=Reason.MALFORMED) == 1


async def test_nothing_is_acknowledged_before_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    form = Form()
    form.log.failures = 3
    write = form.log.write_rankings

    async def watched(rankings: Sequence[UserRanked]) -> None:
        await write(rankings)
        assert form.acknowledged == []

    monkeypatch.setattr(form.log, "write_rankings", watched)
    await form.take("user-ranked", [ranking("r0"), ranking("r1", 1)])
    assert form.log.failures == 0
    assert (await form.logged(), form.acknowledged) == ((["r0", "r1"], []), [0, 1])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scores": [0.5]}, "scores: must be 2 values (got 1)"),
        ({"behaviour_actions": []}, "behaviour_actions: must be 3 values (got 0)"),
        ({"behaviour_times": [1, 2]}, "behaviour_times: must be 3 values (got 2)"),
        ({"probabilities": [0.5]}, "probabilities: must be 2 values (got 1)"),
        ({"probabilities": [0.5, 1.5]}, "probabilities.1: Input should be less than or equal to 1 (got 1.5)"),
        ({"behaviour_times": [1, 2, -(2**63) - 1]}, "behaviour_times: must fit in 64 bits"),
        ({"warm_after": 2**63}, "warm_after: must fit in 64 bits"),
        ({"ranking_generation": 2**64}, "ranking_generation: must fit in 64 bits"),
        ({"at": "2026-01-03T00:00:00Z"}, "at: must not be more than a day in the future"),
        ({"user_id": "another"}, "key: must be the user id 'another'"),
        ({"served_by": "magic"}, "served_by: Input should be 'real'"),
        ({"scores": [0.5, float("inf")]}, "scores.1: Input should be a finite number"),
    ],
)
async def test_a_ranking_that_cannot_be_logged_says_why(changed: dict[str, object], said: str) -> None:
    form = Form()
    value = json.loads(ranked("r0").model_dump_json()) | changed
    await form.take("user-ranked", [message(value, topic="user-ranked")])
    assert await form.logged() == ([], [])
    (letter,) = form.world.events.of("dead-letters")
    assert said in dict(letter.headers)["foretaste-detail"].decode()


async def test_a_ranking_may_be_larger_than_other_events() -> None:
    form = Form()
    behaviours = tuple(f"item {each:0250}" for each in range(100))
    large = ranked(
        "r0",
        behaviour_items=behaviours,
        behaviour_actions=behaviours,
        behaviour_times=tuple(range(100)),
        reason="x" * 50_000,
    )
    value = large.model_dump_json().encode()
    assert len(value) > LogConfig().max_event_bytes
    await form.take("user-ranked", [message(value, topic="user-ranked")])
    assert await form.logged() == (["r0"], [])


async def test_two_acts_of_one_item_and_time_are_two_and_one_that_is_read_again_is_one() -> None:
    form = Form()
    named = message(
        behaved("i0").model_copy(update={"event_id": "e1"}).model_dump_json().encode(), topic="user-behaved"
    )
    acts = [behaviour("i0", 1), behaviour("i0", 2), named]
    for part in (acts, acts[1:], [*acts, replace(named, origin=replace(named.origin, offset=9))]):
        await form.take("user-behaved", part)
    rows = (await form.log.read(0, 2 * AT_MS)).behaviours.to_pylist()
    assert [(row["item_id"], row["event_id"]) for row in rows] == [
        ("i0", "e1"),
        ("i0", f"user-behaved/0@1 {NOW_MS}"),
        ("i0", f"user-behaved/0@2 {NOW_MS}"),
    ]


async def test_a_time_in_the_wrong_unit_is_refused_by_each_way() -> None:
    form = Form()
    value = json.loads(ranked("r0").model_dump_json()) | {"at": (AT_MS - 60_000) / 1_000_000}
    await form.take("user-ranked", [message(value, topic="user-ranked")])
    (letter,) = form.world.events.of("dead-letters")
    hint = "at: must not be before 1980; as seconds that were taken for milliseconds it is 2025-12-31T23:59:00+00:00"
    assert dict(letter.headers)["foretaste-detail"].decode().startswith(hint)
    value = json.loads(behaved("i0").model_dump_json()) | {"at": "1979-12-31T23:59:59Z"}
    await form.take("user-behaved", [message(value, topic="user-behaved", offset=1)])
    assert await form.logged() == ([], [])
    assert form.counted("foretaste_log_refused_total", kind="behaviour", reason=Reason.INVALID) == 1
