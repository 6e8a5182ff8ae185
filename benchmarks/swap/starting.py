"""Waiting for all parts of a stack to work: a process that still imports is alive already, and does nothing yet."""

import asyncio
from contextlib import AsyncExitStack

from foretaste import compose
from foretaste.client import AsyncForetaste
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.events import UserRegistered
from foretaste.kernel.values import Attributes
from foretaste.settings import Settings
from streams.codec import EVENTS
from streams.topics import TopicNames
from streams.watch.monitor import WatchConfig
from streams.worker.lag import KafkaBacklog

FIRST_USER = "first"
STARTING = 120.0
"""Seconds for all parts to start, at most."""
LOOK_EVERY = 0.1
"""Seconds between two looks at how far a part has come."""


async def wait_for_all_parts(settings: Settings, api: str, attributes: Attributes, item: str) -> None:
    """Returns once the worker has handled a sign-up, and the log and the watch a ranking of that user.

    Raises `ForetasteError` for a part that did not come to it within `STARTING` seconds, and what the client raises.
    """
    connection, names = compose.kafka_connection(settings), TopicNames(settings.topic_prefix)
    groups = {
        "worker": (names.group, names.registered),
        "log": (names.log_group, names.ranked),
        "watch": (WatchConfig(names).group, names.ranked),
    }
    async with AsyncExitStack() as stack:
        backlogs = {part: KafkaBacklog(connection, *group) for part, group in groups.items()}
        for backlog in backlogs.values():
            stack.push_async_callback(backlog.close)
        before = {part: await _handled(backlog) for part, backlog in backlogs.items()}
        events = compose.events(settings)
        stack.push_async_callback(events.close)
        value = EVENTS.encode(UserRegistered(user_id=FIRST_USER, attributes=attributes))
        await events.send(names.registered, FIRST_USER.encode(), value)
        async with AsyncForetaste(api) as service:
            await service.rank(FIRST_USER, [item])
        given_up = asyncio.get_running_loop().time() + STARTING
        for part, backlog in backlogs.items():
            try:
                async with asyncio.timeout_at(given_up):
                    while await _handled(backlog) == before[part]:  # noqa: ASYNC110  # no event tells of it
                        await asyncio.sleep(LOOK_EVERY)
            except TimeoutError:
                raise ForetasteError(f"{part}: did not start within {STARTING:g} s") from None


async def _handled(backlog: KafkaBacklog) -> int:
    return sum(position.done for position in (await backlog.positions()).values())
