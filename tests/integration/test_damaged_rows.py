"""Rows that cannot be read, on a real Redis-protocol server: what a Feast client, or anybody, may leave there."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from features.feast_api import FeatureStore, RepoConfig
from features.online import damage
from features.online.keys import Keys
from features.online.layout import BEHAVIOUR, stamp_of
from features.online.redis_store import RedisStore
from features.redis.address import RedisAddress
from features.repo_config import apply_features, repo_config
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, UserFeatures, VirtualBehaviour
from serving.metrics import RankingMetrics
from serving.rankings.ranking import Ranking
from serving.requests import RankRequest
from streams.behaviours import Behaviours, append
from streams.sign_ups import SignUps
from tests.serving_parts import SHAPE, Parts
from tests.stream_parts import NOW, NOW_MS, World, message, sign_up

LATER = datetime.fromtimestamp(NOW, UTC)
VIRTUAL = VirtualBehaviour(1, np.ones(SHAPE, np.float32))
TEXTS = {
    "no JSON": "country=NO",
    "a list": "[1,2]",
    "a text": '"NO"',
    "null": "null",
    "single quotes": "{'country': 'NO'}",
    "half a character": '{"country": "N\\ud83d"}',
}


class Damaged:
    """A project of its own in Redis, in which rows are damaged as somebody else could."""

    def __init__(self, config: RepoConfig, url: str) -> None:
        self.store = RedisStore(config, timeout=10)
        self._feast = FeatureStore(config=config)
        self._keys = Keys(config.project)
        self._client = Redis.from_url(url)

    def push(self, view: str, user_id: str, **features: Any) -> None:
        """As a team's own Feast client writes."""
        row = {"user_id": [user_id], **{name: [value] for name, value in features.items()}, "event_timestamp": [LATER]}
        self._feast.write_to_online_store(view, pd.DataFrame(row))

    async def put(self, user_id: str, field: bytes, value: bytes) -> None:
        await self._client.execute_command("HSET", self._keys.of(user_id), field, value)

    async def put_other_type(self, user_id: str) -> None:
        await self._client.set(self._keys.of(user_id), b"no hash")

    async def read(self, user_id: str) -> UserFeatures:
        (features,) = await self.store.read([user_id], 1)
        return features

    async def close(self) -> None:
        await self.store.close()
        await self._client.aclose()


@pytest.fixture
async def damaged(redis_url: str, tmp_path: Path) -> AsyncIterator[Damaged]:
    config = repo_config(RedisAddress.parse(redis_url), str(tmp_path / "registry.db"), f"test_{uuid4().hex}")
    apply_features(config)
    opened = Damaged(config, redis_url)
    yield opened
    await opened.close()


async def all_kinds(damaged: Damaged) -> list[str]:
    """Users of all kinds of damage, and "good", in whose rows nothing is wrong."""
    for user_id, text in TEXTS.items():
        damaged.push("user_attributes", user_id, attributes=text)
    times = [NOW_MS - 2, NOW_MS - 1, NOW_MS]
    damaged.push("user_behaviour", "uneven", items=["a", "b", "c"], actions=["x", "x"], times=times, version=1)
    damaged.push("virtual_behaviour_odd", "odd", vectors=[0.1] * 7, dimension=3, generation=1)
    await damaged.put_other_type("other type")
    await damaged.put("no version", BEHAVIOUR[-1], b"\xff\xff")
    await damaged.put("no time", stamp_of("user_attributes"), b"\xff\xff")
    await damaged.store.write_enriched([EnrichedUser("good", {"age": 25}, VIRTUAL, NOW_MS)])
    await damaged.store.write_behaviour([BehavedUser("good", Behaviour(["a"], ["x"], [NOW_MS - 5]))])
    return [*TEXTS, "uneven", "odd", "other type", "no version", "no time", "good"]


async def test_a_rotten_row_is_read_as_never_written_and_hurts_nobody_else(
    damaged: Damaged, caplog: pytest.LogCaptureFixture
) -> None:
    users = await all_kinds(damaged)
    for _ in range(3):
        found = {each.user_id: each for each in await damaged.store.read(users, 1)}
    all_views = ("user_attributes", "user_behaviour", "virtual_behaviour_odd")
    assert {user: each.damaged for user, each in found.items()} == {
        **dict.fromkeys(TEXTS, ("user_attributes",)),
        "uneven": ("user_behaviour",),
        "odd": ("virtual_behaviour_odd",),
        "other type": all_views,
        "no version": ("user_behaviour",),
        "no time": ("user_attributes",),
        "good": (),
    }
    for user in set(users) - {"good"}:
        each = replace(found[user], damaged=(), behaviour_version=0, behaviour_us=0)
        assert each == UserFeatures(user), "all else of these users was never written"
    assert found["good"].attributes == {"age": 25}
    assert len(found["good"].behaviour) == 1
    assert found["good"].virtual is not None
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == len(users) - 1, "each once"
    assert any("'uneven': stored user_behaviour cannot be read" in line for line in told)


async def test_the_log_names_a_bounded_number_of_users(
    damaged: Damaged, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "TOLD", 3)
    users = await all_kinds(damaged)
    assert sum(bool(each.damaged) for each in await damaged.store.read(users, 1)) == len(users) - 1
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 4
    assert told[-1] == "that was the damaged user number 3: no more of them are named"


