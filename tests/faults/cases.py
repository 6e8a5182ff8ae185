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


CO_TRAIN = Point("co-train", 5)
RE_ENRICH = Point("re-enrich", 1)
SWAP = Point("swap")
OF_THE_PARTS = (CO_TRAIN, Point("publish", 2), Point("publish", 3), RE_ENRICH, SWAP)
PARTS: Sequence[Victim] = ("triton", "redis", "worker")
TRAINER = [
    Case("trainer", point)
    for point in (
        Point("read the log"),
        CO_TRAIN,
        Point("export", later=0.3),
        Point("gate", later=0.05),
        *(Point("publish", step) for step in range(1, 6)),
        RE_ENRICH,
        SWAP,
        Point("swap", 1),
        Point("retire"),
        Point(WITHDRAW),
    )
]
SERVERS = [Case(victim, point) for point in OF_THE_PARTS for victim in PARTS]
KAFKA = [Case("kafka", point) for point in (CO_TRAIN, RE_ENRICH, SWAP)]
FEW = [Case("trainer", Point("publish", 3)), Case("redis", RE_ENRICH), Case("worker", RE_ENRICH)]


def cases(which: str) -> list[Case]:
    """`few` or `all`, in an order that kills no part twice in a row: the stack waits longer after each such death."""
    if which == "few":
        return FEW
    others = [*SERVERS, *KAFKA]
    mixed = [case for pair in zip(TRAINER, others, strict=False) for case in pair]
    return [*mixed, *others[len(TRAINER) :]]
