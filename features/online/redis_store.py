"""The online store: Feast on Redis behind the `OnlineStore` port."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from features.feast_api import FeatureStore, RepoConfig, get_provider
from features.online.layout import (
    ATTRIBUTES,
    Keys,
    Row,
    attributes_row,
    behaviour_row,
    features_of,
    nanos_of,
    read_fields,
    stamp_of,
    time_of,
    virtual_row,
)
from features.redis.address import Client, OneLoop, answered_within
from features.redis.commands import Command, run_all, run_each
from features.redis.keys import walk_keys
from features.repo_config import local_registry
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import slot
from foretaste.kernel.users import BehavedUser, EnrichedUser, ReenrichedUser, UserFeatures


class FeastOnlineStore:
    """Features of users in Redis, in Feast's own layout: a team reads and writes them with its own Feast client too.

    Opened by its first use, in the event loop that it then belongs to; opening reads the registry and writes nothing.
    A write costs two round trips a view and follows Feast's rule: the stored times are read, each row that is no newer
    is dropped, and the others are written. Nothing is locked between the two, so each view should have one writer a
    user: Kafka's partitions see to that for attributes and behaviour. Readers and re-enrichment write virtual behaviour
    beside the sign-ups, so a write of it can be lost to an older one; `Generation.virtual_of` tells, and it is
    repaired again. `timeout` (seconds) bounds a whole call: short for a reader who can degrade, longer for large
    batches.
    """

    def __init__(self, config: RepoConfig, *, timeout: float = 2.0) -> None:
        self._config = config
        self._timeout = timeout
        self._keys = Keys(config.project)
        self._client: Client | None = None
        self._opening = asyncio.Lock()
        self._loop = OneLoop()

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        if not user_ids:
            return []
        client, keys = await self._opened(), [self._keys.of(user_id) for user_id in user_ids]
        async with answered_within(self._timeout):
            found = await run_each(client, b"HMGET", keys, *read_fields(generation))
        return [features_of(user_id, values) for user_id, values in zip(user_ids, found, strict=True)]

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> None:
        """Attributes first: a reader in between repairs the virtual behaviour, and the write after it says the same."""
        await self._write("user_attributes", [attributes_row(self._keys.of(user.user_id), user) for user in users])
        await self.write_virtual(
            [ReenrichedUser(user.user_id, user.virtual, user.at_ms) for user in users if user.virtual is not None]
        )

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> None:
        slots: defaultdict[str, list[Row]] = defaultdict(list)
        for user in users:
            slots[slot(user.virtual.generation)].append(virtual_row(self._keys.of(user.user_id), user))
        for view, rows in slots.items():
            await self._write(view, rows)

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> None:
        await self._write("user_behaviour", [behaviour_row(self._keys.of(user.user_id), user) for user in users])

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        """As the port says, by a scan of Redis. A server that was started anew is walked from its beginning."""
        client = await self._opened()
        async with answered_within(self._timeout):
            keys, after = await walk_keys(client, self._keys.pattern, cursor, count)
            ours = [(key, user) for key in keys if (user := self._keys.user_of(key)) is not None]
            known = await run_each(client, b"HEXISTS", [key for key, _ in ours], ATTRIBUTES)
        return [user for (_, user), there in zip(ours, known, strict=True) if there], after

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _write(self, view: str, rows: Sequence[Row]) -> None:
        if not rows:
            return
        client, stamp = await self._opened(), stamp_of(view)
        async with answered_within(self._timeout):
            stored = await run_each(client, b"HGET", [row.key for row in rows], stamp)
            newer: list[Command] = []
            newest: dict[bytes, int] = {}
            for row, time in zip(rows, stored, strict=True):
                latest = max(nanos_of(time), newest.get(row.key, 0))
                if latest and row.nanos <= latest:
                    continue
                newest[row.key] = row.nanos
                newer.append((b"HSET", row.key, stamp, time_of(row.nanos), *row.fields))
            await run_all(client, newer)

    async def _opened(self) -> Client:
        self._loop.check()
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    await asyncio.to_thread(_check_applied, self._config)
                    store: Any = get_provider(self._config).online_store
                    self._client = await store._get_client_async(self._config.online_store)  # noqa: SLF001  # as Feast connects
        return self._client


def _check_applied(config: RepoConfig) -> None:
    """Raises `Unavailable` unless the registry holds the project."""
    path = local_registry(config)
    if path is not None and not path.exists():  # Feast would make an empty one
        raise Unavailable("feast", f"no registry at {path}: the feature repository has not been applied")
    registry = FeatureStore(config=config).registry
    services = {one.name for one in registry.list_feature_services(config.project, allow_cache=True)}
    if "ranking" not in services:
        raise Unavailable("feast", f"the registry has no service `ranking` of project {config.project}: apply it first")
