"""The upkeep of the training log, retention and compaction, beside whoever writes it."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.leasing import Lease, LeaseHeld, LeaseLost, leased
from foretaste.kernel.ports import Clock, LogUpkeep

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpkeepConfig:
    """What a deployment decides of the upkeep."""

    days: int
    """Which the log keeps before today."""
    every: float
    """Seconds between two looks at it."""
    lease_seconds: float
    """For which a lease is given that is not renewed."""


async def keep_up(
    training_log: LogUpkeep, lease: Callable[[], Lease], config: UpkeepConfig, now: Clock = time.time
) -> None:
    """Again and again, until cancelled, by one of those that have the same lease; `lease` makes one for each time.

    A part that is away is said aloud, and the next time tries again; what else goes wrong is a defect and raised.
    """
    while True:
        try:
            await keep_log(training_log, lease(), config, now)
        except Unavailable as error:
            log.warning("the training log is not kept up yet: %s", error)
        except LeaseLost:
            log.warning("the training log is not kept up yet: another writer took over its upkeep")
        await asyncio.sleep(config.every)


async def keep_log(training_log: LogUpkeep, lease: Lease, config: UpkeepConfig, now: Clock = time.time) -> None:
    """Days beyond `config.days` removed, and one file for each other day; nothing where another is at it.

    Files that cannot be read stay as they are, and are named in a warning. Cancelled, it ends within the day's files
    that it is at. The lease is closed. Raises `Unavailable` for what holds the lease or the log, and `LeaseLost`.
    """
    try:
        async with leased(lease, config.lease_seconds) as ended:
            today = datetime.fromtimestamp(now(), UTC).date()
            await training_log.expire(today - timedelta(days=config.days))
            compacted = await training_log.compact(today + timedelta(days=1), ended.is_set)
    except LeaseHeld:
        return
    for path in compacted.skipped:
        log.warning("training log: %s cannot be read, and is left out of its day's file", path)
