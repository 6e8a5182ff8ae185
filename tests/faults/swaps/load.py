"""Rankings and sign-ups that go on in a process of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Event

from benchmarks.swap.load import LoadPlan, LoadRecord, run
from foretaste.kernel.values import Attributes
from foretaste.settings import Settings

GRACE = 40.0
"""Seconds in which the load must begin, and end: above what a request may take."""


@dataclass(frozen=True, slots=True)
class NamedLoad(LoadPlan):
    """Sign-ups under names of its own."""

    name: str

    def sign_up(self, number: int) -> tuple[str, Attributes]:
        return f"{self.name}-{number}", self.attributes[number % len(self.attributes)]


@dataclass(frozen=True, slots=True)
class Loading:
    _ended: Event
    _from: Connection

    def end(self) -> LoadRecord:
        """Tell it to end, and what it saw."""
        self._ended.set()
        found = _heard(self._from)
        assert isinstance(found, LoadRecord)
        return found


@contextmanager
def loading(context: ForkServerContext, plan: NamedLoad, settings: Settings) -> Iterator[Loading]:
    """The load, connected and begun; its process is gone when this ends."""
    ended = context.Event()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(plan, settings, ended, there), daemon=True)
    process.start()
    there.close()
    try:
        _heard(here)
        yield Loading(ended, here)
    finally:
        ended.set()
        process.join(1)
        process.kill()
        process.join()
        here.close()


def _heard(pipe: Connection) -> object:
    assert pipe.poll(GRACE), f"the load has said nothing for {GRACE:g} s"
    return pipe.recv()
