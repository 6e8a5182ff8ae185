"""Waiting for all parts of a stack to work: a process that still imports is alive already, and does nothing yet."""

import asyncio
import json
from contextlib import AsyncExitStack
from urllib.request import Request, urlopen

from foretaste import compose
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.events import UserRegistered
from foretaste.kernel.values import Attributes
from foretaste.settings import Settings
from streams.codec import EVENTS
from streams.topics import TopicNames
from streams.watch.monitor import WatchConfig
from streams.worker.lag import KafkaBacklog, unhandled

FIRST_USER = "first"
SHOWN = 1.0
"""Seconds until a ranking lies on its topic: impressions are gathered."""
STARTING = 120.0
"""Seconds for a part to start, at most."""


async def wait_for_all_parts(settings: Settings, api: str, attributes: Attributes, item: str) -> None:
    """Returns once the worker has handled a sign-up, and the log and the watch a ranking of that user.

    Raises `ForetasteError` for a part that did not come to it within `STARTING` seconds.
    """
    connection, names = compose.kafka_connection(settings), TopicNames(settings.topic_prefix)
    async with AsyncExitStack() as stack:
        events = compose.events(settings)
        stack.push_async_callback(events.close)
        value = EVENTS.encode(UserRegistered(user_id=FIRST_USER, attributes=attributes))
        await events.send(names.registered, FIRST_USER.encode(), value)
        await asyncio.to_thread(_rank, api, item)
        await asyncio.sleep(SHOWN)
        for part, group, topic in (
            ("worker", names.group, names.registered),
            ("log", names.log_group, names.ranked),
            ("watch", WatchConfig(names).group, names.ranked),
        ):
            backlog = KafkaBacklog(connection, group, topic)
            stack.push_async_callback(backlog.close)
            if await unhandled(backlog, STARTING):
                raise ForetasteError(f"{part}: did not start within {STARTING:g} s")


def _rank(api: str, item: str) -> None:
    body = json.dumps({"user_id": FIRST_USER, "items": [item]}).encode()
    request = Request(f"{api}/v1/rank", body, {"Content-Type": "application/json"})  # noqa: S310  # our own service
    with urlopen(request, timeout=10) as answer:  # noqa: S310  # likewise
        assert answer.status == 200