@pytest.mark.parametrize("at_ms", [NOW_MS - 1000, NOW_MS + 1000], ids=["older than the rotten row", "newer"])
async def test_the_next_write_mends_each_view(damaged: Damaged, at_ms: int) -> None:
    users = await all_kinds(damaged)
    await damaged.store.write_enriched([EnrichedUser(user, {"age": 30}, VIRTUAL, at_ms) for user in users])
    found = await damaged.store.read(users, 1)
    mended = [each for each in found if each.user_id != "good"]
    assert [each.attributes for each in mended] == [{"age": 30}] * len(mended)
    assert all(each.virtual is not None for each in mended)
    rows = [BehavedUser.after(each, append(each.behaviour, "b", "x", NOW_MS)) for each in found]
    assert await damaged.store.write_behaviour(rows) == []
    found = await damaged.store.read(users, 1)
    assert [each.damaged for each in found] == [()] * len(users)
    assert [list(each.behaviour.items) for each in found] == [["b"]] * len(mended) + [["a", "b"]]


async def test_what_is_written_over_a_key_of_another_type_is_a_whole_user(damaged: Damaged) -> None:
    await damaged.put_other_type("u1")
    assert await damaged.store.write_behaviour([BehavedUser("u1", Behaviour(["a"], ["x"], [NOW_MS]))]) == []
    await damaged.store.write_virtual([ReenrichedUser("u1", VIRTUAL, NOW_MS)])
    held = await damaged.read("u1")
    assert (held.damaged, len(held.behaviour), held.attributes) == ((), 1, None)
    assert held.virtual is not None


async def test_another_version_than_the_read_one_is_refused_though_the_row_is_damaged(damaged: Damaged) -> None:
    await all_kinds(damaged)
    assert await damaged.store.write_behaviour([BehavedUser("uneven", Behaviour(["a"], ["x"], [NOW_MS]))]) == ["uneven"]


async def test_a_walk_passes_over_keys_that_are_no_hash(damaged: Damaged) -> None:
    users = await all_kinds(damaged)
    found: set[str] = set()
    cursor: str | None = ""
    while cursor is not None:
        page, cursor = await damaged.store.users(cursor)
        found |= set(page)
    assert found == {*TEXTS, "good"}
    assert "other type" in users


async def test_a_teams_push_in_another_form_of_the_version_is_compared_by_what_it_means(damaged: Damaged) -> None:
    await damaged.put("u1", BEHAVIOUR[-1], b"\x20\x00")
    held = await damaged.read("u1")
    assert (held.behaviour_version, held.damaged) == (0, ())
    assert await damaged.store.write_behaviour([BehavedUser.after(held, Behaviour(["a"], ["x"], [NOW_MS]))]) == []
    assert (await damaged.read("u1")).behaviour_version == 1


async def test_a_push_between_read_and_write_is_not_written_over_though_it_kept_the_version(damaged: Damaged) -> None:
    await damaged.store.write_behaviour([BehavedUser("u1", Behaviour(["a"], ["x"], [NOW_MS - 5]))])
    seen = await damaged.read("u1")
    damaged.push("user_behaviour", "u1", items=["a", "b"], actions=["x", "x"], times=[1, 2], version=1)
    assert await damaged.store.write_behaviour([BehavedUser.after(seen, Behaviour(["a"], ["x"], [NOW_MS]))]) == ["u1"]


def sign_up_way(world: World) -> SignUps:
    return SignUps(
        world.parts,
        world.dead_letters,
        world.metrics,
        enriched_topic="e",
        profiles_topic="p",
        max_event_bytes=2000,
        now=lambda: NOW,
    )


async def test_the_sign_up_way_mends_everybody(damaged: Damaged) -> None:
    world = await World().activate()
    world = replace(world, store=damaged.store)  # type: ignore[arg-type]  # the real one in the chosen one's place
    users = await all_kinds(damaged)
    await sign_up_way(world)([sign_up(user, timestamp_ms=NOW_MS - 1000, age=30) for user in users])
    found = {each.user_id: each for each in await damaged.store.read(users, 1)}
    for user in set(users) - {"good", "uneven", "no version"}:
        assert (found[user].attributes, found[user].damaged) == ({"age": 30}, ())
        assert found[user].virtual is not None
    assert found["uneven"].attributes == {"age": 30}
    assert found["good"].attributes == {"age": 25}, "a sign-up older than what is stored"


async def test_the_behaviour_way_mends_everybody(damaged: Damaged) -> None:
    world = replace(World(), store=damaged.store)  # type: ignore[arg-type]  # the real one in the chosen one's place
    users = await all_kinds(damaged)
    way = Behaviours(
        world.parts, world.dead_letters, world.metrics, unknown_items="keep", max_event_bytes=2000, now=lambda: NOW
    )
    event = {"item_id": "b", "at": NOW, "action": "x"}
    await way([message(event | {"user_id": user}, key=user.encode(), topic="user-behaved") for user in users])
    found = {each.user_id: each for each in await damaged.store.read(users, 1)}
    assert {user: list(each.behaviour.items) for user, each in found.items()} == {
        **{user: ["b"] for user in users},
        "good": ["a", "b"],
    }


async def test_the_ranking_way_answers_everybody(damaged: Damaged) -> None:
    users = await all_kinds(damaged)
    parts = Parts()
    await parts.start()
    way = Ranking(
        damaged.store,
        parts.towers,
        parts.generations,
        parts.active,
        RankingMetrics(CollectorRegistry()),
        lambda: 0.0,
    )
    answers = await way.rank([RankRequest(user_id=user, items=["i1", "i2"]) for user in users])
    served = {answer.user_id: answer.served_by.value for answer in answers}
    assert served["good"] == "blended"
    known = {"good", "odd", "no version", "uneven"}
    assert {served[user] for user in set(users) - known} == {"fallback"}
