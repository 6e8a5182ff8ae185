"""What one seed decides: which processes there are, what users do, and which faults come when."""

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "kill",
    "leave",
    "freeze",
    "freeze at work",
    "kill at work",
    "join",
    "evict",
    "redis away",
    "redis hangs",
    "redis flaky",
    "failover",
    "power cut",
    "emptied",
    "broker away",
    "broker hangs",
    "broker flaky",
    "lost commits",
    "triton away",
    "triton hangs",
    "triton flaky",
    "log away",
    "log flaky",
    "clock step",
    "broker clock step",
    "rollback",
]
KINDS: tuple[Kind, ...] = Kind.__args__
LOSSES: tuple[Kind, ...] = ("failover", "power cut", "emptied")
"""After which the store lacks what it had acknowledged."""
ACTIVE = 12.0
"""Seconds in which users act and faults come."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when it comes, what it hits (an index among what there is), for how long, and how much it takes."""

    at: float
    kind: Kind
    target: int
    seconds: float
    amount: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions of one seed."""

    users: int
    sign_ups: int
    behaviours: int
    rankings: int
    workers: int
    refreshers: int
    """Processes that refresh, racing for one lease."""
    shared_home: bool
    """They run on one machine, with one folder of records."""
    watch: bool
    log: bool
    synced: bool
    """Workers wait for the store's disk."""
    one_step: bool
    """The store is that on Redis; else that of any other Feast online store, which has to be read before each write."""
    bad_generations: float
    """The share of candidates whose ranking tower answers what is no number."""
    latency: float
    faults: tuple[Fault, ...]

    def has(self, *kinds: Kind) -> bool:
        return any(each.kind in kinds for each in self.faults)

    @property
    def loses(self) -> bool:
        return self.has(*LOSSES)

    @property
    def exact_times(self) -> bool:
        """No reader's clock is behind that of the broker: when an event happened is the same whoever reads it."""
        return not self.has("clock step", "broker clock step")

    @property
    def calm(self) -> bool:
        """Nobody stands still, dies, or waits long for a part."""
        return not self.faults


def plan_of(rng: random.Random) -> Plan:
    """A plan. Each seed has some kinds of processes and of faults, and not others: alone, each goes deeper."""
    kinds = rng.sample(KINDS, rng.randint(1, 4))
    refreshers = rng.choice((0, 0, 1, 1, 2))
    if refreshers and "emptied" in kinds:
        kinds.remove("emptied")  # a person publishes what was there, and nobody trains meanwhile
    if "emptied" in kinds:  # who starts in an emptied store cannot tell it from a new one: that is left to a person
        kinds = [each for each in kinds if each not in ("kill", "leave", "kill at work")]
    faults = (
        sorted(
            (_fault(rng, rng.choice(kinds)) for _ in range(rng.choice((0, 1, 2, 3, 4, 6)))), key=lambda each: each.at
        )
        if kinds
        else []
    )
    rankings = rng.choice((0, 10, 25))
    return Plan(
        users=rng.randint(1, 5),
        sign_ups=rng.randint(3, 12),
        behaviours=rng.choice((0, 8, 20)),
        rankings=rankings,
        workers=rng.choice((1, 2, 2, 2, 3)),
        refreshers=refreshers,
        shared_home=rng.random() < 0.5,
        watch=bool(refreshers and rankings and rng.random() < 0.6),
        log=rng.random() < 0.35,
        synced=rng.random() < 0.3,
        one_step=rng.random() < 0.7,
        bad_generations=rng.choice((0.0, 0.0, 0.5)),
        latency=rng.choice((0.001, 0.005, 0.03)),
        faults=tuple(faults),
    )


def _fault(rng: random.Random, kind: Kind) -> Fault:
    """It is over before users stop acting, or then."""
    at = rng.uniform(0.5, ACTIVE - 1.0)
    return Fault(
        at,
        kind,
        rng.randrange(100),
        min(rng.choice((0.3, 1.5, 4.0, 9.0)), ACTIVE - at),
        rng.choice((1, 1, 2, 3, 6, 12)),
    )
