"""A real Redis whose append-only file is cut or emptied behind a worker: what it had acknowledged comes back."""

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from features.online.redis_store import RedisStore
from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.running.readiness import ProcessReadiness
from foretaste.kernel.users import BehavedUser, Behaviour, LaterBehaviour
from streams.parts import SignUpParts
from streams.pipelines import PipelinesConfig, user_pipelines
from streams.topics import TopicNames
from streams.worker.collector import CollectorConfig
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import CONSUMERS, ConsumerConfig, ConsumerName
from streams.worker.health.store_progress import StoreProgress
from streams.worker.metrics import Metrics
from streams.worker.producer import KafkaEvents
from streams.worker.runner import StreamWorker, run_worker
from streams.worker.topic_admin import create_topics
from tests.integration.kafka_reading import lag_of
from tests.integration.redis_server import Valkey, valkey
from tests.store_forms import feast_config
from tests.stream_parts import World

PARTITIONS = 2
USERS = 40
PATIENCE = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """Valkey with its append-only file."""
    with valkey(tmp_path, appendonly=True) as running:
        yield running


@dataclass
class System:
    """A worker that runs as a process would, on a broker and a Redis; towers and generations in memory."""

    connection: KafkaConnection
    idempotent: bool
    store: RedisStore
    folder: Path
    consumer: ConsumerName
    readiness: ProcessReadiness = field(default_factory=ProcessReadiness)
    begin_within: float = 30.0
    world: World = field(default_factory=World)
    names: TopicNames = field(default_factory=lambda: TopicNames(f"{uuid.uuid4().hex}-"))
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))

    @asynccontextmanager
    async def running(self) -> Any:
        await create_topics(self.connection, self.names, partitions=PARTITIONS)
        await self.world.activate()
        self.events = KafkaEvents(self.connection, idempotent=self.idempotent)
        worker = asyncio.create_task(self._work())
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.wait({worker})
            await self.events.close()
            await self.store.close()

    async def _work(self) -> None:
        parts = SignUpParts(self.store, self.world.towers, self.world.generations, self.events)
        lost = self.metrics.lost_tails
        progress = StoreProgress(self.store, lost, look_every=0.1, begin_within=self.begin_within)
        config = PipelinesConfig(topics=self.names, collector=CollectorConfig(BatchPolicy(size=16, age=0.005)))
        ways = partial(user_pipelines, parts, self.metrics, config, progress=progress)
        member = ConsumerConfig(
            kind=self.consumer,
            folder=self.folder,
            fetch_wait=0.02,
            session_timeout=6.0 if self.idempotent else 2.0,
            heartbeat_interval=0.5,
            commit_interval=0.1,
            grace=2.0,
        )
        worker = StreamWorker(self.connection, self.names.group, ways, member, progress=progress)
        await run_worker(worker, self.readiness)

    async def live(self, users: Sequence[str]) -> None:
        """They sign up and act, and all of it is committed."""
        signed = [UserRegistered(user_id=each, attributes={"age": 30}) for each in users]
        acts = [
            UserBehaved(user_id=each, item_id=f"i{n}", at=datetime.fromtimestamp(1_700_000_000 + n, UTC))
            for each in users
            for n in range(3)
        ]
        for topic, events in ((self.names.registered, signed), (self.names.behaved, acts)):
            records = [(each.user_id.encode(), each.model_dump_json().encode()) for each in events]
            await self.events.send_all(topic, records)
        await until(partial(self.whole, users))
        await until(self.committed)

    async def whole(self, users: Sequence[str]) -> bool:
        """Each has its attributes, its virtual behaviour where it was made, and each behaviour once."""
        try:
            found = await self.store.read(users, 1)
        except Unavailable:
            return False
        return all(
            each.attributes == {"age": 30} and list(each.behaviour.items) == ["i0", "i1", "i2"] for each in found
        )

    async def committed(self) -> bool:
        topics = (self.names.registered, self.names.behaved)
        return await lag_of(self.connection, self.names.group, topics, PARTITIONS) == 0

    def lost(self, kind: str) -> float:
        return self.metrics.registry.get_sample_value("foretaste_store_lost_tails_total", {"kind": kind}) or 0.0


