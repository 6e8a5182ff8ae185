"""The in-memory form of the online store: the same semantics as on Redis, for tests and small trials."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from foretaste.kernel.event_order import AppliedEvents, AttributesVersion, first_registration
from foretaste.kernel.generations import SLOTS, slot
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import (
    BehavedUser,
    EnrichedUser,
    Erasure,
    LaterBehaviour,
    ReenrichedUser,
    UserFeatures,
    VirtualBehaviour,
)
from foretaste.kernel.values import MAX_BEHAVIOUR, PASSED_OVER, Attributes


class InMemoryOnlineStore:
    """Attributes give way to a later registration, virtual behaviour to a newer one of the attributes that stand.

    A behaviour takes the place of the one that it was made from, or is refused.
    """

    def __init__(self) -> None:
        self._attributes: dict[str, tuple[AttributesVersion, Attributes | None]] = {}
        self._virtual: dict[tuple[str, str], tuple[int, VirtualBehaviour]] = {}
        self._behaviour: dict[str, BehavedUser] = {}
        self._first_ms: dict[str, int] = {}
        """`UserFeatures.first_ms`, where it is not 0."""
        self._erased: dict[str, int] = {}
        """When a user was erased last (epoch milliseconds)."""

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        return [self._features(user_id, generation) for user_id in user_ids]

    async def read_behaviour(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        return [self._behaved(user_id) for user_id in user_ids]

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
        refused: list[str] = []
        for user in users:
            stored = self._version(user.user_id)
            if not user.version.replaces(stored):
                refused.append(user.user_id)
                self._remember(user, stored)
                continue
            before_ms = self._features(user.user_id, 1).registered_ms
            self._first_ms[user.user_id] = first_registration(user.at_ms, self._since_erasure(user), before_ms)
            self._attributes[user.user_id] = (user.version.after(stored), dict(user.attributes))
            own = None if user.virtual is None else slot(user.virtual.generation)
            for parity in SLOTS:
                at_ms, virtual = self._virtual.get((user.user_id, parity), (0, None))
                if user.virtual is not None and parity == own:
                    self._virtual[user.user_id, parity] = (max(at_ms, user.at_ms), _own(user.virtual))
                elif virtual is not None and at_ms >= user.at_ms:
                    self._virtual[user.user_id, parity] = (0, virtual)
        return refused

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> list[str]:
        refused: list[str] = []
        for user in users:
            key = (user.user_id, slot(user.virtual.generation))
            is_erased = self._features(user.user_id, user.virtual.generation).is_erased
            as_read = user.made_from is None or user.made_from.is_same(self._version(user.user_id))
            if is_erased or not as_read or user.at_ms <= self._virtual.get(key, (0, None))[0]:
                refused.append(user.user_id)
            else:
                self._virtual[key] = (user.at_ms, _own(user.virtual))
        return refused

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
            is_carried_out = stored.remembers(user.version)
            is_known = is_carried_out or self._erased.get(user_id, -1) >= at_ms
            if is_known if attributes is None else not user.version.replaces(stored):
                if user_id in self._attributes:
                    self._attributes[user_id] = (stored.outdoing(user.version), attributes)
                if attributes is not None:
                    anew.append(user_id)
                    self._trim(user_id, None if is_known else at_ms)
                continue
            self._erased[user_id] = at_ms
            self._attributes[user_id] = (user.fence.after(stored), None)
            self._behaviour.pop(user_id, None)
            self._first_ms.pop(user_id, None)
            for parity in SLOTS:
                self._virtual.pop((user_id, parity), None)
        return anew

    def _trim(self, user_id: str, newly_erased_ms: int | None) -> None:
        """Take away what a user who registered anew was before; `newly_erased_ms` is when, if not known before."""
        read = self._behaved(user_id)
        if newly_erased_ms is not None:
            self._erased[user_id] = newly_erased_ms
            if self._first_ms.get(user_id, 0) <= newly_erased_ms:
                self._first_ms.pop(user_id, None)
        if user_id not in self._erased:
            return
        kept = Erasure(self._erased[user_id]).since(read.behaviour)
        if newly_erased_ms is not None or len(kept) < len(read.behaviour):
            self._behaviour[user_id] = BehavedUser.after(read, kept)

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        known = sorted(user for user, (_, attributes) in self._attributes.items() if attributes is not None)
        start = int(cursor or 0)
        end = start + count
        return known[start:end], str(end) if end < len(known) else None

    async def close(self) -> None:
        """Nothing is held open."""

    def _remember(self, user: EnrichedUser, stored: AttributesVersion) -> None:
        """A registration that does not replace the `stored` one. Of one that came before no time is taken anew."""
        held = self._attributes.get(user.user_id)
        if held is None:
            return
        self._attributes[user.user_id] = (stored.outdoing(user.version), held[1])
        came_before = bool(user.digests) and user.digests[-1] in stored.digests
        if held[1] is not None and (user.first_ms or not came_before):
            first_ms = self._first_ms.get(user.user_id)
            self._first_ms[user.user_id] = first_registration(stored.at_ms, self._since_erasure(user), first_ms)

    def _since_erasure(self, user: EnrichedUser) -> int | None:
        """The first registration that a row names; None where the user was erased since."""
        first_ms = user.first_ms or user.at_ms
        return first_ms if first_ms > self._erased.get(user.user_id, -1) else None

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
            first_ms=self._first_ms.get(user_id, 0),
            registrations=version.digests,
            applied=AppliedEvents(),
            erasure=None,
        )


class InMemoryOneStepStore(InMemoryOnlineStore):
    """The same with `OneStepStore` beside it."""

    async def append_behaviour(self, users: Sequence[LaterBehaviour]) -> list[str]:
        return [user.user_id for user in users if not await self._appended(user)]

    async def write_new(self, users: Sequence[EnrichedUser]) -> list[str]:
        left_out: list[str] = []
        for user in users:
            if self._holds(user.user_id):
                left_out.append(user.user_id)
            else:
                await InMemoryOnlineStore.write_enriched(self, [user])
        return left_out

    async def _appended(self, user: LaterBehaviour) -> bool:
        held, later = self._behaved(user.user_id), user.behaviour
        if held.erasure is not None:
            return False
        digests = list(AppliedEvents(user.digests))
        newest = held.behaviour.times[-1] if held.behaviour.times else 0
        if later.times[0] <= newest or 1000 * later.times[-1] <= held.behaviour_us:
            return False
        is_full = len(held.behaviour) + len(later) > MAX_BEHAVIOUR
        if any(digest in held.applied for digest in digests) or (is_full and PASSED_OVER in held.behaviour.actions):
            return False
        behaviour, applied = held.behaviour, held.applied
        for item, action, at_ms, digest in zip(later.items, later.actions, later.times, digests, strict=True):
            behaviour, applied = behaviour.then(item, action, at_ms), applied.with_applied(digest)
        return not await InMemoryOnlineStore.write_behaviour(self, [BehavedUser.after(held, behaviour, applied)])

    def _holds(self, user_id: str) -> bool:
        return (
            user_id in self._attributes
            or user_id in self._behaviour
            or any((user_id, parity) in self._virtual for parity in SLOTS)
        )


def _own(virtual: VirtualBehaviour) -> VirtualBehaviour:
    return VirtualBehaviour(virtual.generation, np.array(virtual.vectors, dtype=np.float32))
