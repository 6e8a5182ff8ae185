"""The workers on a real broker, on both consumers, the other parts in memory: nothing is lost, whatever stops when."""

import asyncio
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Reason, UserBehaved, UserEnriched, UserRegistered
from streams.parts import SignUpParts
from streams.pipelines import PipelinesConfig, user_pipelines
from streams.topics import TopicNames
from streams.worker.collector import CollectorConfig
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import CONSUMERS, ConsumerConfig, ConsumerName
from streams.worker.dead_letter_reader import KeptLetter, kept_letters, newest_dead_letters
from streams.worker.dead_letter_replay import Kept, replay
from streams.worker.metrics import Metrics
from streams.worker.producer import KafkaEvents
from streams.worker.runner import StreamWorker, run_worker
from streams.worker.topic_admin import create_topics
from tests.integration.brokers import Broker, apache_kafka, free_port
from tests.integration.kafka_reading import lag_of, read_all
from tests.servers import held
from tests.stream_parts import World

PARTITIONS = 4
PATIENCE = 60.0


@dataclass
class Deployment:
    """Topics of its own on a broker, the other parts in memory, and workers over both."""

    connection: KafkaConnection
    idempotent: bool
    folder: Path
    consumer: ConsumerName
    world: World = field(default_factory=World)
    names: TopicNames = field(default_factory=lambda: TopicNames(f"{uuid.uuid4().hex}-"))

    async def __aenter__(self) -> "Deployment":
        await create_topics(self.connection, self.names, partitions=PARTITIONS)
        await self.world.activate()
        self.events = KafkaEvents(self.connection, idempotent=self.idempotent)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.events.close()

    def worker(self, consumer: ConsumerName | None = None) -> StreamWorker:
        config = PipelinesConfig(topics=self.names, collector=CollectorConfig(BatchPolicy(size=64, age=0.005)))
        parts = SignUpParts(self.world.store, self.world.towers, self.world.generations, self.events)
        ways = partial(user_pipelines, parts, Metrics(CollectorRegistry()), config)
        member = ConsumerConfig(
            kind=consumer or self.consumer,
            folder=self.folder,
            fetch_wait=0.02,
            # a broker with idempotent producers is Apache Kafka, which grants no shorter session
            session_timeout=6.0 if self.idempotent else 2.0,
            heartbeat_interval=0.5,
            commit_interval=0.2,
            grace=2.0,
        )
        return StreamWorker(self.connection, self.names.group, ways, member)

    async def sign_up(self, users: Sequence[str]) -> None:
        registered = [UserRegistered(user_id=each, attributes={"age": 30}) for each in users]
        await self.events.send_all(
            self.names.registered, [(each.user_id.encode(), each.model_dump_json().encode()) for each in registered]
        )

    async def enriched(self, users: Sequence[str]) -> bool:
        features = await self.world.store.read(users, 1)
        return all(each.virtual is not None for each in features)

    async def announced(self) -> list[str]:
        """Users of `user-enriched`, those announced twice twice."""
        records = await read_all(self.connection, self.names.enriched, PARTITIONS)
        return [UserEnriched.model_validate_json(each.value).user_id for each in records]

    async def lag(self) -> int:
        """Events of both ways beyond what the group has committed."""
        topics = (self.names.registered, self.names.behaved)
        return await lag_of(self.connection, self.names.group, topics, PARTITIONS)


@pytest.fixture(params=CONSUMERS)
def consumer(request: pytest.FixtureRequest) -> ConsumerName:
    kind: ConsumerName = request.param
    return kind


@pytest.fixture
def deployment(kafka_address: str, kafka_idempotent: bool, tmp_path: Path, consumer: ConsumerName) -> Deployment:
    return Deployment(KafkaConnection(kafka_address), kafka_idempotent, tmp_path, consumer)


