"""Publishing and refreshing, wired."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from foretaste.compose.ports import (
    events,
    generations,
    item_registry,
    kafka_connection,
    lease,
    redis_address,
    store,
    towers,
    training_log,
)
from foretaste.kernel.ports import Generations
from foretaste.settings import Settings

if TYPE_CHECKING:
    from models.generations.publish import PublishParts
    from models.refresh.learn import LogLearner
    from models.refresh.parts import RefreshParts
    from streams.reenrichment import Reenrichment


@asynccontextmanager
async def publish_parts(settings: Settings) -> AsyncIterator["PublishParts"]:
    """What publishing works on, closed again."""
    from models.generations.publish import PublishParts

    towers_, generations_ = towers(settings), generations(settings)
    try:
        yield PublishParts(towers_, generations_, settings.home, settings.repository, settings.triton_device)
    finally:
        await towers_.close()
        await generations_.close()


@asynccontextmanager
async def refresh_parts(settings: Settings) -> AsyncIterator["RefreshParts"]:
    """What a refresh works on, closed again."""
    from models.refresh.parts import RefreshConfig, RefreshParts
    from models.refresh.records import RefreshRecords

    async with (
        publish_parts(settings) as publishing,
        _reenrichment(settings, publishing) as reenrichment,
        learner(settings, publishing.generations) as learns,
    ):
        yield RefreshParts(
            lease=lease(settings, "refresh"),
            records=RefreshRecords(settings.home / "runs"),
            unlogged=partial(_unlogged, settings),
            learner=learns,
            publish=publishing,
            reenrich=lambda number, report: reenrichment.run(number, partial(report, "re-enrich")),
            config=RefreshConfig(settings.lease_seconds, settings.log_settles, settings.keep, settings.refused_days),
        )


@asynccontextmanager
async def learner(settings: Settings, found: Generations) -> AsyncIterator["LogLearner"]:
    """What learns from the training log, and from the attributes of items that were registered."""
    from models.evaluation.gate import GateConfig
    from models.refresh.learn import LearnConfig, LogLearner

    config = LearnConfig(settings.outcome_window, settings.held_out, GateConfig(tolerance=settings.gate_tolerance))
    items = item_registry(settings)
    try:
        yield LogLearner(training_log(settings), found, settings.home, config, items)
    finally:
        await items.close()


async def _unlogged(settings: Settings) -> int:
    """Rankings, behaviours and erasures in Kafka by now that the training log lacks after `log_patience`."""
    from streams.topics import TopicNames
    from streams.worker.lag import KafkaBacklog, unhandled

    names = TopicNames(settings.topic_prefix)

    async def of(topic: str) -> int:
        backlog = KafkaBacklog(kafka_connection(settings), names.log_group, topic)
        try:
            return await unhandled(backlog, settings.log_patience)
        finally:
            await backlog.close()

    return sum(await asyncio.gather(of(names.ranked), of(names.behaved), of(names.erased)))


@asynccontextmanager
async def _reenrichment(settings: Settings, publishing: "PublishParts") -> AsyncIterator["Reenrichment"]:
    """Re-enrichment by the workers, on the towers and generations that publishing works on."""
    from features.generations.progress import RedisProgress
    from streams.parts import SignUpParts
    from streams.reenrichment import Reenrichment, ReenrichmentConfig
    from streams.topics import TopicNames
    from streams.worker.lag import KafkaBacklog

    names = TopicNames(settings.topic_prefix)
    progress = RedisProgress(redis_address(settings), prefix=settings.project, timeout=settings.redis_timeout)
    backlog = KafkaBacklog(kafka_connection(settings), names.group, names.reenrich)
    parts = SignUpParts(store(settings), publishing.towers, publishing.generations, events(settings))
    config = ReenrichmentConfig(tolerated=settings.reenrich_tolerated)
    async with AsyncExitStack() as opened:
        for part in (progress, backlog, parts.store, parts.events):
            opened.push_async_callback(part.close)
        yield Reenrichment(parts, progress, backlog, topic=names.reenrich, config=config)
