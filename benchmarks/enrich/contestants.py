"""Who turns sign-ups into virtual behaviour here: a worker of Foretaste's, the floor, and a naive peer.

Each is the main function of a process of its own, which ends on SIGTERM. All read `user-registered` and produce
`user-enriched` once a user's row is durable, so that one look at that topic times them all.
"""

import asyncio
import json
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from redis.asyncio import Redis

from foretaste import compose
from foretaste.cli.processes import run_process, serve_worker
from foretaste.kernel.values import FloatArray
from foretaste.settings import Settings
from streams.topics import TopicNames

BATCH = 256
"""Sign-ups in a batch of the floor, at most: as many as in a worker's."""
COMMIT_SECONDS = 1.0
MAX_BATCH_BYTES = 1_000_000


def worker(settings: Settings) -> None:
    """One worker of Foretaste's, as `foretaste worker` runs it."""
    run_process(serve_worker(settings))


def floor(settings: Settings) -> None:
    """What the job needs at least, with plain clients: see `run_floor`."""
    run_process(run_floor(settings))


def peer(settings: Settings) -> None:
    """What a first attempt looks like: see `run_peer`."""
    asyncio.run(run_peer(settings))


async def run_floor(settings: Settings) -> None:
    """aiokafka's batches; for each one call of the tower, one pipeline to Redis, and a batch produced a partition.

    It reads nothing before it writes, checks nothing, keeps no dead letter and handles no failure.
    """
    names, connection = TopicNames(settings.topic_prefix), compose.kafka_connection(settings).client_arguments()
    consumer = AIOKafkaConsumer(
        names.registered,
        **connection,
        group_id=names.group,
        auto_offset_reset="earliest",
        enable_auto_commit=True,
        auto_commit_interval_ms=round(COMMIT_SECONDS * 1000),
        fetch_max_wait_ms=round(settings.kafka_fetch_wait * 1000),
        session_timeout_ms=round(settings.kafka_session_timeout * 1000),
        heartbeat_interval_ms=round(settings.kafka_session_timeout * 200),
    )
    producer = AIOKafkaProducer(
        **connection, acks="all", enable_idempotence=settings.kafka_idempotent, max_batch_size=MAX_BATCH_BYTES
    )
    towers, redis = compose.towers(settings), Redis.from_url(settings.redis or "")
    generations = compose.generations(settings)
    ended = _ended()
    await consumer.start()
    await producer.start()
    try:
        active = await generations.active()
        assert active is not None
        partitioner, partitions = DefaultPartitioner(), list(range(settings.partitions))
        while not ended.is_set():
            fetched = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            events = [json.loads(record.value) for records in fetched.values() for record in records]
            if not events:
                continue
            vectors = await towers.virtual_behaviour([each["attributes"] for each in events], active.number)
            await _write(redis, events, vectors)
            at = datetime.now(UTC).isoformat()
            batches: defaultdict[int, Any] = defaultdict(producer.create_batch)
            for each in events:
                key = each["user_id"].encode()
                enriched = {"user_id": each["user_id"], "generation": active.number, "enriched_at": at}
                batch = batches[partitioner(key, partitions, partitions)]
                assert batch.append(key=key, value=json.dumps(enriched).encode(), timestamp=None), "the batch is full"
            sent = [await producer.send_batch(each, names.enriched, partition=p) for p, each in batches.items()]
            await asyncio.gather(*sent)
    finally:
        await consumer.stop()
        await producer.stop()
        for part in (towers, generations):
            await part.close()
        await redis.aclose()


async def _write(redis: Redis, events: Sequence[Any], vectors: FloatArray) -> None:
    """One hash a user, of about the size that Foretaste's has."""
    written = str(time.time()).encode()
    pipeline = redis.pipeline(transaction=False)
    for each, vector in zip(events, vectors, strict=True):
        row = {
            "attributes": json.dumps(each["attributes"]),
            "vectors": vector.tobytes(),
            "dimension": vector.shape[1],
            "generation": 1,
            "attributes_at": written,
            "vectors_at": written,
        }
        pipeline.hset(f"floor-{each['user_id']}", mapping=row)
    await pipeline.execute()


async def run_peer(settings: Settings) -> None:
    """A Faust agent that handles one event at a time, with one call of the tower, and Feast's `push` for the rows."""
    import faust  # noqa: PLC0415  # only this contestant loads it here

    from features.feast_api import FeatureStore  # noqa: PLC0415  # likewise
    from streams.worker.app import faust_arguments  # noqa: PLC0415  # likewise

    names = TopicNames(settings.topic_prefix)
    towers, generations = compose.towers(settings), compose.generations(settings)
    store = FeatureStore(config=compose.feast_config(settings))
    active = await generations.active()
    assert active is not None
    app = faust.App(
        names.group,
        **faust_arguments(compose.kafka_connection(settings)),
        loop=asyncio.get_running_loop(),
        datadir=settings.home / "peer",
        origin=None,
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.kafka_session_timeout,
        broker_heartbeat_interval=settings.kafka_session_timeout / 5,
    )
    registered = app.topic(names.registered, value_serializer="json")
    enriched = app.topic(names.enriched, value_serializer="json")

    async def enrich(events: Any) -> None:
        async for event in events:
            (vectors,) = await towers.virtual_behaviour([event["attributes"]], active.number)
            now = datetime.now(UTC)
            row = {"user_id": [event["user_id"]], "event_timestamp": [now], "created": [now]}
            store.push("user_attributes_push", pd.DataFrame({**row, "attributes": [json.dumps(event["attributes"])]}))
            flat = {"vectors": [vectors.ravel().tolist()], "dimension": [vectors.shape[1]], "generation": [1]}
            store.push("virtual_behaviour_odd_push", pd.DataFrame({**row, **flat}))
            at = datetime.now(UTC).isoformat()
            told = {"user_id": event["user_id"], "generation": active.number, "enriched_at": at}
            await enriched.send(key=event["user_id"], value=told)

    app.agent(registered, name="enrich")(enrich)
    ended = _ended()
    await app.start()
    await ended.wait()
    await app.stop()
    await towers.close()
    await generations.close()


def _ended() -> asyncio.Event:
    """Set on SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    return ended
