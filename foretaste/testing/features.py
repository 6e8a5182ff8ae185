"""The in-memory forms of the ports of this package: the same semantics as on Redis, for tests and small trials."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np

from features.generations.records import check_idle, check_slot
from features.log.erasures import ErasedFromLog, LogFence
from features.log.rows import BEHAVIOUR_ROWS, RANKING_ROWS, behaviours_table, each_once, rankings_table, within
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.generations import SLOTS, Generation, Move, Serving, check_same, slot
from foretaste.kernel.ports import Clock, CompactedDays, Logged
from foretaste.kernel.retrieval import MOST_POPULAR
from foretaste.kernel.running.erasing import ErasedUser, LogErasure, user_digest
from foretaste.kernel.users import (
    AppliedEvents,
    AttributesVersion,
    BehavedUser,
    EnrichedUser,
    Erasure,
    ReenrichedUser,
    UserFeatures,
    VirtualBehaviour,
)
from foretaste.kernel.values import Attributes


class InMemoryOnlineStore:
    """Attributes give way to a later registration, virtual behaviour to a newer one of the attributes that stand.

    A behaviour takes the place of the one that it was made from, or is refused.
    """

    def __init__(self) -> None:
        self._attributes: dict[str, tuple[AttributesVersion, Attributes | None]] = {}
        self._virtual: dict[tuple[str, str], tuple[int, VirtualBehaviour]] = {}
        self._behaviour: dict[str, BehavedUser] = {}
        self._erased: dict[str, int] = {}
        """When a user was erased last (epoch milliseconds)."""

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        return [self._features(user_id, generation) for user_id in user_ids]

    async def read_behaviour(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        return [self._behaved(user_id) for user_id in user_ids]

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> None:
        for user in users:
            stored = self._version(user.user_id)
            if not user.version.replaces(stored):
                continue
            self._attributes[user.user_id] = (user.version.after(stored), dict(user.attributes))
            own = None if user.virtual is None else slot(user.virtual.generation)
            for parity in SLOTS:
                at_ms, virtual = self._virtual.get((user.user_id, parity), (0, None))
                if user.virtual is not None and parity == own:
                    self._virtual[user.user_id, parity] = (max(at_ms, user.at_ms), _own(user.virtual))
                elif virtual is not None and at_ms >= user.at_ms:
                    self._virtual[user.user_id, parity] = (0, virtual)

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> None:
        for user in users:
            key = (user.user_id, slot(user.virtual.generation))
            if self._features(user.user_id, user.virtual.generation).is_erased:
                continue
            as_read = user.made_from is None or user.made_from.is_same(self._version(user.user_id))
            if as_read and user.at_ms > self._virtual.get(key, (0, None))[0]:
                self._virtual[key] = (user.at_ms, _own(user.virtual))

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        refused: list[str] = []
        for user in users:
            held = self._behaviour.get(user.user_id)
            stored = (0, self._fence_us(user.user_id)) if held is None else (held.version, held.at_us)
            if stored != (user.read_version, user.read_us):
                refused.append(user.user_id)
                continue
            self._behaviour[user.user_id] = user
        return refused

    async def erase(self, users: Sequence[ErasedUser]) -> list[str]:
        anew: list[str] = []
        for user in users:
            user_id, at_ms = user.user_id, user.version.at_ms
            stored, attributes = self._attributes.get(user_id, (AttributesVersion(), None))
            is_known = self._erased.get(user_id, -1) >= at_ms
            self._erased[user_id] = max(self._erased.get(user_id, -1), at_ms)
            if attributes is not None and not user.version.replaces(stored):
                anew.append(user_id)
                read = self._behaved(user_id)
                kept = Erasure(at_ms).since(read.behaviour)
                if not is_known or len(kept) < len(read.behaviour):
                    self._behaviour[user_id] = BehavedUser.after(read, kept)
            elif attributes is not None or not is_known:
                self._attributes[user_id] = (user.version.after(stored), None)
                self._behaviour.pop(user_id, None)
                for parity in SLOTS:
                    self._virtual.pop((user_id, parity), None)
        return anew

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        known = sorted(user for user, (_, attributes) in self._attributes.items() if attributes is not None)
        start = int(cursor or 0)
        end = start + count
        return known[start:end], str(end) if end < len(known) else None

    async def close(self) -> None:
        """Nothing is held open."""

    def _version(self, user_id: str) -> AttributesVersion:
        return self._attributes[user_id][0] if user_id in self._attributes else AttributesVersion()

    def _behaved(self, user_id: str) -> UserFeatures:
        held, erasure = self._behaviour.get(user_id), self._erasure(user_id)
        if held is None:
            return UserFeatures(user_id, behaviour_us=self._fence_us(user_id), erasure=erasure)
        return UserFeatures(
            user_id,
            behaviour=held.behaviour,
            behaviour_version=held.version,
            behaviour_us=held.at_us,
            applied=held.applied,
            erasure=erasure,
        )

    def _erasure(self, user_id: str) -> Erasure | None:
        if user_id not in self._erased:
            return None
        return Erasure(self._erased[user_id], self._attributes[user_id][1] is not None)

    def _fence_us(self, user_id: str) -> int:
        """The event time of the behaviour of a user who has none."""
        return self._erased.get(user_id, 0) * 1000

    def _features(self, user_id: str, generation: int) -> UserFeatures:
        version, (_, attributes) = self._version(user_id), self._attributes.get(user_id, (None, None))
        virtual_at, virtual = self._virtual.get((user_id, slot(generation)), (0, None))
        return replace(
            self._behaved(user_id),
            attributes=attributes,
            virtual=virtual,
            attributes_ms=version.at_ms,
            virtual_ms=virtual_at,
            attributes_place=version.place,
            registrations=version.digests,
            applied=AppliedEvents(),
            erasure=None,
        )


class InMemoryGenerations:
    """Records, the pointer and its moves in dictionaries of this process."""

    def __init__(self, now: Clock = time.time) -> None:
        self._now = now
        self._records: dict[int, Generation] = {}
        self._popularity: dict[int, dict[str, float]] = {}
        self._highest = 0
        self._retired: set[int] = set()
        self._active: int | None = None
        self._previous: int | None = None
        self._filling: int | None = None
        self._moves: list[Move] = []

    async def record(self, generation: Generation, popularity: Mapping[str, float]) -> None:
        number = generation.number
        if number in self._retired:
            raise InvalidInput("generation", number, "was retired, and its number is not given again")
        if number in self._records:
            check_same(generation, self._records[number])
            return
        self._records[number] = generation
        self._popularity[number] = dict(popularity)
        self._highest = max(self._highest, number)

    async def active(self) -> Generation | None:
        return None if self._active is None else self._records[self._active]

    async def serving(self) -> Serving:
        filling = None if self._filling is None else self._records[self._filling]
        return Serving(await self.active(), filling, self._previous)

    async def activate(self, number: int, expected: int | None, reason: str = "", *, filled: bool = False) -> bool:
        self._check_recorded(number)
        if self._active != expected:
            return False
        if number != expected:
            at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds")
            self._moves.insert(0, Move(number, expected, at, reason, filled))
            self._previous, self._active = expected, number
        if self._filling is not None and slot(self._filling) == slot(number):
            self._filling = None
        return True

    async def fill(self, number: int | None) -> None:
        if number is not None:
            self._check_recorded(number)
            check_slot(number, self._active)
        self._filling = number

    async def numbers(self) -> list[int]:
        return sorted(self._records)

    async def moves(self, limit: int = 20) -> list[Move]:
        return self._moves[:limit]

    async def retire(self, number: int) -> None:
        self._check_recorded(number)
        check_idle(number, self._active, self._filling, self._previous)
        del self._records[number], self._popularity[number]
        self._retired.add(number)

    async def get(self, number: int) -> Generation | None:
        return self._records.get(number)

    async def popular(self, number: int, count: int) -> list[str]:
        shares = self._popularity.get(number, {})
        return sorted(shares, key=lambda item: (-shares[item], item))[: min(max(count, 0), MOST_POPULAR)]

    async def shares(self, number: int, most: int) -> dict[str, float] | None:
        shares = self._popularity.get(number, {})
        return dict(shares) if len(shares) <= most else None

    async def popularity(self, number: int, items: Sequence[str]) -> list[float | None]:
        shares = self._popularity.get(number, {})
        return [shares.get(item) for item in items]

    async def highest(self) -> int:
        return self._highest

    async def close(self) -> None:
        """Nothing is held open."""

    def _check_recorded(self, number: int) -> None:
        if number not in self._records:
            raise InvalidInput("generation", number, "expected a recorded generation")


class InMemoryProgress:
    """How far re-enrichment has come, in a dictionary of this process."""

    def __init__(self) -> None:
        self._states: dict[int, str] = {}

    async def read(self, generation: int) -> str | None:
        return self._states.get(generation)

    async def write(self, generation: int, state: str) -> None:
        self._states[generation] = state

    async def forget(self, generation: int) -> None:
        self._states.pop(generation, None)

    async def close(self) -> None:
        """Nothing is held open."""


class InMemoryTrainingLog:
    """Rows in lists of this process, each as often as it was written, and read once."""

    def __init__(self) -> None:
        self._rankings: list[UserRanked] = []
        self._behaviours: list[UserBehaved] = []
        self._fences: dict[bytes, LogFence] = {}

    async def write_rankings(self, rankings: Sequence[UserRanked]) -> None:
        self._rankings += rankings

    async def write_behaviours(self, behaviours: Sequence[UserBehaved]) -> None:
        self._behaviours += behaviours

    async def read(self, since_ms: int, until_ms: int) -> Logged:
        erased = ErasedFromLog(self._fences)
        rankings = erased.left_of(rankings_table(self._rankings), "at")
        behaviours = erased.left_of(behaviours_table(self._behaviours), "at")
        return Logged(
            *erased.of_known(
                each_once(within(rankings, since_ms, until_ms), RANKING_ROWS),
                each_once(within(behaviours, since_ms, until_ms), BEHAVIOUR_ROWS),
            )
        )

    async def erase(self, erasures: Sequence[LogErasure]) -> None:
        known = ErasedFromLog(self._fences)
        self._fences |= {user_digest(each.user_id): LogFence.of(each) for each in erasures if not known.knows(each)}

    async def erased(self) -> frozenset[bytes]:
        return ErasedFromLog(self._fences).digests

    async def compact(self, before: date, ended: Callable[[], bool] = lambda: False) -> CompactedDays:
        """There are no files: the days are those that have rows, as long as `ended` does not say so."""
        days = sorted({each.at.date() for each in self._logged()})
        return CompactedDays([day for day in days if day < before and not ended()])

    async def expire(self, before: date) -> Sequence[date]:
        logged = self._logged()
        self._rankings = [each for each in self._rankings if each.at.date() >= before]
        self._behaviours = [each for each in self._behaviours if each.at.date() >= before]
        return sorted({each.at.date() for each in logged if each.at.date() < before})

    def _logged(self) -> list[UserRanked | UserBehaved]:
        return [*self._rankings, *self._behaviours]


def _own(virtual: VirtualBehaviour) -> VirtualBehaviour:
    return VirtualBehaviour(virtual.generation, np.array(virtual.vectors, dtype=np.float32))
