"""Each port of a running system, opened from the settings."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.leasing import Lease
from foretaste.kernel.ports import Events, Generations, OnlineStore, TowerAdmin, Towers
from foretaste.kernel.running.durability import SyncedStore
from foretaste.kernel.running.erasing import ErasingStore, LastErasure
from foretaste.kernel.running.registered_items import ItemRegistry
from foretaste.kernel.running.tls import TlsFiles
from foretaste.kernel.service_ports import EventCounts, IdempotencyKeys
from foretaste.settings import Settings, variable
from foretaste.stack.machine import IN_PROCESS
from foretaste.stack.record import running_stack
from foretaste.stack.stack import EMBEDDED_KAFKA

if TYPE_CHECKING:
    from features.feast_api import RepoConfig
    from features.log.feast_log import FeastTrainingLog
    from features.redis.address import RedisAddress
    from streams.parts import SignUpParts
    from streams.worker.connection import KafkaConnection


def resolve(settings: Settings) -> Settings:
    """Each address that is not set is taken from the stack that runs in `settings.home`.

    Raises `Unavailable` naming the variable when a part has no address either way.
    """
    record = running_stack(settings.home)
    running = record.addresses if record is not None else {}
    found = {part: getattr(settings, part) or running.get(part) for part in ("kafka", "redis", "triton")}
    for part, address in found.items():
        if address is None:
            hint = f"no stack runs in {settings.home}: start one with `foretaste up`, or set FORETASTE_{part.upper()}"
            raise Unavailable(part, hint)
    return settings.model_copy(update={**found, **(EMBEDDED_KAFKA if settings.kafka is None else {})})


def kafka_connection(settings: Settings) -> "KafkaConnection":
    """How every Kafka client of this process connects."""
    from streams.worker.connection import KafkaConnection

    password = settings.kafka_password
    return KafkaConnection(
        bootstrap=_address("kafka", settings.kafka),
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=password.get_secret_value() if password else None,
        ssl_context=_ssl_context(settings),
    )


def events(settings: Settings) -> Events:
    from streams.worker.producer import KafkaEvents

    return KafkaEvents(kafka_connection(settings), idempotent=settings.kafka_idempotent)


def feast_config(settings: Settings) -> "RepoConfig":
    from features.repo_config import repo_config

    registry = settings.registry or str(settings.home / "registry.db")
    return repo_config(
        redis_address(settings), registry, settings.project, settings.training_log, settings.feature_store
    )


def store(settings: Settings) -> ErasingStore:
    """The fast form where the online store is Redis, unless a setting turns it off; else Feast's own way."""

    from features.repo_config import is_fast_redis

    config = feast_config(settings)
    if settings.online_store == "auto" and is_fast_redis(config):
        from features.online.redis_store import RedisStore

        return RedisStore(config, timeout=settings.redis_timeout, fence_days=settings.erased_days)
    from features.online.feast_store import FeastStore

    return FeastStore(config, timeout=settings.redis_timeout)


def synced_store(settings: Settings, opened: OnlineStore) -> SyncedStore | None:
    """The store, where its disk is to be waited for. Raises `InvalidInput` where it has no such answer."""
    if not settings.wait_for_disk:
        return None
    if not isinstance(opened, SyncedStore) or settings.redis_cluster:
        raise InvalidInput(variable("wait_for_disk"), True, "expected false for any store but a single Redis or Valkey")
    return opened


def generations(settings: Settings) -> Generations:
    from features.generations.pointer import RedisGenerations

    return RedisGenerations(redis_address(settings), prefix=settings.project, timeout=settings.redis_timeout)


def item_registry(settings: Settings) -> ItemRegistry:
    from features.items.registry import RedisItemRegistry

    return RedisItemRegistry(redis_address(settings), prefix=settings.project, timeout=settings.redis_timeout)


def training_log(settings: Settings) -> "FeastTrainingLog":
    from features.log.feast_log import FeastTrainingLog

    return FeastTrainingLog(feast_config(settings))


def lease(settings: Settings, name: str) -> Lease:
    """The right to do what one process does at a time."""
    from features.generations.lease import RedisLease

    return RedisLease(
        redis_address(settings),
        name,
        seconds=settings.lease_seconds,
        prefix=settings.project,
        timeout=settings.redis_timeout,
    )


