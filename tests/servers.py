"""Servers for tests: held open by a thread, or by all processes of a run in common."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
from filelock import FileLock

LOOK_SECONDS = 0.2

T = TypeVar("T")


@contextmanager
def held(opened: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """An asynchronous context held open by a thread of its own, for tests that each have a loop of theirs."""
    ready, box, failure = threading.Event(), [], []
    end: list[Callable[[], object]] = []

    async def hold() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with opened() as value:
            box.append(value)
            end.append(lambda: loop.call_soon_threadsafe(done.set))
            ready.set()
            await done.wait()

    def run() -> None:
        try:
            asyncio.run(hold())
        except BaseException as error:
            failure.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    if failure:
        thread.join()
        raise failure[0]
    try:
        yield box[0]
    finally:
        end[0]()
        thread.join()


@contextmanager
def shared_server(folder: Path, start: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The address of one server for all processes of a test run: whoever comes first starts it by `start`, and ends it
    once all others are done.

    One start in each process costs as much as hundreds of tests, and what idles there as much again.
    `folder` is the server's own, in one that all processes of the run have in common.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address, own = folder / "address", folder / f"{os.getpid()}.user"
    lock = FileLock(folder / "lock")
    with ExitStack() as started:
        with lock:
            own.touch()
            is_first = not address.exists()
            if is_first:
                address.write_text(started.enter_context(start()))
        try:
            yield address.read_text()
        finally:
            own.unlink()
            while is_first:
                with lock:
                    if not _users(folder):
                        address.unlink()  # who comes later starts one
                        break
                time.sleep(LOOK_SECONDS)


def _users(folder: Path) -> list[int]:
    """Processes that use the server; one that was killed does not any more."""
    return [pid for path in folder.glob("*.user") if psutil.pid_exists(pid := int(path.stem))]
