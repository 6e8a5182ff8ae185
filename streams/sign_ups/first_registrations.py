"""When users registered first, as the store holds it once their sign-ups are written."""

from collections.abc import Sequence
from dataclasses import replace

from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.users import EnrichedUser, UserFeatures
from streams.sign_ups.rows import EnrichedSignUp


async def with_first_registrations(
    store: OnlineStore, written: Sequence[EnrichedSignUp], generation: Generation
) -> list[EnrichedSignUp]:
    """The sign-ups that were written, those that tell of an earlier registration with what the store holds of it; none
    of users who were erased meanwhile.

    1. Whoever is told to have registered earlier is read again.
    2. A store refuses a first registration from before an erasure. Of the users of whom it did, the erasures are read,
       and the earliest registration since is told.
    3. They are read again.

    Done again, it changes nothing. Raises `Unavailable` when the store is away.
    """
    moving = {each.user_id: each for each in written if each.moves_first}
    if not moving:
        return list(written)
    read = await _read(store, list(moving), generation)  # 1
    refused = [user for user in read.values() if min(moving[user.user_id].first_times_ms) < (user.registered_ms or 0)]
    if rows := await _since_erasure(store, refused, moving):  # 2
        await store.write_enriched(rows)
        read |= await _read(store, [row.user_id for row in rows], generation)  # 3
    erased = {user_id for user_id, user in read.items() if user.attributes is None}
    kept = (each for each in written if each.user_id not in erased)
    return [replace(each, stands=read[each.user_id]) if each.user_id in read else each for each in kept]


async def _read(store: OnlineStore, user_ids: Sequence[str], generation: Generation) -> dict[str, UserFeatures]:
    return {user.user_id: user for user in await store.read(user_ids, generation.number)}


async def _since_erasure(
    store: OnlineStore, refused: Sequence[UserFeatures], moving: dict[str, EnrichedSignUp]
) -> list[EnrichedUser]:
    """Rows that tell of the earliest registration since each user's erasure, where it is before the stored one.

    They are of the registration that stands, without its place, so that nothing else of it is written anew.
    """
    rows: list[EnrichedUser] = []
    erasures = await store.read_behaviour([user.user_id for user in refused]) if refused else []
    for user, behaved in zip(refused, erasures, strict=True):
        until_ms = -1 if behaved.erasure is None else behaved.erasure.at_ms
        since = [at_ms for at_ms in moving[user.user_id].first_times_ms if at_ms > until_ms]
        if since and min(since) < (user.registered_ms or 0):
            at_ms, digests = user.attributes_ms, user.registrations
            rows.append(EnrichedUser(user.user_id, user.attributes or {}, None, at_ms, None, digests, min(since)))
    return rows
