"""Planted faults of the store's steps, of pointer and lease, of the refresh and the watch."""

import asyncio
from collections.abc import Sequence
from typing import Any

from foretaste.kernel import leasing
from foretaste.kernel.event_order import first_registration
from foretaste.kernel.generations import SLOTS, Serving, slot
from foretaste.kernel.users import BehavedUser, EnrichedUser, ReenrichedUser
from foretaste.testing import InMemoryGenerations, InMemoryLease, InMemoryOnlineStore, LeaseBoard, generations
from foretaste.testing.features import _own
from models.generations import publish
from models.refresh import refresh
from streams.watch import monitor
from streams.watch.monitor import Monitor
from tests.simulation.planted.fault import planted

_activate = InMemoryGenerations.activate


async def _behaviour_blindly(self: Any, users: Sequence[BehavedUser]) -> list[str]:
    for user in users:
        self._behaviour[user.user_id] = user
    return []


async def _behaviour_by_clock(self: Any, users: Sequence[BehavedUser]) -> list[str]:
    for user in users:
        held = self._behaviour.get(user.user_id)
        if held is None or user.behaviour.times[-1] >= held.behaviour.times[-1]:
            self._behaviour[user.user_id] = user
    return []


def _note_first(store: Any, user: EnrichedUser) -> None:
    before_ms = store._features(user.user_id, 1).registered_ms
    store._first_ms[user.user_id] = first_registration(user.at_ms, store._since_erasure(user), before_ms)


async def _enriched_blindly(self: Any, users: Sequence[EnrichedUser]) -> list[str]:
    for user in users:
        self._attributes[user.user_id] = (user.version.after(self._version(user.user_id)), dict(user.attributes))
        if user.virtual is not None:
            self._virtual[user.user_id, slot(user.virtual.generation)] = (user.at_ms, _own(user.virtual))
    return []


async def _stale_slots(self: Any, users: Sequence[EnrichedUser]) -> list[str]:
    refused = [user.user_id for user in users if not user.version.replaces(self._version(user.user_id))]
    for user in users:
        stored = self._version(user.user_id)
        if user.version.replaces(stored):
            _note_first(self, user)
            self._attributes[user.user_id] = (user.version.after(stored), dict(user.attributes))
            if user.virtual is not None:
                key = (user.user_id, slot(user.virtual.generation))
                self._virtual[key] = (max(self._virtual.get(key, (0, None))[0], user.at_ms), _own(user.virtual))
        else:
            self._remember(user, stored)
    return refused


async def _two_steps(self: Any, users: Sequence[EnrichedUser]) -> list[str]:
    refused = [user.user_id for user in users if not user.version.replaces(self._version(user.user_id))]
    for user in users:
        stored = self._version(user.user_id)
        if user.version.replaces(stored):
            _note_first(self, user)
            self._attributes[user.user_id] = (user.version.after(stored), dict(user.attributes))
            for parity in SLOTS:
                at_ms, virtual = self._virtual.get((user.user_id, parity), (0, None))
                if virtual is not None and at_ms >= user.at_ms:
                    self._virtual[user.user_id, parity] = (0, virtual)
        else:
            self._remember(user, stored)
        if user.virtual is not None:
            self._virtual[user.user_id, slot(user.virtual.generation)] = (
                max(user.at_ms, self._version(user.user_id).at_ms),
                _own(user.virtual),
            )
    return refused


async def _virtual_of_any(self: Any, users: Sequence[ReenrichedUser]) -> list[str]:
    refused: list[str] = []
    for user in users:
        key = (user.user_id, slot(user.virtual.generation))
        if user.at_ms > self._virtual.get(key, (0, None))[0]:
            self._virtual[key] = (user.at_ms, _own(user.virtual))
        else:
            refused.append(user.user_id)
    return refused


async def _virtual_of_any_time(self: Any, users: Sequence[ReenrichedUser]) -> list[str]:
    refused: list[str] = []
    for user in users:
        if user.made_from is None or user.made_from.is_same(self._version(user.user_id)):
            self._virtual[user.user_id, slot(user.virtual.generation)] = (user.at_ms, _own(user.virtual))
        else:
            refused.append(user.user_id)
    return refused


async def _activate_blindly(self: Any, number: int, expected: Any, reason: str = "", *, filled: bool = False) -> bool:
    self._check_recorded(number)
    self._active = expected
    return await _activate(self, number, expected, reason, filled=filled)


async def _activate_keeps_filling(
    self: Any, number: int, expected: Any, reason: str = "", *, filled: bool = False
) -> bool:
    filling = self._filling
    moved = await _activate(self, number, expected, reason, filled=filled)
    self._filling = filling
    return moved


