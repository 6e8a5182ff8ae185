"""The online store: Feast on Redis behind the `OnlineStore` port."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.feast_api import FeatureService, FeatureStore, FeatureView, Provider, RepoConfig, get_provider
from features.redis_address import OneLoop, answered_within
from features.repo_config import local_registry
from features.rows import Row, attributes_row, behaviour_row, columns_of, features_of, virtual_row
from features.slots import slot
from foretaste.contracts import BehavedUser, EnrichedUser, ReenrichedUser, UserFeatures
from foretaste.errors import Unavailable


@dataclass(frozen=True, slots=True)
class _Feast:
    """What reads and writes need of Feast, resolved once."""

    provider: Provider
    registry: Any
    service: FeatureService
    views: Mapping[str, FeatureView]


class FeastOnlineStore:
    """Features of users in Redis, in Feast's own layout: a team reads them with its own Feast client too.

    Opened by its first use, in the event loop that it then belongs to; opening reads the registry and writes nothing.
    A write costs two round trips a view: Feast reads the stored timestamps, drops each row that is no newer, and
    writes the others. It does not lock between the two, so each view should have one writer a user: Kafka's partitions
    see to that for attributes and behaviour. Readers repair virtual behaviour beside the workers, so a write of it can
    be lost to an older one; `UserFeatures.current_virtual` tells, and it is repaired again. `timeout` (seconds) bounds
    a whole call: short for a reader who can degrade, longer for large batches.
    """

    def __init__(self, config: RepoConfig, *, timeout: float = 2.0) -> None:
        self._config = config
        self._timeout = timeout
        self._feast: _Feast | None = None
        self._opening = asyncio.Lock()
        self._loop = OneLoop()

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        if not user_ids:
            return []
        feast = await self._opened()
        async with answered_within(self._timeout):
            response = await feast.provider.get_online_features_async(
                config=self._config,
                features=feast.service,
                entity_rows={"user_id": list(user_ids)},
                registry=feast.registry,
                project=self._config.project,
                full_feature_names=True,
            )
        columns = columns_of(response.proto)
        return [features_of(user_id, row, columns, slot(generation)) for row, user_id in enumerate(user_ids)]

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> None:
        """Attributes first: a reader in between repairs the virtual behaviour, and the write after it says the same."""
        await self._write("user_attributes", [attributes_row(user) for user in users])
        await self.write_virtual(
            [ReenrichedUser(user.user_id, user.virtual, user.at_ms) for user in users if user.virtual is not None]
        )

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> None:
        slots: dict[str, list[Row]] = defaultdict(list)
        for user in users:
            slots[slot(user.virtual.generation)].append(virtual_row(user))
        for view, rows in slots.items():
            await self._write(view, rows)

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> None:
        await self._write("user_behaviour", [behaviour_row(user) for user in users])

    async def close(self) -> None:
        if self._feast is None:
            return
        feast, self._feast = self._feast, None
        # Feast 0.67 opens its Redis client and never closes it.
        client = getattr(feast.provider.online_store, "_client_async", None)
        if client is not None:
            await client.aclose()

    async def _write(self, view: str, rows: list[Row]) -> None:
        if not rows:
            return
        feast = await self._opened()
        async with answered_within(self._timeout):
            await feast.provider.online_write_batch_async(self._config, feast.views[view], rows, None)

    async def _opened(self) -> _Feast:
        self._loop.check()
        if self._feast is None:
            async with self._opening:
                if self._feast is None:
                    self._feast = await asyncio.to_thread(_open, self._config)
        return self._feast


def _open(config: RepoConfig) -> _Feast:
    path = local_registry(config)
    if path is not None and not path.exists():  # Feast would make an empty one
        raise Unavailable("feast", f"no registry at {path}: the feature repository has not been applied")
    registry = FeatureStore(config=config).registry
    views = {view.name: view for view in registry.list_feature_views(config.project, allow_cache=True)}
    services = {one.name: one for one in registry.list_feature_services(config.project, allow_cache=True)}
    if "ranking" not in services:
        raise Unavailable("feast", f"the registry has no service `ranking` of project {config.project}: apply it first")
    return _Feast(get_provider(config), registry, services["ranking"], views)
