"""Existing users brought into the online store, with what they did: `foretaste import`. Only ports."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Protocol

from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Report, no_report
from foretaste.kernel.running.checkpoints import StateCheckpoint
from foretaste.kernel.users import UserFeatures
from streams.parts import SignUpParts
from streams.profiles.profile import checked_record, profile_record
from streams.profiles.stored_profiles import ProfilesAfterErasures
from streams.profiles.user_writer import UserWriter, WrittenCounts, WrittenUsers
from streams.shares import each_share

SHARE = 512
"""Users of one call of the tower, one write, and one produce."""
BLOCK = 8 * SHARE
"""Users between two notes of how far it came."""


class ImportableUsers(Protocol):
    """Users with their attributes and behaviours, in an order that is the same each time."""

    def __len__(self) -> int: ...

    def blocks(self, start: int, size: int) -> Iterator[list[UserFeatures]]:
        """Those from the place `start` on, `size` at a time."""
        ...


@dataclass
class ImportedUsers(WrittenCounts):
    """What an import did, before it was cut short too."""

    behaviours: int = 0
    """Of all these users, the newest of each."""


@dataclass
class _State:
    place: int = 0
    """Of the user that comes next."""
    counts: ImportedUsers = field(default_factory=ImportedUsers)


class UserImport:
    """Writes users straight to the online store. One at a time, which whoever runs it sees to.

    1. A share of users is written (`UserWriter`): registration, behaviour, virtual behaviour of the active generation.
    2. What each of them is registered with now is produced to `user-profiles`: a rebuild finds the user there; null, of
       who was erased meanwhile or before.
    3. Once a block of shares is durable, its end is noted in the checkpoint.

    Killed anywhere, the next run goes on from the last block; done again, it changes nothing. Memory does not grow.
    Raises `Unavailable` when a part is away.
    """

    def __init__(self, parts: SignUpParts, checkpoint: StateCheckpoint, profiles_topic: str) -> None:
        self._parts = parts
        self._checkpoint = checkpoint
        self._topic = profiles_topic
        self._writer = UserWriter(parts)
        self._after_erasures = ProfilesAfterErasures(parts, profiles_topic)

    async def run(self, users: ImportableUsers, report: Report = no_report) -> ImportedUsers:
        """All of them, or the rest where another run was cut short."""
        kept = await self._checkpoint.read()
        state = _State() if kept is None else _state_of(kept)
        for block in users.blocks(state.place, BLOCK):
            active = (await self._parts.generations.serving()).active
            shares = [block[start : start + SHARE] for start in range(0, len(block), SHARE)]
            for written in await each_share(partial(self._share, generation=active), shares):  # 1, 2
                state.counts.add(written)
            state.counts.behaviours += sum(len(user.behaviour) for user in block)
            state.place += len(block)
            if self._parts.synced is not None:
                await self._parts.synced.synced()
            await self._checkpoint.write(json.dumps(asdict(state)))  # 3
            report("import", state.place, len(users))
        await self._checkpoint.forget()
        return state.counts

    async def _share(self, users: Sequence[UserFeatures], generation: Generation | None) -> WrittenUsers:
        last_erasure = await self._after_erasures.last()
        written = await self._writer.write(users, generation)  # 1
        new, there = written.standing[: written.new], written.standing[written.new :]
        records: list[tuple[bytes, bytes] | None] = [
            checked_record(user.user_id, user.attributes or {}, user.attributes_version, user.first_ms) for user in new
        ]
        records += [
            profile_record(user.user_id, user.attributes, user.attributes_version, user.first_ms)
            for user in there
            if user.attributes is not None
        ]
        await self._parts.events.send_all(self._topic, [record for record in records if record is not None])  # 2
        recorded = {user.user_id: (user.attributes_ms, user.first_ms) for user in written.standing}
        await self._after_erasures.look(last_erasure, recorded)
        await self._after_erasures.settle([user.user_id for user in there if user.is_erased])
        return written


def _state_of(text: str) -> _State:
    found = json.loads(text)
    return _State(found["place"], ImportedUsers(**found["counts"]))
