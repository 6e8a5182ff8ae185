"""What is killed, and when in a refresh."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Victim = Literal["trainer", "triton", "redis", "worker", "kafka"]
"""The trainer is the refresh's own process, which publishes too."""
WITHDRAW = "withdraw"
"""The step between the two halves of retiring: the record is gone, its version is still in the repository."""


@dataclass(frozen=True, slots=True)
class Point:
    """The first report of `step` that tells of `done` or more; `later` seconds after it, while the refresh goes on."""

    step: str
    done: int = 0
    later: float = 0.0

    def __str__(self) -> str:
        return f"{self.step} {self.done}"


@dataclass(frozen=True, slots=True)
class Case:
    """One kill -9. With `later` 0 of its point, the refresh stands still at the point until the victim is dead."""

    victim: Victim
    point: Point

    def __str__(self) -> str:
        return f"{self.victim} at {self.point}"


VICTIMS: Sequence[Victim] = ("trainer", "triton", "redis", "worker", "kafka")
LOADED, RE_ENRICH = Point("publish", 3), Point("re-enrich", 1)
POINTS = (
    Point("read the log"),
    Point("co-train", 5),
    Point("export", later=0.3),
    Point("gate", later=0.05),
    Point("publish", 1),
    Point("publish", 2),
    LOADED,
    Point("publish", 4),
    Point("publish", 5),
    RE_ENRICH,
    Point("swap"),
    Point("swap", 1),
    Point("retire"),
    Point(WITHDRAW),
)
ALL = [Case(victim, point) for point in POINTS for victim in VICTIMS]
"""In an order that kills no part twice in a row: the stack waits longer after each such death."""
FEW = [Case("trainer", LOADED), Case("redis", RE_ENRICH), Case("worker", RE_ENRICH)]


def cases(which: str) -> list[Case]:
    """`few` or `all`."""
    return FEW if which == "few" else ALL