async def until(done: Callable[[], object]) -> None:
    """Wait until `done`, a function or a coroutine function, answers something true."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = done()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.05)


def users(count: int, name: str = "user") -> list[str]:
    return [f"{name} {each}" for each in range(count)]


async def test_all_good_ones_are_enriched_and_dead_letters_are_whole(deployment: Deployment) -> None:
    good = users(200)
    bad: dict[bytes | None, tuple[bytes | None, Reason]] = {
        b"malformed": (b"{", Reason.MALFORMED),
        b"null": (None, Reason.MALFORMED),
        b"nested": (b'{"user_id": "nested", "attributes": {"age": [[1]]}}', Reason.INVALID),
        b"poison": (b'{"user_id": "poison", "attributes": {"age": -1}}', Reason.NON_FINITE),
        b"huge": (b'{"user_id": "huge", "attributes": {"a": "' + b"x" * 900_000 + b'"}}', Reason.TOO_LARGE),
        None: (b"\xff\x00", Reason.MALFORMED),
    }
    async with deployment:
        await deployment.sign_up(good[:100])
        for key, (value, _) in bad.items():
            await deployment.events.send(deployment.names.registered, key, value)
        async with deployment.worker():
            await deployment.sign_up(good[100:])
            await until(lambda: deployment.enriched(good))
            await until(lambda: deployment.world.store.writes and lag_is_over(deployment))

        assert sorted(await deployment.announced()) == sorted(good)
        letters = await newest_dead_letters(deployment.connection, deployment.names.dead_letters, 100)
        assert {each.message.key: (each.message.value, each.reason) for each in letters} == bad
        assert {each.message.origin.topic for each in letters} == {deployment.names.registered}
        assert len({(each.message.origin.partition, each.message.origin.offset) for each in letters}) == len(bad)


async def test_a_record_of_somebody_elses_hides_no_dead_letter(deployment: Deployment) -> None:
    topic = deployment.names.dead_letters
    async with deployment:
        await deployment.events.send(topic, b"foreign", b"from another tool", [("trace-id", b"1")])
        async with deployment.worker():
            await deployment.events.send(deployment.names.registered, b"malformed", b"{")
            await until(lambda: two_letters(deployment))
        letters = await newest_dead_letters(deployment.connection, topic, 100)
        found = {each.message.key: (each.message.value, each.reason, each.message.origin.topic) for each in letters}
        assert found == {
            b"foreign": (b"from another tool", Reason.FOREIGN, topic),
            b"malformed": (b"{", Reason.MALFORMED, deployment.names.registered),
        }


async def test_dead_letters_are_replayed_each_once_and_never_for_ever(deployment: Deployment) -> None:
    names, origins = deployment.names, {deployment.names.registered}

    async def letters() -> list[KeptLetter]:
        return await kept_letters(deployment.connection, names.dead_letters, names.replays)

    async with deployment, deployment.worker():
        for user, age in (("poison", b"-1"), ("nested", b"[[1]]")):
            value = b'{"user_id": "%b", "attributes": {"age": %b}}' % (user.encode(), age)
            await deployment.events.send(names.registered, user.encode(), value)
        await until(lambda: two_letters(deployment))
        first = await letters()
        for attempts in (1, 2):
            before = len(await letters())
            assert await replay(deployment.events, await letters(), names.replays, origins, attempts=2) == (
                2,
                {Kept.REPLAYED_BEFORE: before - 2} if before > 2 else {},
            )
            await until(partial(_as_many_letters, deployment, 2 + 2 * attempts))
        assert (await replay(deployment.events, await letters(), names.replays, origins, attempts=2))[0] == 0
        found = await letters()
        assert sorted(each.letter.message.attempts for each in found) == [0, 0, 1, 1, 2, 2]
        assert {each.letter.message.origin for each in found} == {each.letter.message.origin for each in first}


async def _as_many_letters(deployment: Deployment, count: int) -> bool:
    names = deployment.names
    return len(await kept_letters(deployment.connection, names.dead_letters, names.replays)) == count


async def two_letters(deployment: Deployment) -> bool:
    return len(await read_all(deployment.connection, deployment.names.dead_letters, PARTITIONS)) == 2


async def lag_is(deployment: Deployment, expected: int) -> bool:
    return await deployment.lag() == expected


async def lag_is_over(deployment: Deployment) -> bool:
    return await deployment.lag() == 0


async def test_behaviours_warm_a_user_step_by_step(deployment: Deployment) -> None:
    acts = [
        UserBehaved(user_id="ada", item_id=f"item {each}", at=datetime.fromtimestamp(1_600_000_000 + each, UTC))
        for each in range(150)
    ]
    async with deployment, deployment.worker():
        keyed = [(each.user_id.encode(), each.model_dump_json().encode()) for each in acts]
        await deployment.events.send_all(deployment.names.behaved, keyed)
        await until(lambda: behaved(deployment, "item 149"))
        behaviour = (await deployment.world.features("ada")).behaviour
        assert list(behaviour.items) == [f"item {each}" for each in range(50, 150)]

        await deployment.sign_up(["ada"])
        await until(lambda: attributes_known(deployment, "ada"))
        assert (await deployment.world.features("ada")).virtual is None


async def behaved(deployment: Deployment, newest: str) -> bool:
    items = (await deployment.world.features("ada")).behaviour.items
    return bool(items) and items[-1] == newest


async def attributes_known(deployment: Deployment, user_id: str) -> bool:
    return (await deployment.world.features(user_id)).attributes is not None


async def test_a_worker_stopped_in_an_outage_loses_nothing(deployment: Deployment) -> None:
    good = users(100)
    async with deployment:
        deployment.world.store.write_outage = Unavailable("redis", "chosen by the test")
        async with deployment.worker():
            await deployment.sign_up(good)
            await until(lambda: deployment.world.towers.calls)
        assert await deployment.lag() == len(good)
        assert await deployment.announced() == []

        deployment.world.store.write_outage = None
        async with deployment.worker():
            await until(lambda: deployment.enriched(good))
        assert await deployment.lag() == 0
        assert sorted(await deployment.announced()) == sorted(good)


@pytest.mark.one_broker
async def test_an_outage_is_waited_out_by_the_worker(deployment: Deployment) -> None:
    good = users(100)
    async with deployment, deployment.worker():
        deployment.world.towers.outage = Unavailable("triton", "chosen by the test")
        await deployment.sign_up(good)
        await until(lambda: deployment.world.store.reads >= 3)
        assert await deployment.lag() == len(good)
        deployment.world.towers.outage = None
        await until(lambda: deployment.enriched(good))
        await until(lambda: lag_is_over(deployment))


async def test_two_workers_share_the_partitions_and_hand_them_over(deployment: Deployment) -> None:
    first, second, third = users(100, "first"), users(100, "second"), users(100, "third")
    async with deployment, deployment.worker():
        await deployment.sign_up(first)
        async with deployment.worker():
            await deployment.sign_up(second)
            await until(lambda: deployment.enriched([*first, *second]))
        await deployment.sign_up(third)
        await until(lambda: deployment.enriched(third))
        await until(lambda: lag_is_over(deployment))
        assert set(await deployment.announced()) == {*first, *second, *third}


async def test_workers_of_both_kinds_share_a_group(deployment: Deployment) -> None:
    first, second, third = users(100, "first"), users(100, "second"), users(100, "third")
    if not deployment.idempotent:
        pytest.skip("Tansu forms no group of members that differ")
    (other,) = set(CONSUMERS) - {deployment.consumer}
    async with deployment:
        async with deployment.worker():
            await deployment.sign_up(first)
            await until(lambda: deployment.enriched(first))
            async with deployment.worker("faust" if other == "faust" else "aiokafka"):
                await deployment.sign_up(second)
                await until(lambda: deployment.enriched(second))
                await until(lambda: lag_is_over(deployment))
        async with deployment.worker("faust" if other == "faust" else "aiokafka"):
            await deployment.sign_up(third)
            await until(lambda: deployment.enriched(third))
            await until(lambda: lag_is_over(deployment))
        assert set(await deployment.announced()) == {*first, *second, *third}


async def test_a_way_that_is_stuck_holds_up_no_other(deployment: Deployment) -> None:
    stuck = users(3000)
    async with deployment, deployment.worker():
        deployment.world.towers.outage = Unavailable("triton", "chosen by the test")
        await deployment.sign_up(stuck)
        await until(lambda: deployment.world.store.reads >= 3)
        act = UserBehaved(user_id="ada", item_id="item", at=datetime.fromtimestamp(1_600_000_000, UTC))
        await deployment.events.send(deployment.names.behaved, b"ada", act.model_dump_json().encode())
        await until(lambda: behaved(deployment, "item"))
        await until(lambda: lag_is(deployment, len(stuck)))
        deployment.world.towers.outage = None
        await until(lambda: deployment.enriched(stuck))
        await until(lambda: lag_is_over(deployment))


@pytest.mark.one_broker
async def test_the_process_form_ends_cleanly_on_sigterm(deployment: Deployment) -> None:
    good = users(100)
    async with deployment:
        running = asyncio.create_task(run_worker(deployment.worker()))
        await deployment.sign_up(good)
        await until(lambda: deployment.enriched(good))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, PATIENCE)
        assert await deployment.lag() == 0


async def test_the_process_form_waits_for_a_broker_and_can_be_stopped_meanwhile(
    tmp_path: Path, consumer: ConsumerName
) -> None:
    nobody = Deployment(
        KafkaConnection(f"127.0.0.1:{free_port()}"), idempotent=True, folder=tmp_path, consumer=consumer
    )
    nobody.events = KafkaEvents(nobody.connection)
    worker = nobody.worker()
    with pytest.raises(Unavailable, match="kafka is not available"):
        await worker.__aenter__()
    running = asyncio.create_task(run_worker(worker))
    await asyncio.sleep(0.1)
    assert not running.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, PATIENCE)


@pytest.mark.one_broker
async def test_the_process_form_raises_a_defect(deployment: Deployment) -> None:
    async with deployment:
        deployment.world.towers.virtual_behaviour = None  # type: ignore[assignment,method-assign]
        await deployment.sign_up(["ada"])
        with pytest.raises(TypeError):
            await asyncio.wait_for(run_worker(deployment.worker()), PATIENCE)
        assert await deployment.lag() == 1


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that is stopped and started again, so nobody else's."""
    folder = tmp_path_factory.mktemp("restarted")
    with held(lambda: apache_kafka(Path(os.environ["KAFKA_HOME"]), folder)) as broker:
        yield broker


