"""The upkeep of the training log, retention and compaction, beside whoever writes it."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from foretaste import compose
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.leasing import LeaseHeld, LeaseLost, leased
from foretaste.kernel.ports import Clock
from foretaste.settings import Settings

log = logging.getLogger(__name__)


async def keep_up(settings: Settings) -> None:
    """Every `log_compact_hours`, by one of the writers, until cancelled.

    A part that is away is said aloud, and the next time tries again; what else goes wrong is a defect and raised.
    """
    while True:
        try:
            await keep_log(settings)
        except Unavailable as error:
            log.warning("the training log is not kept up yet: %s", error)
        except LeaseLost:
            log.warning("the training log is not kept up yet: another writer took over its upkeep")
        await asyncio.sleep(settings.log_compact_hours * 3600)


async def keep_log(settings: Settings, now: Clock = time.time) -> None:
    """Days beyond `log_days` removed, and one file for each other day; nothing where another is at it.

    Files that cannot be read stay as they are, and are named in a warning. Cancelled, it ends within the day's files
    that it is at. Raises `Unavailable` for Redis or a disk that is, and `LeaseLost`.
    """
    try:
        async with leased(compose.lease(settings, "log"), settings.lease_seconds) as ended:
            today = datetime.fromtimestamp(now(), UTC).date()
            training_log = compose.training_log(settings)
            await training_log.expire(today - timedelta(days=settings.log_days))
            compacted = await training_log.compact(today + timedelta(days=1), ended.is_set)
    except LeaseHeld:
        return
    for path in compacted.skipped:
        log.warning("training log: %s cannot be read, and is left out of its day's file", path)
