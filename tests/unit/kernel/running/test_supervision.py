"""Tasks that are to run for ever: an end is said, counted, and made good."""

import asyncio
from dataclasses import dataclass, field

import pytest

from foretaste.kernel.running.readiness import ProcessReadiness
from foretaste.kernel.running.supervision import Supervision


@dataclass
class Run:
    """A task that ends as it is told: each of `ends` by its error, by returning where that is None; then never."""

    ends: list[BaseException | None]
    began: int = 0
    pauses: list[float] = field(default_factory=list)
    steady: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    async def __call__(self) -> None:
        self.began += 1
        if self.began <= len(self.ends):
            error = self.ends[self.began - 1]
            if error is not None:
                raise error
            return
        self.steady.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def readiness() -> ProcessReadiness:
    return ProcessReadiness()


@pytest.fixture
def ended() -> list[str]:
    return []


async def test_an_end_is_said_and_counted_and_it_starts_again(
    readiness: ProcessReadiness, ended: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = Run([KeyError("x"), None, ValueError("y")])
    tasks = Supervision(readiness, ended.append, sleep=run.sleep)
    tasks.start("loader", run)
    await run.steady.wait()
    assert ended == ["loader"] * 3
    assert run.pauses == [0.5, 1.0, 2.0]
    assert readiness.reasons == {"loader": "the task ended: ValueError: y"}
    said = [line for line in caplog.messages if line.startswith("the task")]
    assert said[:2] == [
        "the task 'loader' ended, and starts again in 0.5 s: KeyError: 'x'",
        "the task 'loader' ended, and starts again in 1.0 s: it returned",
    ]
    await tasks.close()
    assert run.cancelled


async def test_a_task_that_runs_is_ready_and_ends_when_it_is_closed(
    readiness: ProcessReadiness, ended: list[str]
) -> None:
    run = Run([])
    tasks = Supervision(readiness, ended.append, sleep=run.sleep)
    tasks.start("loader", run)
    await run.steady.wait()
    assert readiness.reasons == {}
    await tasks.close()
    assert run.cancelled
    assert ended == []


async def test_a_long_life_forgets_earlier_ends(readiness: ProcessReadiness, ended: list[str]) -> None:
    times = iter([0.0, 1.0, 2.0, 3.0, 4.0, 1000.0, 1001.0])
    run = Run([KeyError("1"), KeyError("2"), KeyError("3")])
    tasks = Supervision(readiness, ended.append, clock=lambda: next(times), sleep=run.sleep)
    tasks.start("loader", run)
    await run.steady.wait()
    assert run.pauses == [0.5, 1.0, 0.5]
    await tasks.close()
