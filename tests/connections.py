"""No test on real servers leaves a connection open: where one is collected later, another test would be blamed."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterable

import pytest

CLOSED_WITHIN = 10.0


def watch_connections(items: Iterable[pytest.Item]) -> None:
    """Of the asynchronous tests among these."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, closes_connections.__name__)  # set up first, so that it is torn down last


@pytest.fixture
async def closes_connections() -> AsyncIterator[None]:
    """Fails where one is open a while after the test. TLS needs a moment: no client waits for the server's farewell."""
    yield
    loop = asyncio.get_running_loop()

    def left() -> list[str]:
        transports = list(loop._transports.values())  # of asyncio's selector loop
        return [str(each.get_extra_info("peername")) for each in transports if each._sock is not None]

    try:
        async with asyncio.timeout(CLOSED_WITHIN):
            while left():  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"connections left open to {', '.join(left())}")
