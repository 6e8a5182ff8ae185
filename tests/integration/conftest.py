"""What holds for every test on real servers."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

CLOSED_WITHIN = 10.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        is_here = item.path.is_relative_to(Path(__file__).parent)  # pytest hands over those of all folders
        if is_here and isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, closes_connections.__name__)  # set up first, so that it is torn down last


@pytest.fixture
async def closes_connections() -> AsyncIterator[None]:
    """A test leaves no connection open. TLS needs a moment: clients do not wait for the server's farewell."""
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
