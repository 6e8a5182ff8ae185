"""The online store in Redis: Feast's own layout, written and read without Feast, several times as fast."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from features.feast_api import RepoConfig, get_provider
from features.online.damage import DamageLog
from features.online.keys import Keys
from features.online.layout import (
    ATTRIBUTES,
    BEHAVIOUR,
    BEHAVIOUR_VIEW,
    StoredRow,
    attributes_row,
    behaviour_row,
    columns_of,
    features_of,
    fields_of,
    is_damaged,
    read_columns,
    readable_nanos,
    stamp_of,
    time_of,
    unreadable,
    version_read,
    version_stored,
    virtual_row,
)
from features.redis.address import Client, OneLoop, answered_within
from features.redis.commands import Command, LuaScript, run_all, run_each, run_script, wrong_type
from features.redis.keys import walk_keys
from features.repo_config import check_applied
from foretaste.kernel.users import BehavedUser, EnrichedUser, ReenrichedUser, UserFeatures

_WRITE_BEHAVIOUR = LuaScript(__package__, "write_behaviour.lua")
_REPLACE_KEY = LuaScript(__package__, "replace_key.lua")
_DONE = 1
_VERSION = (BEHAVIOUR[-1], stamp_of(BEHAVIOUR_VIEW))


class RedisStore:
    """Features of users in Redis, in Feast's own layout: a team reads and writes them with its own Feast client too.

    Opened by its first use, in the event loop that it then belongs to; opening reads the registry and writes nothing.

    A behaviour is written by a script, one round trip a batch, which compares the stored version and event time with
    those that were read: see the port.

    A write of attributes and virtual behaviour costs two round trips and follows Feast's rule: the stored times are
    read, each row that is no newer is dropped unless what it would leave cannot be read, and the others are written,
    all of a user's in one step. Nothing is locked between the two, so each view should have one writer a user: Kafka's
    partitions see to that for attributes. Readers and re-enrichment write virtual behaviour beside the sign-ups, so a
    write of it can be lost to an older one; `Generation.virtual_of` tells, and it is repaired again.

    A user's key that holds no hash is read as never written, and the next write replaces it. `timeout` (seconds) bounds
    a whole call: short for a reader who can degrade, longer for large batches.
    """

    def __init__(self, config: RepoConfig, *, timeout: float = 2.0) -> None:
        self._config = config
        self._timeout = timeout
        self._keys = Keys(config.project)
        self._client: Client | None = None
        self._opening: asyncio.Task[Client] | None = None
        self._loop = OneLoop()
        self._damage = DamageLog()

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        if not user_ids:
            return []
        keys, fields = [self._keys.of(user_id) for user_id in user_ids], fields_of(read_columns(generation))
        async with answered_within(self._timeout):
            client = await self._opened()
            found = await run_each(client, b"HMGET", keys, *fields, kept=wrong_type)
        features = [
            features_of(user_id, generation, values) if isinstance(values, list) else unreadable(user_id, generation)
            for user_id, values in zip(user_ids, found, strict=True)
        ]
        self._damage.note(features)
        return features

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> None:
        rows: list[StoredRow] = []
        for user in users:
            key = self._keys.of(user.user_id)
            rows.append(attributes_row(key, user))
            if user.virtual is not None:
                rows.append(virtual_row(key, ReenrichedUser(user.user_id, user.virtual, user.at_ms)))
        await self._write(rows)

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> None:
        await self._write([virtual_row(self._keys.of(user.user_id), user) for user in users])

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        """As the port says. A stored version in another form than ours is compared once more as it stands."""
        if not users:
            return []
        async with answered_within(self._timeout):
            client = await self._opened()
            calls = [self._behaviour_call(user, *version_read(user)) for user in users]
            replies = await run_script(client, _WRITE_BEHAVIOUR, calls)
            odd = [
                place
                for place, reply in enumerate(replies)
                if reply != _DONE and _is_the_read_version(reply, users[place])
            ]
            calls = [self._behaviour_call(users[place], *replies[place]) for place in odd]
            for place, reply in zip(odd, await run_script(client, _WRITE_BEHAVIOUR, calls), strict=True):
                replies[place] = reply
        return [user.user_id for user, reply in zip(users, replies, strict=True) if reply != _DONE]

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        """As the port says, by a scan of Redis. A server that was started anew is walked from its beginning."""
        async with answered_within(self._timeout):
            client = await self._opened()
            keys, after = await walk_keys(client, self._keys.pattern, cursor, count)
            ours = [(key, user) for key in keys if (user := self._keys.user_of(key)) is not None]
            known = await run_each(client, b"HEXISTS", [key for key, _ in ours], ATTRIBUTES, kept=wrong_type)
        return [user for (_, user), there in zip(ours, known, strict=True) if there == 1], after

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _behaviour_call(self, user: BehavedUser, version: bytes, time: bytes) -> Command:
        row = behaviour_row(self._keys.of(user.user_id), user)
        return (row.key, *_VERSION, version, time, _VERSION[1], time_of(row.nanos), *row.fields)

    async def _write(self, rows: Sequence[StoredRow]) -> None:
        """Rows of any views; what is written of a user is written in one command."""
        if not rows:
            return
        views = tuple(dict.fromkeys(row.view for row in rows))
        keys = list(dict.fromkeys(row.key for row in rows))
        async with answered_within(self._timeout):
            client = await self._opened()
            found = await run_each(client, b"HMGET", keys, *map(stamp_of, views), kept=wrong_type)
            no_hash = {key for key, times in zip(keys, found, strict=True) if not isinstance(times, list)}
            newest = {
                (view, key): 0 if key in no_hash else readable_nanos(times[place])
                for key, times in zip(keys, found, strict=True)
                for place, view in enumerate(views)
            }
            for view in views:
                dropped = [row.key for row in rows if row.view == view and _kept(newest, row)]
                for key in await _damaged(client, view, dropped):
                    newest[view, key] = 0
            newer: defaultdict[bytes, list[bytes]] = defaultdict(list)
            for row in rows:
                if _kept(newest, row):
                    continue
                newest[row.view, row.key] = row.nanos
                newer[row.key] += (stamp_of(row.view), time_of(row.nanos), *row.fields)
            await run_all(client, [(b"HSET", key, *fields) for key, fields in newer.items() if key not in no_hash])
            await run_script(client, _REPLACE_KEY, [(key, *fields) for key, fields in newer.items() if key in no_hash])

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


def _kept(newest: Mapping[tuple[str, bytes], int], row: StoredRow) -> bool:
    """Whether what is stored, of the times `newest` by view and key, is no older than the row; 0 is nothing."""
    return 0 < newest[row.view, row.key] >= row.nanos


def _is_the_read_version(stored: Sequence[bytes], user: BehavedUser) -> bool:
    """Whether what is stored, in a form that is not ours, is the version that the user's row was made from."""
    return tuple(stored) != version_read(user) and version_stored(*stored) == (user.read_version, user.read_us)


async def _damaged(client: Client, view: str, keys: Sequence[bytes]) -> list[bytes]:
    """Those of the keys whose row of a view cannot be read; a row no newer than it still replaces it."""
    if not keys:
        return []
    found = await run_each(client, b"HMGET", keys, *fields_of(columns_of(view)))
    return [key for key, values in zip(keys, found, strict=True) if is_damaged(view, values)]