@pytest.mark.skipif("KAFKA_HOME" not in os.environ, reason="KAFKA_HOME names no Kafka, and Tansu forgets its topics")
@pytest.mark.parametrize(  # each consumer once: a restart takes long
    ("consumer", "kill"), [("aiokafka", False), ("faust", True)], ids=["stopped-aiokafka", "killed-faust"]
)
async def test_a_broker_that_is_restarted_is_waited_for(
    restarted: Broker, tmp_path: Path, kill: bool, consumer: ConsumerName
) -> None:
    before, during, after = users(100, "before"), users(100, "during"), users(100, "after")
    deployment = Deployment(KafkaConnection(restarted.address), restarted.idempotent, tmp_path, consumer)
    async with deployment, deployment.worker() as worker:
        watching = asyncio.create_task(worker.failed())
        await deployment.sign_up(before)
        await until(lambda: deployment.enriched(before))

        await restarted.stop(kill=kill)
        with pytest.raises(Unavailable):
            await KafkaEvents(deployment.connection, timeout=1).send(deployment.names.registered, b"u", b"")
        await restarted.start_again()
        await deployment.sign_up(during)
        await until(lambda: deployment.enriched(during))
        await deployment.sign_up(after)
        await until(lambda: deployment.enriched(after))
        await until(lambda: lag_is_over(deployment))
        assert not watching.done()
        watching.cancel()
    assert set(await deployment.announced()) == {*before, *during, *after}