def idempotency_keys(settings: Settings) -> IdempotencyKeys:
    from features.idempotency import RedisIdempotencyKeys

    return RedisIdempotencyKeys(
        redis_address(settings),
        seconds=settings.api_idempotency_seconds,
        prefix=settings.project,
        timeout=settings.redis_timeout,
    )


def event_counts(settings: Settings) -> EventCounts:
    """The topics by the names of the overview's fields."""
    from streams.topics import TopicNames
    from streams.worker.event_counts import CountedTopic, KafkaEventCounts

    names = TopicNames(settings.topic_prefix)
    of_workers = {"registered": names.registered, "behaved": names.behaved, "enriched": names.enriched}
    of_workers["dead_letters"] = names.dead_letters
    topics = {name: CountedTopic(topic, names.group) for name, topic in of_workers.items()}
    topics["ranked"] = CountedTopic(names.ranked, names.log_group)
    return KafkaEventCounts(kafka_connection(settings), topics)


def towers(settings: Settings) -> TowerAdmin:
    address = _address("triton", settings.triton)
    if address == IN_PROCESS:
        from models.generations.in_process import InProcessTowers

        return InProcessTowers(settings.repository)
    from models.generations.triton import TritonTowers

    return TritonTowers(address, timeout=settings.triton_timeout, tls=triton_tls(settings))


@asynccontextmanager
async def parts(settings: Settings) -> AsyncIterator["SignUpParts"]:
    """All four ports, wired and closed again."""
    from features.redis.last_erasure import RedisLastErasure
    from streams.parts import SignUpParts

    async with AsyncExitStack() as stack:
        opened: list[OnlineStore | Towers | Generations | Events | ItemRegistry | LastErasure] = []
        kept = store(settings)
        synced = synced_store(settings, kept)
        last_erasure = RedisLastErasure(
            redis_address(settings), prefix=settings.project, timeout=settings.redis_timeout
        )
        items = item_registry(settings)
        found = SignUpParts(
            kept, towers(settings), generations(settings), events(settings), synced, last_erasure, items
        )
        opened += [found.store, found.towers, found.generations, found.events, items, last_erasure]
        for part in opened:
            stack.push_async_callback(part.close)
        yield found


async def create_topics(settings: Settings) -> None:
    """All topics, explicitly, with their partitions."""
    from streams.topics import TopicNames
    from streams.worker.topic_admin import DeadLetterTopic
    from streams.worker.topic_admin import create_topics as create

    await create(
        kafka_connection(settings),
        TopicNames(settings.topic_prefix),
        partitions=settings.partitions,
        replication=settings.replication,
        dead_letters=DeadLetterTopic(settings.dead_letter_days, settings.dead_letter_bytes),
        erased_days=settings.erased_days,
    )


def apply_features(settings: Settings) -> None:
    """`feast apply` of the feature repository."""
    from features.repo_config import apply_features as apply

    apply(feast_config(settings))


def redis_address(settings: Settings) -> "RedisAddress":
    from features.redis.address import RedisAddress

    address = _address("redis", settings.redis)
    return RedisAddress.parse(address, cluster=settings.redis_cluster, tls_files=redis_tls(settings))


def redis_tls(settings: Settings) -> TlsFiles | None:
    """Files of TLS to Redis, tried; None without TLS."""
    if not (settings.redis or "").startswith("rediss://"):
        return None
    return _tried(TlsFiles("redis", settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file))


def triton_tls(settings: Settings) -> TlsFiles | None:
    """Files of TLS to Triton, tried; None without TLS."""
    if not settings.triton_ssl:
        return None
    return _tried(TlsFiles("triton", settings.triton_ca_file, settings.triton_cert_file, settings.triton_key_file))


def _address(part: str, address: str | None) -> str:
    if address is None:
        raise Unavailable(part, f"no address: set FORETASTE_{part.upper()}, or start `foretaste up`")
    return address


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    return TlsFiles("kafka", settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file).context()


def _tried(files: TlsFiles) -> TlsFiles:
    """What is wrong with a file is told here, with its setting; a client would say it in words of its own."""
    files.context()
    return files
