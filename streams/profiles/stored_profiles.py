"""`user-profiles` from the online store: of who registered before the topic was there, or was erased meanwhile."""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from foretaste.kernel.event_order import Place
from foretaste.kernel.ports import Report, no_report
from foretaste.kernel.users import UserFeatures
from streams.parts import SignUpParts
from streams.profiles.profile import profile_record
from streams.profiles.user_writer import ANY_SLOT

PAGE = 512
_Standing: TypeAlias = tuple[int, Place | None, int, bool]


async def record_stored(parts: SignUpParts, topic: str, report: Report = no_report) -> int:
    """Produce what each stored user is registered with (`settle_profiles`); how many they are.

    Done again, it changes nothing. Raises `Unavailable` when a part is away.
    """
    cursor: str | None = ""
    users = 0
    while cursor is not None:
        page, cursor = await parts.store.users(cursor, PAGE)
        await settle_profiles(parts, topic, page)
        users += len(page)
        report("profiles", users, None)
    report("profiles", users, users)
    return users


async def settle_profiles(
    parts: SignUpParts, topic: str, user_ids: Sequence[str], erased: Collection[str] = ()
) -> None:
    """Produce what stands of each user, until what was produced last is what stands.

    1. The users are read. 2. A record of each is produced: what the user is registered with, or null for who was
    erased; for who is in `erased`, also where nothing stands. 3. They are read again, and 2 is done again for whoever
    has another registration or first one by now, or was erased, or came back.

    Of others who produce meanwhile, each after its write, the last record of a user is thus of what stands: either the
    last write is theirs, and their record is behind it, or 3 has seen it. Raises `Unavailable` when a part is away.
    """
    produced: dict[str, _Standing] = {}
    left = list(user_ids)
    while left:
        stored = await parts.store.read(left, ANY_SLOT)  # 1, 3
        changed = [user for user in stored if produced.get(user.user_id) != _standing(user)]
        records = [record for user in changed if (record := _record(user, erased)) is not None]
        await parts.events.send_all(topic, records)  # 2
        produced |= {user.user_id: _standing(user) for user in changed}
        left = [user.user_id for user in changed]


class ProfilesAfterErasures:
    """Looks whether an erasure came between what was written of users and what was produced of them then.

    Its null value may lie before their profiles in `user-profiles` then, and a later one has to follow. It costs one
    small read a batch, and one of the batch's users where somebody was erased meanwhile.
    """

    def __init__(self, parts: SignUpParts, topic: str) -> None:
        self._parts = parts
        self._topic = topic
        self._last: str | None = None
        self._is_known = False

    async def last(self) -> str | None:
        """The last erasure, before users are read or written. What an earlier look told serves as well."""
        if not self._is_known and self._parts.last_erasure is not None:
            self._last, self._is_known = await self._parts.last_erasure.read(), True
        return self._last

    async def look(self, last: str | None, recorded: Mapping[str, tuple[int, int]]) -> None:
        """Once profiles are produced: a record of what stands behind each that an erasure since `last` made untrue.

        `recorded` is each user's registration and first registration in them (`UserFeatures.attributes_ms` and
        `first_ms`). Behind the profile of who was erased follows null; of who had registered anew, one of what stands,
        without what the erasure took.
        """
        if self._parts.last_erasure is None or not recorded:
            return
        self._last = await self._parts.last_erasure.read()
        if self._last != last:
            stored = await self._parts.store.read(list(recorded), ANY_SLOT)
            await self.settle(
                [each.user_id for each in stored if each.is_erased or _times(each) != recorded[each.user_id]]
            )

    async def settle(self, user_ids: Sequence[str]) -> None:
        """Of users who were erased before: their profile may have been produced behind the null value then."""
        await settle_profiles(self._parts, self._topic, user_ids)


def _times(user: UserFeatures) -> tuple[int, int]:
    return user.attributes_ms, user.first_ms


def _standing(user: UserFeatures) -> _Standing:
    return user.attributes_ms, user.attributes_place, user.first_ms, user.is_erased


def _record(user: UserFeatures, erased: Collection[str]) -> tuple[bytes, bytes | None] | None:
    if user.attributes is not None:
        return profile_record(user.user_id, user.attributes, user.attributes_version, user.first_ms)
    return (user.user_id.encode(), None) if user.is_erased or user.user_id in erased else None
