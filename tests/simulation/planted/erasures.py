"""Planted faults of erasures: in the store, in the ways of users, and in the training log."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from features.log import erasures as erased_from_log
from foretaste.kernel.event_order import AttributesVersion
from foretaste.kernel.generations import SLOTS
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import Erasure, LaterBehaviour
from foretaste.testing import InMemoryOneStepStore, InMemoryOnlineStore
from streams import decoded_erasures
from streams.erasures import user_erasures
from streams.erasures.log_erasures import LogErasures
from streams.profiles.stored_profiles import ProfilesAfterErasures
from tests.simulation.planted.fault import planted

_erase, _appended, _replaces = InMemoryOnlineStore.erase, InMemoryOneStepStore._appended, AttributesVersion.replaces


async def _without_fence(self: Any, users: Sequence[ErasedUser]) -> list[str]:
    anew = await _erase(self, users)
    for user in users:
        if user.user_id not in anew:
            self._attributes.pop(user.user_id, None)
            self._erased.pop(user.user_id, None)
    return anew


async def _erases_again(self: Any, users: Sequence[ErasedUser]) -> list[str]:
    return await _erase(self, [replace(each, version=replace(each.version, digests=())) for each in users])


async def _erases_whoever_stands(self: Any, users: Sequence[ErasedUser]) -> list[str]:
    for user in users:
        stored = self._version(user.user_id)
        self._erased[user.user_id] = user.version.at_ms
        self._attributes[user.user_id] = (user.fence.after(stored), None)
        self._behaviour.pop(user.user_id, None)
        self._first_ms.pop(user.user_id, None)
        for parity in SLOTS:
            self._virtual.pop((user.user_id, parity), None)
    return []


async def _attributes_alone(self: Any, users: Sequence[ErasedUser]) -> list[str]:
    behaviour = dict(self._behaviour)
    anew = await _erase(self, users)
    self._behaviour |= behaviour
    return anew


def _not_trimmed(self: Any, user_id: str, newly_erased_ms: int | None) -> None:
    if newly_erased_ms is not None:
        self._erased[user_id] = newly_erased_ms


async def _appended_whoever(self: Any, user: LaterBehaviour) -> bool:
    erased = self._erased.pop(user.user_id, None)
    try:
        return await _appended(self, user)
    finally:
        if erased is not None:
            self._erased[user.user_id] = erased


def _in_one_turn(erasures: Sequence[Any]) -> list[list[ErasedUser]]:
    latest: dict[str, AttributesVersion] = {}
    for each in erasures:
        held, version = latest.get(each.event.user_id, AttributesVersion()), each.version
        latest[each.event.user_id] = version.after(held) if version.replaces(held) else held.outdoing(version)
    return [[ErasedUser(user_id, version) for user_id, version in latest.items()]]


async def _nothing_produced(*_: Any) -> None:
    """No null value follows."""


async def _looks_at_nothing(self: Any, last: Any, recorded: Any) -> None:
    """What an erasure made untrue stays."""


async def _log_forgets_nothing(self: Any, messages: Any) -> None:
    """The store alone is rid of the user."""


ERASURES = (
    planted("no_fence", "nothing stays in the place of who was erased", (InMemoryOnlineStore, "erase", _without_fence)),
    planted(
        "fence_not_asked",
        "behaviours of who was erased are taken",
        (Erasure, "admits", lambda self, at_ms: True),
    ),
    planted(
        "appended_to_the_erased",
        "behaviours are put unread behind an erasure",
        (InMemoryOneStepStore, "_appended", _appended_whoever),
    ),
    planted("erased_again", "an erasure that comes again erases again", (InMemoryOnlineStore, "erase", _erases_again)),
    planted(
        "erased_whoever_stands",
        "an erasure that comes late takes who registered anew",
        (InMemoryOnlineStore, "erase", _erases_whoever_stands),
    ),
    planted("behaviour_not_erased", "attributes alone are erased", (InMemoryOnlineStore, "erase", _attributes_alone)),
    planted(
        "not_trimmed", "who registered anew keeps behaviour of before", (InMemoryOnlineStore, "_trim", _not_trimmed)
    ),
    planted(
        "erasures_in_one_turn",
        "a copy stands for the other erasures of its user in the batch",
        (decoded_erasures, "erasures_in_turns", _in_one_turn),
    ),
    planted(
        "profile_not_erased",
        "user-profiles keeps who was erased",
        (user_erasures, "settle_profiles", _nothing_produced),
    ),
    planted(
        "profile_not_looked_at",
        "a profile behind the null value of its user stays",
        (ProfilesAfterErasures, "look", _looks_at_nothing),
    ),
    planted("log_not_erased", "the log forgets nobody", (LogErasures, "__call__", _log_forgets_nothing)),
    planted(
        "log_by_time_alone",
        "the log takes what was answered from before an erasure for what came after",
        (erased_from_log, "_answered_from_before", lambda rankings, erased: False),
    ),
)