async def until(done: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await done():
                return
            await asyncio.sleep(0.05)


@pytest.mark.one_broker
@pytest.mark.parametrize("consumer", CONSUMERS)
async def test_what_a_power_cut_took_back_is_read_again(
    server: Valkey, kafka_address: str, kafka_idempotent: bool, tmp_path: Path, consumer: ConsumerName
) -> None:
    store = RedisStore(feast_config(None, server.url, tmp_path), timeout=2)
    system = System(KafkaConnection(kafka_address), kafka_idempotent, store, tmp_path, consumer)
    file = tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof"
    kept, lost = [f"a{each}" for each in range(USERS)], [f"b{each}" for each in range(USERS)]
    async with system.running():
        await system.live(kept)
        size = file.stat().st_size
        await system.live(lost)
        server.stop()
        os.truncate(file, size)
        server.start()
        await until(partial(system.whole, [*kept, *lost]))
        await until(system.committed)
        assert (system.lost("tail"), system.lost("all")) == (1, 0)
        with server.client() as client:
            client.flushall()
        await until(partial(system.whole, [*kept, *lost]))
        assert system.lost("all") == 1


BEHAVED = ("user-behaved", 3)


def appended(item: str, at_ms: int) -> LaterBehaviour:
    return LaterBehaviour("u1", Behaviour([item], ["liked"], [at_ms]), item.rjust(8).encode(), (BEHAVED,))


def cut(server: Valkey, size: int) -> None:
    """The server starts anew without what its file held behind `size`, before anybody can ask it for something."""
    server.kill()
    os.truncate(server.folder / "appendonlydir" / "appendonly.aof.1.incr.aof", size)
    server.start()


def flush(server: Valkey, size: int) -> None:
    with server.client() as client:
        client.flushall()


@pytest.mark.parametrize("lose", [cut, flush])
async def test_nothing_is_written_on_top_of_what_the_store_lost(
    server: Valkey, tmp_path: Path, lose: Callable[[Valkey, int], None]
) -> None:
    """Not even by a client whose connections are made anew unseen."""
    store = RedisStore(feast_config(None, server.url, tmp_path), timeout=2)
    file = tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof"
    try:
        assert await store.begin_offsets({BEHAVED: 7}) == {BEHAVED: None}
        assert await store.append_behaviour([appended("a", 1000)]) == []
        size = file.stat().st_size
        assert await store.append_behaviour([appended("b", 2000)]) == []
        assert await store.advance_offsets({BEHAVED: (7, 9)}) == {}
        lose(server, size)
        await asyncio.sleep(0.1)  # the client hears that its connections ended
        (held,) = await store.read_behaviour(["u1"])
        more = BehavedUser.after(held, held.behaviour.then("c", "liked", 3000))
        for write in (
            lambda: store.append_behaviour([appended("c", 3000)]),
            lambda: store.write_behaviour([replace(more, read_from=(BEHAVED,))]),
        ):
            with pytest.raises(Unavailable, match=r"BEHIND user-behaved/3 stands .* and stood at 9: writes were lost"):
                await write()
        assert await store.read_behaviour(["u1"]) == [held], "as it was"
        await store.begin_offsets({BEHAVED: 7})
        assert await store.append_behaviour([appended("c", 3000)]) == []
        assert await store.append_behaviour([replace(appended("d", 4000), read_from=())]) == []
    finally:
        await store.close()


async def test_where_one_address_leads_to_several_slots_behaviours_are_written_uncompared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server in cluster mode that is used as a single one takes no script of two keys in two slots."""
    with valkey(tmp_path, cluster=True) as server:
        store = RedisStore(feast_config(None, server.url, tmp_path), timeout=2)
        try:
            await store.begin_offsets({BEHAVED: 7})
            assert await store.append_behaviour([appended("a", 1000)]) == []
            (held,) = await store.read_behaviour(["u1"])
            more = BehavedUser.after(held, held.behaviour.then("b", "liked", 2000))
            assert await store.write_behaviour([replace(more, read_from=(BEHAVED,))]) == []
            (held,) = await store.read_behaviour(["u1"])
            assert list(held.behaviour.items) == ["a", "b"]
        finally:
            await store.close()
    assert caplog.text.count("behaviours are written without comparing them") == 1


@pytest.mark.one_broker
@pytest.mark.parametrize("consumer", CONSUMERS)
async def test_a_worker_that_cannot_begin_says_so_and_reads_once_the_store_is_back(
    server: Valkey, kafka_address: str, kafka_idempotent: bool, tmp_path: Path, consumer: ConsumerName
) -> None:
    store = RedisStore(feast_config(None, server.url, tmp_path), timeout=2)
    system = System(KafkaConnection(kafka_address), kafka_idempotent, store, tmp_path, consumer, begin_within=0.5)
    server.stop()

    async def unready() -> bool:
        return "did not tell for 0.5 s" in system.readiness.reasons.get("worker", "")

    async with system.running():
        await until(unready)
        server.start()
        await system.live(["a0", "a1"])
        assert "worker" not in system.readiness.reasons
