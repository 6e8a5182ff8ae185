"""Filling the online store, wired: a rebuild from what Kafka and the training log hold, and an import."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from foretaste.compose.ports import kafka_connection, parts, redis_address, training_log
from foretaste.settings import Settings

if TYPE_CHECKING:
    from features.generations.checkpoint import RedisCheckpoint
    from streams.profiles.rebuild import Rebuild
    from streams.profiles.user_import import UserImport


@asynccontextmanager
async def rebuild(settings: Settings, *, anew: bool = False) -> AsyncIterator["Rebuild"]:
    """A rebuild of the online store, its parts opened; `anew`: what an earlier one left is not gone on with."""
    from streams.profiles.rebuild import Rebuild
    from streams.profiles.rebuild_parts import RebuildConfig, RebuildParts
    from streams.topics import TopicNames
    from streams.worker.history.kafka_history import KafkaHistory

    names, connection = TopicNames(settings.topic_prefix), kafka_connection(settings)
    config = RebuildConfig(settings.max_event_bytes, settings.unknown_items, settings.log_days)
    async with AsyncExitStack() as opened:
        users = await opened.enter_async_context(parts(settings))
        topics = (names.profiles, names.erased, names.behaved, names.item_registered)
        profiles, erasures, behaviours, items = (KafkaHistory(connection, topic) for topic in topics)
        checkpoint = _checkpoint(settings, "rebuild")
        for part in (profiles, erasures, behaviours, items, checkpoint):
            opened.push_async_callback(part.close)
        if anew:
            await checkpoint.forget()
        logged = training_log(settings).read_behaviours
        yield Rebuild(RebuildParts(users, profiles, erasures, behaviours, logged, checkpoint, items), config)


@asynccontextmanager
async def user_import(settings: Settings, name: str) -> AsyncIterator["UserImport"]:
    """An import into the online store, its parts opened; an import of the same `name` is gone on with."""
    from streams.profiles.user_import import UserImport
    from streams.topics import TopicNames

    async with parts(settings) as users:
        checkpoint = _checkpoint(settings, f"import-{name}")
        try:
            yield UserImport(users, checkpoint, TopicNames(settings.topic_prefix).profiles)
        finally:
            await checkpoint.close()


def _checkpoint(settings: Settings, name: str) -> "RedisCheckpoint":
    from features.generations.checkpoint import RedisCheckpoint

    return RedisCheckpoint(redis_address(settings), name, prefix=settings.project, timeout=settings.redis_timeout)
