"""The online store in Redis: Feast's own layout, written and read without Feast, several times as fast."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from features.feast_api import RepoConfig, get_provider
from features.online.calls import (
    WriteCall,
    append_call,
    behaviour_call,
    enriched_call,
    new_call,
    virtual_call,
    whole_call,
)
from features.online.damage import DamageLog, damaged_keys
from features.online.erasing import DONE, ERASE, ROUNDS, UNKNOWN, erase_call, erasures_of, trimmed
from features.online.event_marks import APPLIED, ERASED, FIRST_REGISTRATION, REGISTRATION, behaved, registered
from features.online.keys import Keys
from features.online.layout import (
    ATTRIBUTES,
    ATTRIBUTES_VIEW,
    BEHAVIOUR_VIEW,
    Raw,
    columns_of,
    features_of,
    fields_of,
    read_columns,
    stamp_of,
    unreadable,
    version_read,
    version_stored,
)
from features.online.offsets import Offsets, wait_for_disk
from features.online.scripts import (
    APPEND_BEHAVIOUR,
    WRITE_BEHAVIOUR,
    WRITE_ENRICHED,
    WRITE_NEW,
    WRITE_VIRTUAL,
    WRITE_WHOLE,
)
from features.redis.address import Client, OneLoop, answered_within
from features.redis.commands import Command, LuaScript, run_each, run_script, wrong_type
from features.redis.eviction import eviction_of
from features.redis.keys import walk_keys
from features.redis.server_run import ServerRun
from features.repo_config import check_applied
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import SLOTS, slot
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.running.supervision import cancel_and_wait
from foretaste.kernel.users import BehavedUser, EnrichedUser, LaterBehaviour, ReenrichedUser, UserFeatures
from foretaste.kernel.values import DAY_MS, Partition

New = TypeVar("New", EnrichedUser, UserFeatures)

LOOKED_PAGES = 1000
"""Of keys, in which a user is looked for before the store counts as empty."""
_DONE, _OTHER_ATTRIBUTES = 1, 0
_ATTRIBUTES_TIME = stamp_of(ATTRIBUTES_VIEW)


class RedisStore:
    """Features of users in Redis, in Feast's own layout: a team reads and writes them with its own Feast client too.

    Opened by its first use, in the event loop that it then belongs to; opening reads the registry and writes nothing.

    Each write is a script a user, one round trip a batch, which compares with what is stored and writes in one step of
    the server: see the port. A row that is refused as no newer is looked at, and written over if it cannot be read,
    which costs a read and a script of those alone.

    A user's key that holds no hash is read as never written, and the next write replaces it. `timeout` (seconds) bounds
    a whole call: short for a reader who can degrade, longer for large batches.
    """

    def __init__(self, config: RepoConfig, *, timeout: float = 2.0, fence_days: float = 30.0) -> None:
        self._config = config
        self._fence_ms = round(fence_days * DAY_MS)
        self._timeout = timeout
        self._keys = Keys(config.project)
        self._offsets = Offsets(self._keys.offsets)
        self._client: Client | None = None
        self._server_run: ServerRun | None = None
        self._opening: asyncio.Task[Client] | None = None
        self._loop = OneLoop()
        self._damage = DamageLog()

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        if not user_ids:
            return []
        keys = [self._keys.of(user_id) for user_id in user_ids]
        fields = (*fields_of(read_columns(generation)), REGISTRATION, FIRST_REGISTRATION)
        async with answered_within(self._timeout):
            client = await self._opened()
            found = await run_each(client, b"HMGET", keys, *fields, kept=wrong_type)
        features = [
            registered(features_of(user_id, generation, values[:-2]), values[-2], _earlier(values[-1], values[1]))
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
            found = await run_each(client, b"HMGET", keys, *fields, APPLIED, ERASED, kept=wrong_type)
            erasures = await erasures_of(client, keys, found)
        features = [
            behaved(user_id, values[:-2], values[-2], erasures.get(key))
            if isinstance(values, list)
            else UserFeatures(user_id, damaged=(BEHAVIOUR_VIEW,))
            for user_id, key, values in zip(user_ids, keys, found, strict=True)
        ]
        self._damage.note(features)
        return features

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
        calls = [enriched_call(self._keys.of(user.user_id), user) for user in users]
        refused = await self._write_newer(WRITE_ENRICHED, ATTRIBUTES_VIEW, calls)
        return [users[place].user_id for place in refused]

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> list[str]:
        of_slot: defaultdict[str, list[ReenrichedUser]] = defaultdict(list)
        for user in users:
            of_slot[slot(user.virtual.generation)].append(user)
        refused: list[str] = []
        for view, rows in of_slot.items():
            calls = [virtual_call(self._keys.of(user.user_id), user) for user in rows]
            refused += [rows[place].user_id for place in await self._write_newer(WRITE_VIRTUAL[view], view, calls)]
        return refused

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        """As the port says. A stored version in another form than ours is compared once more as it stands."""
        if not users:
            return []
        async with answered_within(self._timeout):
            client = await self._opened()
            calls = [behaviour_call(self._keys.of(user.user_id), user, *version_read(user)) for user in users]
            replies = await self._offsets.run(client, WRITE_BEHAVIOUR, calls, users)
            odd = [at for at, reply in enumerate(replies) if reply != _DONE and _is_the_read_version(reply, users[at])]
            calls = [behaviour_call(calls[place][0], users[place], *replies[place]) for place in odd]
            again = await self._offsets.run(client, WRITE_BEHAVIOUR, calls, [users[place] for place in odd])
            for place, reply in zip(odd, again, strict=True):
                replies[place] = reply
        return [user.user_id for user, reply in zip(users, replies, strict=True) if reply != _DONE]

    async def write_whole(self, users: Sequence[UserFeatures]) -> list[str]:
        """As `WholeUserStore` says."""
        if not users:
            return []
        return await self._left_out_by_slot(WRITE_WHOLE, users, whole_call)

    async def erase(self, users: Sequence[ErasedUser]) -> list[str]:
        """As the port says. What stands in a user's place goes by itself after `fence_days`."""
        if not users:
            return []
        keys = {user.user_id: self._keys.of(user.user_id) for user in users}
        async with answered_within(self._timeout):
            client = await self._opened()
            calls = [erase_call(keys[user.user_id], user, self._fence_ms) for user in users]
            replies = dict(zip(keys, await run_script(client, ERASE, calls), strict=True))
            anew = {user_id: reply for user_id, reply in replies.items() if reply != DONE}
            for user in [user for user in users if user.user_id in anew]:
                key = keys[user.user_id]
                for damaged in await damaged_keys(client, ATTRIBUTES_VIEW, [key]):
                    (over,) = await run_each(client, b"HGET", [damaged], _ATTRIBUTES_TIME)
                    await run_script(client, ERASE, [erase_call(damaged, user, self._fence_ms, over or b"")])
                    del anew[user.user_id]
        await self._trim(anew)
        return list(anew)

    async def append_behaviour(self, users: Sequence[LaterBehaviour]) -> list[str]:
        """As `OneStepStore` says."""
        if not users:
            return []
        async with answered_within(self._timeout):
            calls = [append_call(self._keys.of(user.user_id), user) for user in users]
            replies = await self._offsets.run(await self._opened(), APPEND_BEHAVIOUR, calls, users)
        return [user.user_id for user, reply in zip(users, replies, strict=True) if reply != _DONE]

    async def write_new(self, users: Sequence[EnrichedUser]) -> list[str]:
        """As `OneStepStore` says."""
        return await self._left_out_by_slot(WRITE_NEW, users, new_call)

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
            await wait_for_disk(await self._opened(), self._keys.syncs, self._timeout)

    async def begin_offsets(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int | None]:
        async with answered_within(self._timeout):
            return await self._offsets.begin(await self._opened(), starts)

    async def advance_offsets(self, moves: Mapping[Partition, tuple[int, int]]) -> Mapping[Partition, int | None]:
        async with answered_within(self._timeout):
            return await self._offsets.advance(await self._opened(), moves)

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
        opening, client = self._opening, self._client
        self._opening = self._client = self._server_run = None
        if client is None and opening is not None:
            await cancel_and_wait(opening)
        if client is not None:
            await client.aclose()

    async def _left_out(
        self, script: LuaScript, users: Sequence[New], call: Callable[[bytes, New], Command]
    ) -> list[str]:
        """The users whom the script, called for each, left as they were."""
        if not users:
            return []
        calls = [call(self._keys.of(user.user_id), user) for user in users]
        async with answered_within(self._timeout):
            replies = await run_script(await self._opened(), script, calls)
        return [user.user_id for user, reply in zip(users, replies, strict=True) if reply != _DONE]

    async def _left_out_by_slot(
        self, scripts: Mapping[str, LuaScript], users: Sequence[New], call: Callable[[bytes, New], Command]
    ) -> list[str]:
        """Likewise, by the script of the slot that each user's virtual behaviour lies in."""
        of_slot: defaultdict[str, list[New]] = defaultdict(list)
        for user in users:
            of_slot[SLOTS[0] if user.virtual is None else slot(user.virtual.generation)].append(user)
        left_out = [await self._left_out(scripts[view], rows, call) for view, rows in of_slot.items()]
        return [user_id for each in left_out for user_id in each]

    async def _trim(self, anew: Mapping[str, int]) -> None:
        """Take away what users did before they were erased, who registered anew by then; by reply of the script."""
        left = list(anew)
        newly_erased = [user_id for user_id, reply in anew.items() if reply == UNKNOWN]
        for _ in range(ROUNDS):
            left = await self.write_behaviour(trimmed(await self.read_behaviour(left), newly_erased))
            if not left:
                return
        raise Unavailable("redis", f"others write for {len(left)} erased users at the same time")

    async def _write_newer(self, script: LuaScript, view: str, calls: Sequence[WriteCall]) -> list[int]:
        """A script a row; those refused as no newer are run again over what cannot be read. The places of the rows that
        stay refused."""
        if not calls:
            return []
        async with answered_within(self._timeout):
            client = await self._opened()
            replies = await run_script(client, script, [call.over(call.read) for call in calls])
            refused = [place for place, reply in enumerate(replies) if reply != _DONE]
            no_newer = [place for place in refused if replies[place] != _OTHER_ATTRIBUTES]
            damaged = set(await damaged_keys(client, view, [calls[place].key for place in no_newer]))
            again = [place for place in no_newer if calls[place].key in damaged]
            if again:
                over = [calls[place].over(replies[place]) for place in again]
                for place, reply in zip(again, await run_script(client, script, over), strict=True):
                    replies[place] = reply
        return [place for place in refused if replies[place] != _DONE]

    async def _opened(self) -> Client:
        """The client; a caller whose time runs out meanwhile leaves the opening to those after it."""
        self._loop.check()
        if self._client is None:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.get_running_loop().create_task(self._open())
            return await asyncio.shield(self._opening)
        return self._client

    async def _open(self) -> Client:
        await asyncio.to_thread(check_applied, self._config)
        store: Any = get_provider(self._config).online_store
        client: Client = await store._get_client_async(self._config.online_store)  # noqa: SLF001  # as Feast connects
        self._client = client  # here: between the task's end and whoever waits for it, another may ask
        return client


def _is_the_read_version(stored: Sequence[bytes], user: BehavedUser) -> bool:
    """Whether what is stored, in a form that is not ours, is the version that the user's row was made from."""
    return tuple(stored) != version_read(user) and version_stored(*stored) == (user.read_version, user.read_us)


def _earlier(first: Raw, attributes_time: Raw) -> Raw:
    """The first registration where the attributes are from another one: most users registered once."""
    return None if first == attributes_time else first
