"""A refresh in a process of its own that can be made to stand still at any of its steps, to be killed there."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

from foretaste import compose
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.leasing import LeaseHeld
from foretaste.settings import Settings
from models.refresh.learn import LogLearner
from models.refresh.parts import RefreshParts, RefreshRequest
from models.refresh.records import RefreshOutcome
from models.refresh.refresh import refresh
from tests.faults.swaps.cases import WITHDRAW, Point

PATIENCE = 100.0
"""Seconds for the next word of a refresh."""
BROKE_OFF = "broke off"
"""Said of a refresh whose process ended without a word: by an error, or a kill, that is none of ours."""


@dataclass(frozen=True, slots=True)
class Reached:
    """It stands at its point, or has just passed it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a refresh ended; `outcome` is None where it failed or was killed."""

    outcome: RefreshOutcome | None
    said: str


@dataclass
class Refreshing:
    """A running refresh, seen from outside."""

    process: BaseProcess
    _pipe: Connection

    def reached(self) -> None:
        """Returns once it is at its point; fails where it ended before."""
        heard = self._heard()
        assert isinstance(heard, Reached), f"it ended before: {heard}"

    def go_on(self) -> None:
        self._pipe.send(None)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def end(self) -> Ended:
        heard = self._heard()
        assert isinstance(heard, Ended), heard
        return heard

    def _heard(self) -> Any:
        assert self._pipe.poll(PATIENCE), f"the refresh has said nothing for {PATIENCE:g} s"
        try:
            return self._pipe.recv()
        except EOFError:
            return Ended(None, BROKE_OFF)


@contextmanager
def refreshing(
    context: ForkServerContext, settings: Settings, order: RefreshRequest, point: Point | None
) -> Iterator[Refreshing]:
    """A refresh, begun; it is gone when this ends."""
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(settings, order, point, there), daemon=True)
    process.start()
    there.close()
    try:
        yield Refreshing(process, here)
    finally:
        process.kill()
        process.join()
        here.close()


def _run(settings: Settings, order: RefreshRequest, point: Point | None, to: Connection) -> None:
    waiting = point

    def report(step: str, done: int, _total: int | None) -> None:
        nonlocal waiting
        if waiting is not None and step == waiting.step and done >= waiting.done:
            later, waiting = waiting.later, None
            to.send(Reached())
            if not later:
                to.recv()

    to.send(asyncio.run(_refresh(settings, order, report)))


async def _refresh(settings: Settings, order: RefreshRequest, report: Any) -> Ended:
    while True:
        try:
            async with compose.refresh_parts(settings) as parts:
                record = await refresh(_told(parts, report), order, report)
        except LeaseHeld:  # by the one that was killed, for a while
            await asyncio.sleep(0.2)
        except ForetasteError as error:
            return Ended(None, str(error))
        else:
            return Ended(record.outcome, record.detail)


def _told(parts: RefreshParts, report: Any) -> RefreshParts:
    """The parts of a refresh that keeps a checkpoint after every step, and reports the middle of a retirement."""
    assert isinstance(parts.learner, LogLearner)
    often = replace(parts.learner.config, checkpoint_every=0.0)
    generations: Any = _ReportedRetirement(parts.publish.generations, report)
    return replace(
        parts, learner=replace(parts.learner, config=often), publish=replace(parts.publish, generations=generations)
    )


class _ReportedRetirement:
    """`Generations` that report when a record is gone, and its version is not withdrawn yet."""

    def __init__(self, generations: Any, report: Any) -> None:
        self._generations = generations
        self._report = report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generations, name)

    async def retire(self, number: int) -> None:
        await self._generations.retire(number)
        self._report(WITHDRAW, 0, 1)
