"""One seed, run to its end: what was wrong, and a digest of all that happened."""

import gc
import logging
from dataclasses import dataclass, field

from tests.simulation.planted.catalogue import PLANTED
from tests.simulation.system import System


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed came to. `violations` is empty where everything held."""

    seed: int
    planted: str | None
    violations: tuple[str, ...]
    digest: str
    """Of every step: the same seed has the same one, wherever it runs."""
    seconds: float
    """By the clock of the simulation."""
    trace: tuple[str, ...] = field(default=(), repr=False)

    @property
    def replay(self) -> str:
        """The command that runs it again and prints its steps."""
        planted = "" if self.planted is None else f" --planted {self.planted}"
        return f".venv/bin/python -m tests.simulation --seed {self.seed}{planted}"


def simulate(seed: int, planted: str | None = None, *, keep_trace: bool = False) -> Outcome:
    """Run one seed, with a planted fault where one is named."""
    collecting = gc.isenabled()
    gc.disable()  # what it finalizes would run at no certain step
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        if planted is None:
            return _run(seed, None, keep_trace=keep_trace)
        with PLANTED[planted].planted():
            return _run(seed, planted, keep_trace=keep_trace)
    finally:
        logging.disable(disabled)
        if collecting:
            gc.enable()


def _run(seed: int, planted: str | None, *, keep_trace: bool) -> Outcome:
    system = System(seed, keep_trace=keep_trace)
    system.run()
    world = system.world
    return Outcome(seed, planted, tuple(world.violations), world.digest, world.loop.time(), tuple(world.lines or ()))
