"""What one seed decides: which processes there are, what users do, and which faults come when."""

import random
from collections.abc import Mapping
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
    spot: int
    """Where a process is hit at work: an index among the spots that there are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions of one seed."""

    theme: str
    """One of `THEMES`, or empty."""
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
    prepares: float
    """Seconds until a ranking service has what asking another generation's towers needs."""
    tower_seconds: float
    """That a zero-shot tower takes."""
    instant_ms: int
    """Of all clocks of senders that tell coarse times alone: equal ones are frequent."""
    coarse: float
    """The share of senders with such a clock, at least."""
    keyless: float
    """The share of sign-ups without a key."""
    resent: float
    """The share of events that are sent again, where they can be told."""
    erasures: int
    """None where clocks step: which of two events was before the other is then for the reader's clock to say."""
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


THEMES: Mapping[str, tuple[Kind, ...]] = {
    "zombies": ("freeze at work", "freeze at work", "evict"),
    "refreshes": ("rollback", "rollback", "kill at work", "freeze at work", "triton flaky"),
    "losses": LOSSES,
    "parts": ("broker flaky", "log away", "log flaky", "triton flaky", "redis away"),
    "copies": ("freeze at work", "kill at work", "evict", "redis flaky"),
    "erasures": ("freeze at work", "freeze at work", "kill at work", "evict", "redis flaky"),
}
"""Kinds of faults that find together what is rare where any kind comes."""


def plan_of(rng: random.Random) -> Plan:
    """A plan. Each seed has some kinds of processes and of faults, and not others: alone, each goes deeper."""
    theme = rng.choice(("", "", "", *THEMES))
    kinds = list(THEMES.get(theme, ())) or rng.sample(KINDS, rng.randint(1, 4))
    zombies, refreshes, losses, parts, copies, erasing = (theme == each for each in THEMES)
    refreshers = (
        0 if zombies or losses or parts or copies or erasing else rng.choice((1, 2) if refreshes else (0, 0, 1, 1, 2))
    )
    if refreshers and "emptied" in kinds:
        kinds.remove("emptied")  # a person publishes what was there, and nobody trains meanwhile
    if "emptied" in kinds:  # who starts in an emptied store cannot tell it from a new one: that is left to a person
        kinds = [each for each in kinds if each not in ("kill", "leave", "kill at work")]
    most = rng.choice((0, 1, 2, 3, 4, 6))
    faults = (
        [
            _fault(rng, rng.choice(kinds), long=zombies or erasing or (refreshes and rng.random() < 0.5))
            for _ in range(most)
        ]
        if kinds
        else []
    )
    rankings = 25 if refreshes else rng.choice((0, 10, 25))
    return Plan(
        theme=theme,
        users=rng.randint(1, 2) if zombies or losses or copies or erasing else rng.randint(1, 5),
        sign_ups=rng.randint(10, 18) if zombies or refreshes or copies else rng.randint(3, 5 if erasing else 12),
        behaviours=rng.choice((20, 40)) if zombies or losses else rng.choice((0, 8, 20, 40) if parts else (0, 8, 20)),
        rankings=rankings,
        workers=rng.choice((2, 2, 3)) if zombies or copies or erasing else rng.choice((1, 2, 2, 2, 3)),
        refreshers=refreshers,
        shared_home=rng.random() < 0.5,
        watch=bool(refreshers and rankings and rng.random() < 0.6),
        log=rng.random() < (0.8 if parts or erasing else 0.3),
        synced=rng.random() < 0.3,
        one_step=rng.random() < (0.4 if zombies else 0.7),
        bad_generations=rng.choice((0.0, 0.0, 0.5)),
        latency=rng.choice((0.001, 0.005, 0.03)),
        prepares=rng.choice((0.0, 0.0, 4.0)),
        tower_seconds=rng.choice((0.2, 0.6) if copies else (0.0, 0.0, 0.2, 0.6)),
        instant_ms=rng.choice((2000, 20_000) if refreshes else (2000, 2000, 20_000)),
        coarse=rng.choice((0.0, 0.7) if refreshes or losses else (0.0, 0.0, 0.7)),
        keyless=0.6 if copies else rng.choice((0.0, 0.15, 0.6)),
        resent=0.5 if copies or erasing else 0.15,
        faults=tuple(sorted(faults, key=lambda each: each.at)),
        erasures=0
        if {"clock step", "broker clock step"}.intersection(kinds)
        else rng.choice((2, 3, 4) if erasing else (0, 0, 0, 0, 2)),
    )


def _fault(rng: random.Random, kind: Kind, *, long: bool) -> Fault:
    """It is over before users stop acting, or then."""
    at = rng.uniform(0.5, 7.0 if long else ACTIVE - 1.0)
    seconds = min(rng.choice((4.0, 4.5, 9.0) if long else (0.3, 1.5, 4.0, 9.0)), ACTIVE - at)
    return Fault(at, kind, rng.randrange(100), seconds, rng.choice((1, 1, 2, 3, 6, 12)), rng.randrange(100))
