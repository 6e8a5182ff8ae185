"""The online store in Redis: Feast's own layout, written and read without Feast, several times as fast."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from features.feast_api import RepoConfig, get_provider
from features.online import offsets
from features.online.damage import DamageLog
from features.online.event_marks import (
    APPLIED,
    DIGEST_TEXT,
    REGISTRATION,
    TAIL,
    behaved,
    digests_text,
    place_parts,
    place_text,
    registered,
    tail_of,
)
from features.online.keys import Keys
from features.online.layout import (
    ATTRIBUTES,
    ATTRIBUTES_VIEW,
    BEHAVIOUR,
    BEHAVIOUR_VIEW,
    attributes_row,
    behaviour_row,
    columns_of,
    features_of,
    fields_of,
    is_damaged,
    read_columns,
    stamp_of,
    time_of,
    unreadable,
    version_read,
    version_stored,
    virtual_row,
    virtual_values,
)
from features.online.one_step import append_call, new_call
from features.online.scripts import APPEND_BEHAVIOUR, WRITE_BEHAVIOUR, WRITE_ENRICHED, WRITE_NEW, WRITE_VIRTUAL
from features.redis.address import Client, OneLoop, answered_within
from features.redis.commands import Command, LuaScript, run_each, run_script, wrong_type
from features.redis.eviction import eviction_of
from features.redis.keys import walk_keys
from features.redis.server_run import ServerRun
from features.repo_config import check_applied
from foretaste.kernel.generations import SLOTS, slot
from foretaste.kernel.running.durability import Partition
from foretaste.kernel.users import (
    REMEMBERED_REGISTRATIONS,
    BehavedUser,
    EnrichedUser,
    LaterBehaviour,
    ReenrichedUser,
    UserFeatures,
)

OneStep = TypeVar("OneStep", LaterBehaviour, EnrichedUser)

LOOKED_PAGES = 1000
"""Of keys, in which a user is looked for before the store counts as empty."""
_DONE, _OTHER_ATTRIBUTES = 1, 0
_VERSION = (BEHAVIOUR[-1], stamp_of(BEHAVIOUR_VIEW))
_ATTRIBUTES_TIME = stamp_of(ATTRIBUTES_VIEW)
_SLOT_TIMES = tuple(map(stamp_of, SLOTS))
_REMEMBERED = b"%d" % (REMEMBERED_REGISTRATIONS * DIGEST_TEXT)


class RedisStore:
    """Features of users in Redis, in Feast's own layout: a team reads and writes them with its own Feast client too.

    Opened by its first use, in the event loop that it then belongs to; opening reads the registry and writes nothing.

    Each write is a script a user, one round trip a batch, which compares with what is stored and writes in one step of
    the server: see the port. A row that is refused as no newer is looked at, and written over if it cannot be read,
    which costs a read and a script of those alone.

    A user's key that holds no hash is read as never written, and the next write replaces it. `timeout` (seconds) bounds
    a whole call: short for a reader who can degrade, longer for large batches.
    """

    def __init__(self, config: RepoConfig, *, timeout: float = 2.0) -> None:
        self._config = config
        self._timeout = timeout
        self._keys = Keys(config.project)
        self._client: Client | None = None
        self._server_run: ServerRun | None = None
        self._opening: asyncio.Task[Client] | None = None
        self._loop = OneLoop()
        self._damage = DamageLog()

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        if not user_ids:
            return []
        keys = [self._keys.of(user_id) for user_id in user_ids]
        fields = (*fields_of(read_columns(generation)), REGISTRATION)
        async with answered_within(self._timeout):
            client = await self._opened()
            found = await run_each(client, b"HMGET", keys, *fields, kept=wrong_type)
        features = [
            registered(features_of(user_id, generation, values[:-1]), values[-1])
            if isinstance(values, list)
            else unreadable(user_id, generation)
            for user_id, values in zip(user_ids, found, strict=True)
        ]
        self._damage.note(features)
        return features

    async def read_behaviour(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        if not user_ids:
            return []
        keys, fields = [self._keys.of(user_id) for user_id in user_ids], fields_of(columns_of(BEHAVIOUR_VIEW))
        async with answered_within(self._timeout):
            client = await self._opened()
            found = await run_each(client, b"HMGET", keys, *fields, APPLIED, kept=wrong_type)
        features = [
            behaved(user_id, values[:-1], values[-1])
            if isinstance(values, list)
            else UserFeatures(user_id, damaged=(BEHAVIOUR_VIEW,))
            for user_id, values in zip(user_ids, found, strict=True)
        ]
        self._damage.note(features)
        return features

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> None:
        await self._write_newer(WRITE_ENRICHED, ATTRIBUTES_VIEW, [self._enriched_call(user) for user in users])

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> None:
        of_slot: defaultdict[str, list[_Call]] = defaultdict(list)
        for user in users:
            of_slot[slot(user.virtual.generation)].append(self._virtual_call(user))
        for view, calls in of_slot.items():
            await self._write_newer(WRITE_VIRTUAL[view], view, calls)

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        """As the port says. A stored version in another form than ours is compared once more as it stands."""
        if not users:
            return []
        async with answered_within(self._timeout):
            client = await self._opened()
            calls = [self._behaviour_call(user, *version_read(user)) for user in users]
            replies = await run_script(client, WRITE_BEHAVIOUR, calls)
            odd = [
                place
                for place, reply in enumerate(replies)
                if reply != _DONE and _is_the_read_version(reply, users[place])
            ]
            calls = [self._behaviour_call(users[place], *replies[place]) for place in odd]
            for place, reply in zip(odd, await run_script(client, WRITE_BEHAVIOUR, calls), strict=True):
                replies[place] = reply
        return [user.user_id for user, reply in zip(users, replies, strict=True) if reply != _DONE]

    async def append_behaviour(self, users: Sequence[LaterBehaviour]) -> list[str]:
        """As `OneStepStore` says."""
        return await self._left_out(APPEND_BEHAVIOUR, users, append_call)

    async def write_new(self, users: Sequence[EnrichedUser]) -> list[str]:
        """As `OneStepStore` says."""
        of_slot: defaultdict[str, list[EnrichedUser]] = defaultdict(list)
        for user in users:
            of_slot[SLOTS[0] if user.virtual is None else slot(user.virtual.generation)].append(user)
        left_out = [await self._left_out(WRITE_NEW[view], rows, new_call) for view, rows in of_slot.items()]
        return [user_id for each in left_out for user_id in each]

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        """As the port says, by a scan of Redis. A server that was started anew is walked from its beginning."""
        async with answered_within(self._timeout):
            client = await self._opened()
            keys, after = await walk_keys(client, self._keys.pattern, cursor, count)
            ours = [(key, user) for key in keys if (user := self._keys.user_of(key)) is not None]
            known = await run_each(client, b"HEXISTS", [key for key, _ in ours], ATTRIBUTES, kept=wrong_type)
        return [user for (_, user), there in zip(ours, known, strict=True) if there == 1], after

    async def eviction(self) -> str | None:
        async with answered_within(self._timeout):
            return await eviction_of(await self._opened())

    async def synced(self) -> None:
        """As `SyncedStore` has it: at once with `appendfsync always`, within about a second with `everysec`."""
        async with answered_within(self._timeout):
            await offsets.wait_for_disk(await self._opened(), self._keys.syncs, self._timeout)

    async def begin_offsets(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int | None]:
        async with answered_within(self._timeout):
            return await offsets.begin(await self._opened(), self._keys.offsets, starts)

    async def advance_offsets(self, moves: Mapping[Partition, tuple[int, int]]) -> Mapping[Partition, int | None]:
        async with answered_within(self._timeout):
            return await offsets.advance(await self._opened(), self._keys.offsets, moves)

    async def holds_users(self) -> bool:
        """As `OffsetStore` has it, by pages of `users`, each within the timeout; of a server with many keys of others,
        the first `LOOKED_PAGES`."""
        cursor = ""
        for _ in range(LOOKED_PAGES):
            users, after = await self.users(cursor)
            if users or after is None:
                return bool(users)
            cursor = after
        return False

    async def server_run(self) -> str:
        async with answered_within(self._timeout):
            client = await self._opened()
            if self._server_run is None:
                self._server_run = ServerRun(client)
            return await self._server_run.name()

    async def close(self) -> None:
        client, self._client, self._server_run = self._client, None, None
        if client is not None:
            await client.aclose()

    async def _left_out(
        self, script: LuaScript, users: Sequence[OneStep], call: Callable[[bytes, OneStep], Command]
    ) -> list[str]:
        """The users whom the script, called for each, left as they were."""
        if not users:
            return []
        calls = [call(self._keys.of(user.user_id), user) for user in users]
        async with answered_within(self._timeout):
            replies = await run_script(await self._opened(), script, calls)
        return [user.user_id for user, reply in zip(users, replies, strict=True) if reply != _DONE]

    def _behaviour_call(self, user: BehavedUser, version: bytes, time: bytes) -> Command:
        row = behaviour_row(self._keys.of(user.user_id), user)
        mark = (APPLIED, user.applied.digests) if user.applied.digests else ()
        at = time_of(row.nanos)
        tail = (TAIL, tail_of(user, row, at))
        return (row.key, *_VERSION, version, time, _VERSION[1], at, *row.fields, *mark, *tail)

    def _enriched_call(self, user: EnrichedUser) -> "_Call":
        key, version = self._keys.of(user.user_id), user.version
        row = attributes_row(key, user)
        slot_times, virtual = _SLOT_TIMES, tuple[bytes, ...]()
        if user.virtual is not None:
            written = virtual_row(key, ReenrichedUser(user.user_id, user.virtual, user.at_ms))
            virtual = written.fields
            slot_times = _SLOT_TIMES if written.view == SLOTS[0] else _SLOT_TIMES[::-1]
        name, value = row.fields
        compared = (time_of(row.nanos), *place_parts(version.place), digests_text(version), _REMEMBERED)
        return _Call((key, *compared), (name, _ATTRIBUTES_TIME, REGISTRATION, *slot_times, value, *virtual))

    def _virtual_call(self, user: ReenrichedUser) -> "_Call":
        made_from = (b"", b"any")
        if user.made_from is not None:
            made_from = (time_of(user.made_from.at_ms * 1_000_000), place_text(user.made_from.place))
        key, at = self._keys.of(user.user_id), time_of(user.at_ms * 1_000_000)
        return _Call((key, at), (*made_from, *virtual_values(user.virtual)))

    async def _write_newer(self, script: LuaScript, view: str, calls: Sequence["_Call"]) -> None:
        """A script a row; those refused as no newer are run again over what cannot be read."""
        if not calls:
            return
        async with answered_within(self._timeout):
            client = await self._opened()
            replies = await run_script(client, script, [call.over(b"") for call in calls])
            refused = [
                (call, reply)
                for call, reply in zip(calls, replies, strict=True)
                if reply not in (_DONE, _OTHER_ATTRIBUTES)
            ]
            damaged = set(await _damaged(client, view, [call.key for call, _ in refused]))
            again = [call.over(stored) for call, stored in refused if call.key in damaged]
            await run_script(client, script, again)

    async def _opened(self) -> Client:
        """The client; a caller whose time runs out meanwhile leaves the opening to those after it."""
        self._loop.check()
        if self._client is None:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.get_running_loop().create_task(self._open())
            self._client = await asyncio.shield(self._opening)
        return self._client

    async def _open(self) -> Client:
        await asyncio.to_thread(check_applied, self._config)
        store: Any = get_provider(self._config).online_store
        client: Client = await store._get_client_async(self._config.online_store)  # noqa: SLF001  # as Feast connects
        return client


class _Call(NamedTuple):
    """A call of a script that writes what is newer."""

    compared: tuple[bytes, ...]
    """The key and the arguments before the stored event time that is written over."""
    fields: tuple[bytes, ...]
    """The arguments behind it."""

    @property
    def key(self) -> bytes:
        return self.compared[0]

    def over(self, stored: bytes) -> Command:
        """The call where a row with this event time stands in nobody's way; empty for none."""
        return (*self.compared, stored, *self.fields)


def _is_the_read_version(stored: Sequence[bytes], user: BehavedUser) -> bool:
    """Whether what is stored, in a form that is not ours, is the version that the user's row was made from."""
    return tuple(stored) != version_read(user) and version_stored(*stored) == (user.read_version, user.read_us)


async def _damaged(client: Client, view: str, keys: Sequence[bytes]) -> list[bytes]:
    """Those of the keys whose row of a view cannot be read; a row no newer than it still replaces it."""
    if not keys:
        return []
    found = await run_each(client, b"HMGET", keys, *fields_of(columns_of(view)))
    return [key for key, values in zip(keys, found, strict=True) if is_damaged(view, values)]