async def _always_taken(self: Any) -> bool:
    self._hold()
    return True


async def _never_renewed(lease: Any, seconds: float, ends: float, lost: Any) -> None:
    await asyncio.sleep(10_000.0)


async def _loss_unseen(lease: Any, seconds: float, ends: float, lost: Any) -> None:
    while True:
        await asyncio.sleep(seconds / leasing.RENEWALS)
        await leasing.until_it_succeeds(longest=0.1)(lease.renew)


async def _gives_back_any(self: Any) -> None:
    self._board.held.pop(self._name, None)


async def _resumed_whatever(parts: Any, request: Any) -> Any:
    unfinished = parts.records.unfinished()
    return unfinished if unfinished is not None else await _begin_or_resume(parts, request)


_begin_or_resume = refresh._begin_or_resume


async def _recorded_alone(parts: Any, number: int, reached: Any = None) -> None:
    record, popularity = publish.generation_record(parts.artifact(number))
    await parts.generations.record(record, popularity)


async def _activated_unready(parts: Any, number: int, expected: Any, reason: str, *, filled: bool = False) -> None:
    await parts.generations.activate(number, expected, reason, filled=filled)


async def _blames(towers: Any, rankings: Any, active: Any, previous: Any) -> int:
    return 99


async def _judges_nothing(self: Any, window: Any, now: float) -> None:
    """It looks on."""


STORE = (
    planted(
        "behaviour_without_compare",
        "a behaviour is written over whatever stands",
        (InMemoryOnlineStore, "write_behaviour", _behaviour_blindly),
    ),
    planted(
        "clock_as_version",
        "a behaviour is compared by the time of its newest alone",
        (InMemoryOnlineStore, "write_behaviour", _behaviour_by_clock),
    ),
    planted(
        "attributes_without_compare",
        "attributes are written over whatever stands",
        (InMemoryOnlineStore, "write_enriched", _enriched_blindly),
    ),
    planted(
        "stale_slot_kept",
        "virtual behaviour of older attributes passes for current",
        (InMemoryOnlineStore, "write_enriched", _stale_slots),
    ),
    planted(
        "two_steps",
        "virtual behaviour is written though its attributes are refused",
        (InMemoryOnlineStore, "write_enriched", _two_steps),
    ),
    planted(
        "repair_of_any_attributes",
        "a repair is written beside other attributes",
        (InMemoryOnlineStore, "write_virtual", _virtual_of_any),
    ),
    planted(
        "repair_of_any_time",
        "a repair is written over a newer one",
        (InMemoryOnlineStore, "write_virtual", _virtual_of_any_time),
    ),
)
POINTER = (
    planted(
        "pointer_without_compare",
        "the pointer moves from wherever it stands",
        (InMemoryGenerations, "activate", _activate_blindly),
    ),
    planted(
        "filling_goes_on",
        "what fills goes on after the swap",
        (InMemoryGenerations, "activate", _activate_keeps_filling),
    ),
    planted(
        "slot_unchecked",
        "what fills may share the active slot",
        (generations, "check_slot", lambda number, active: None),
    ),
    planted(
        "in_use_retired",
        "generations in use are retired",
        (Serving, "use_of", lambda self, number: None),
        (generations, "check_idle", lambda *numbers: None),
    ),
    planted(
        "activates_what_is_away",
        "a generation that is not loaded is activated",
        (publish, "load", _recorded_alone),
        (publish, "activate", _activated_unready),
    ),
    planted("lease_of_two", "two hold the lease", (InMemoryLease, "take", _always_taken)),
    planted("lease_not_renewed", "the lease is not renewed", (leasing, "_renew", _never_renewed)),
    planted("lease_loss_unseen", "who lost the lease goes on", (leasing, "_renew", _loss_unseen)),
    planted(
        "lease_of_others_given_back",
        "whoever ends frees the lease of another",
        (InMemoryLease, "give_back", _gives_back_any),
    ),
    planted(
        "lease_for_ever",
        "the lease of a dead process never ends",
        (LeaseBoard, "holder", lambda self, name: self.held.get(name, (None, 0.0))[0]),
    ),
    planted(
        "resumed_from_elsewhere",
        "a refresh is resumed though the pointer has moved",
        (refresh, "_begin_or_resume", _resumed_whatever),
    ),
    planted(
        "blamed_without_replay", "a generation is rolled back for the faults of a part", (monitor, "blamed", _blames)
    ),
    planted("watch_looks_on", "the watch never goes back", (Monitor, "_judge", _judges_nothing)),
)
