"""What is sent during a fault: sign-ups and behaviours in one order, some of them odd, the same for the same plan."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foretaste.kernel.values import Attributes
from tests.faults.streams.history import Kind

BAD_EVERY, AGAIN_EVERY, RESENT_EVERY = 100, 20, 40
"""One in so many events is no event at all, a sign-up of somebody who signed up before, a behaviour that was sent."""
LATE_EVERY, COARSE_EVERY = 13, 10
"""One in so many behaviours arrives late; one in so many users has a clock of whole steps, so that times are equal."""
LATE_MS, COARSE_MS = 30_000, 2_000
BEHAVIOURS_EACH = 24
"""Of a user who acts: fewer than a row holds, so that all can be compared."""
ACTORS_SIGN_UP = 0.6
"""So far into the load those who act sign up: by then most are warm."""
HOUR_MS = 3_600_000
FIRST_AGE = 18
"""Of a user's first sign-up; each further one is a year older, so that the attributes tell which one they are from."""

Clock = Callable[[float], int]
"""By how many milliseconds the senders' clock is off, by the seconds since the load began."""


def true_clock(_seconds: float) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How many events, how fast, and what is odd about them."""

    name: str
    """Of all its users and events, unlike any other's."""
    attributes: Sequence[Attributes]
    items: Sequence[str]
    events: int = 10_000
    rate: float = 500.0
    """A second."""
    clock: Clock = true_clock
    claims_ahead_ms: int = 0
    """By which every second behaviour claims a later time than its record has."""
    keyless: bool = False
    """Sign-ups have no key."""
    codecs: bool = False
    """Records are compressed, by each of Kafka's codecs."""
    transactions: bool = False
    """Records are sent in transactions, of which every third is aborted."""
    poison: bool = False
    """Records that nobody can decode lie in each partition of both topics."""

    @property
    def seconds(self) -> float:
        return self.events / self.rate


@dataclass(frozen=True, slots=True)
class Planned:
    """One record that is to be sent."""

    kind: Kind
    event: str
    user: str
    body: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    time_field: str = ""
    """Where the time that is claimed stands; empty: none is."""
    back_ms: int = 0
    step_ms: int = 1
    """The claimed time lies so far back, and on such a step."""
    ahead_ms: int = 0
    as_of: str = ""
    """An event that was sent before: this one claims the same time; empty: one of its own."""
    keyed: bool = True
    raw: bytes | None = None
    """The value itself, of what is no event."""
    is_sign_up: bool = True
    """Which topic it goes to."""
    partition: int | None = None
    """None: by its key."""

    def claimed_ms(self, now_ms: int) -> int | None:
        if not self.time_field:
            return None
        return (now_ms - self.back_ms + self.ahead_ms) // self.step_ms * self.step_ms

    def value(self, claimed_ms: int | None) -> bytes:
        """The record's, of an event that happened at `claimed_ms`; its own value, of what is none."""
        if self.raw is not None:
            return self.raw
        return json.dumps(self.body if claimed_ms is None else {**self.body, self.time_field: claimed_ms}).encode()


def planned(plan: LoadPlan, partitions: int) -> Iterator[Planned]:
    """The records in the order in which they are due: as many as the plan says, and poison beside them."""
    load = _Load(plan)
    for place in range(plan.events):
        if plan.poison and place % (plan.events // 8) == plan.events // 16:
            yield from _poison(plan, place, partitions)
        yield load.record(place)


class _Load:
    """What was planned so far."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._actors = max(plan.events // 2 // BEHAVIOURS_EACH, 1)
        self._actors_signed = 0
        self._behaviours = 0
        self._acted: dict[str, Planned] = {}
        self._signed: list[Planned] = []

    def record(self, place: int) -> Planned:
        """The next one, which is the `place`-th."""
        if place % BAD_EVERY == BAD_EVERY - 1:
            return _bad(self._plan, place)
        if place % AGAIN_EVERY == AGAIN_EVERY // 2 - 1 and self._signed:
            return self._sign_up_again(place)
        return self._act(place) if place % 2 else self._sign_up(place)

    def _sign_up(self, place: int) -> Planned:
        name = self._plan.name
        if self._actors_signed < self._actors and place >= ACTORS_SIGN_UP * self._plan.events:
            self._actors_signed += 1
            return _sign_up(self._plan, place, f"{name}-actor-{self._actors_signed - 1}", 0)
        self._signed.append(_sign_up(self._plan, place, f"{name}-{place}", 0))
        return self._signed[-1]

    def _sign_up_again(self, place: int) -> Planned:
        """Of somebody who signed up before; every second one claims the time of the one before, where that has one."""
        before = self._signed.pop(len(self._signed) // 2)
        again = _sign_up(self._plan, place, before.user, before.number + 1)
        if place // AGAIN_EVERY % 2 and before.time_field:
            again = replace(again, time_field=before.time_field, as_of=before.event)
        self._signed.append(again)
        return again

    def _act(self, place: int) -> Planned:
        self._behaviours += 1
        user = f"{self._plan.name}-actor-{self._behaviours % self._actors}"
        if self._behaviours % RESENT_EVERY == 0 and user in self._acted:
            return self._acted[user]
        self._acted[user] = _behaviour(self._plan, place, user, self._behaviours)
        return self._acted[user]


def _sign_up(plan: LoadPlan, place: int, user: str, number: int) -> Planned:
    attributes = {**plan.attributes[place % len(plan.attributes)], "age": FIRST_AGE + number}
    body = {"user_id": user, "attributes": attributes}
    has_time = place % 3 > 0
    return Planned(
        "sign-up",
        f"s{place}",
        user,
        body if place % 5 else {**body, "event_id": f"{plan.name} s{place}"},
        number,
        time_field="registered_at" if has_time else "",
        keyed=not plan.keyless,
    )


def _behaviour(plan: LoadPlan, place: int, user: str, behaviours: int) -> Planned:
    """Its action is its name, so that the row tells which ones are there. It has an id, by which it may be resent."""
    event, actor = f"b{place}", int(user.rpartition("-")[2])
    item = plan.items[place % len(plan.items)]
    return Planned(
        "behaviour",
        event,
        user,
        {"user_id": user, "item_id": item, "action": event, "event_id": f"{plan.name} {event}"},
        time_field="at",
        back_ms=LATE_MS if behaviours % LATE_EVERY == 0 else 0,
        step_ms=COARSE_MS if actor % COARSE_EVERY == 0 else 1,
        ahead_ms=plan.claims_ahead_ms * (behaviours % 2),
        is_sign_up=False,
    )


def _bad(plan: LoadPlan, place: int) -> Planned:
    user = f"{plan.name}-bad-{place}"
    return Planned("poison", f"x{place}", user, {"user_id": user}, is_sign_up=place % 200 > BAD_EVERY)


def _poison(plan: LoadPlan, place: int, partitions: int) -> Iterator[Planned]:
    """Each kind in turn, in each partition of both topics."""
    kinds = (b"{", b"\xff\xfe\x00", b"", b"[1]", b'{"user_id": "\\ud800", "attributes": {}}', b"x" * 70_000)
    for partition in range(partitions):
        for is_sign_up in (True, False):
            raw = kinds[(place + partition) % len(kinds)]
            name = f"p{place}-{partition}-{'s' if is_sign_up else 'b'}"
            user = f"{plan.name}-poison"
            yield Planned("poison", name, user, raw=raw, is_sign_up=is_sign_up, partition=partition)
