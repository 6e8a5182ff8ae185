"""`user-profiles` from the online store: for users who registered before the topic was there."""

from collections.abc import Sequence

from foretaste.kernel.ports import Report, no_report
from foretaste.kernel.users import UserFeatures
from streams.parts import SignUpParts
from streams.profiles.profile import profile_record
from streams.profiles.user_writer import ANY_SLOT

PAGE = 512


async def record_stored(parts: SignUpParts, topic: str, report: Report = no_report) -> int:
    """Produce what each stored user is registered with; how many they are.

    Done again, it changes nothing. Raises `Unavailable` when a part is away.
    """
    cursor: str | None = ""
    users = 0
    while cursor is not None:
        page, cursor = await parts.store.users(cursor, PAGE)
        await record_users(parts, topic, page)
        users += len(page)
        report("profiles", users, None)
    report("profiles", users, users)
    return users


async def record_users(parts: SignUpParts, topic: str, user_ids: Sequence[str]) -> None:
    """Produce what these users are registered with.

    1. The users are read. 2. Their records are produced. 3. They are read again, and whoever has another registration
    by now is produced once more: of a worker that wrote between 1 and 2, that one stays the last; null, of who was
    erased then.
    """
    read = await parts.store.read(user_ids, ANY_SLOT)  # 1
    await _produce(parts, topic, read)  # 2
    again = await parts.store.read(user_ids, ANY_SLOT)  # 3
    changed = [
        now
        for before, now in zip(read, again, strict=True)
        if not now.attributes_version.is_same(before.attributes_version)
    ]
    await _produce(parts, topic, changed)
    gone = [(now.user_id.encode(), None) for now in changed if now.is_erased]
    await parts.events.send_all(topic, gone)


async def _produce(parts: SignUpParts, topic: str, users: list[UserFeatures]) -> None:
    known = [(user, user.attributes) for user in users if user.attributes is not None]
    records = [
        profile_record(user.user_id, attributes, user.attributes_version, user.first_ms) for user, attributes in known
    ]
    await parts.events.send_all(topic, [record for record in records if record is not None])
