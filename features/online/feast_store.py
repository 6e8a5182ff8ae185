"""The online store through Feast's public API alone: any store that `feature_store.yaml` can name."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from features.feast_api import RepoConfig
from features.online.damage import DamageLog
from features.online.directory import VIEW as DIRECTORY_VIEW
from features.online.directory import UserDirectory
from features.online.feast_client import FeastClient
from features.online.layout import (
    ATTRIBUTES_VIEW,
    BEHAVIOUR_VIEW,
    attributes_text,
    columns_of,
    features_of,
    is_damaged,
    read_columns,
    readable_nanos,
    version_stored,
)
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import slot
from foretaste.kernel.ports import Clock
from foretaste.kernel.users import BehavedUser, EnrichedUser, ReenrichedUser, UserFeatures

MOST_PAUSE = 0.5
"""Seconds between a read of behaviour and the write that was compared with it: more is a process that stood still."""
_USER = "user_id"


@dataclass(frozen=True, slots=True)
class ViewRow:
    """What is written of a user in one view."""

    user_id: str
    at_us: int
    """Event time, microseconds since the epoch."""
    values: tuple[object, ...]
    """Of the view's features, in their order."""


class FeastStore:
    """Features of users in any online store of Feast's, several times as slow as `RedisStore` on Redis.

    Feast's API has no compare-and-set and no list of keys, and some stores keep event times in whole seconds: the port
    says which promises are weaker for that. Each write reads first, drops what is no newer, and writes the rest. Users
    who get attributes for the first time are put into the directory just before, so that none has attributes and is
    missing from it. `timeout` (seconds) bounds a whole call. Belongs to the event loop of its first use.
    """

    def __init__(
        self, config: RepoConfig, *, timeout: float = 2.0, now: Clock = time.time, clock: Clock = time.monotonic
    ) -> None:
        self._client = FeastClient(config, DIRECTORY_VIEW)
        self._directory = UserDirectory(self._client, now)
        self._timeout = timeout
        self._clock = clock
        self._damage = DamageLog()

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        async with self._client.answered_within(self._timeout):
            rows = await self._client.read(read_columns(generation), _USER, user_ids)
        features = [features_of(user, generation, values) for user, values in zip(user_ids, rows, strict=True)]
        self._damage.note(features)
        return features

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> None:
        """Attributes first: a reader in between repairs the virtual behaviour, and the write after it says the same."""
        rows = [ViewRow(user.user_id, user.at_ms * 1000, (attributes_text(user),)) for user in users]
        async with self._client.answered_within(self._timeout):
            due, known = await self._due(ATTRIBUTES_VIEW, rows)
            await self._directory.add([row.user_id for row in due if row.user_id not in known])
            await self._write(ATTRIBUTES_VIEW, due)
        await self.write_virtual(
            [ReenrichedUser(user.user_id, user.virtual, user.at_ms) for user in users if user.virtual is not None]
        )

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> None:
        slots: defaultdict[str, list[ViewRow]] = defaultdict(list)
        for user in users:
            vectors, generation = user.virtual.vectors, user.virtual.generation
            values = (vectors.ravel().tolist(), vectors.shape[1], generation)
            slots[slot(generation)].append(ViewRow(user.user_id, user.at_ms * 1000, values))
        async with self._client.answered_within(self._timeout):
            for view, rows in slots.items():
                due, _ = await self._due(view, rows)
                await self._write(view, due)

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        """As the port says, in two steps: one read of what is stored, and one write of those that are not refused.

        Raises `Unavailable` where this process stood still between the two for longer than `MOST_PAUSE`.
        """
        first = {user.user_id: user for user in reversed(users)}
        async with self._client.answered_within(self._timeout):
            stored = await self._client.read(columns_of(BEHAVIOUR_VIEW), _USER, list(first))
            read_at = self._clock()
            current = {
                user.user_id
                for user, (*_, version, at) in zip(first.values(), stored, strict=True)
                if version_stored(version, at) == (user.read_version, user.read_us)
            }
            taken = [user for user in users if user.user_id in current and user is first[user.user_id]]
            if self._clock() - read_at > MOST_PAUSE:
                raise Unavailable("feast", "this process stood still after it had read what it would write over")
            await self._write(BEHAVIOUR_VIEW, [_behaviour_row(user) for user in taken])
        return [user.user_id for user in users if user.user_id not in current or user is not first[user.user_id]]

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        """As the port says, page by page of the directory."""
        async with self._client.answered_within(self._timeout):
            return await self._directory.walk(cursor, count)

    async def close(self) -> None:
        await self._client.close()

    async def _due(self, view: str, rows: Sequence[ViewRow]) -> tuple[list[ViewRow], set[str]]:
        """Those of the rows that are newer than what is stored, the newest of each user; and who has the view by now.

        What cannot be read counts as never written; the row that replaces it is a little newer, since some stores drop
        what is not.
        """
        newest: dict[str, ViewRow] = {}
        for row in rows:
            held = newest.get(row.user_id)
            if held is None or row.at_us > held.at_us:
                newest[row.user_id] = row
        stored = await self._client.read(columns_of(view), _USER, list(newest))
        due: list[ViewRow] = []
        known: set[str] = set()
        for row, values in zip(newest.values(), stored, strict=True):
            at_us = readable_nanos(values[-1]) // 1000
            if is_damaged(view, values):
                due.append(replace(row, at_us=max(row.at_us, at_us + 1)))
                continue
            if values[0] is not None:
                known.add(row.user_id)
            if row.at_us > at_us:
                due.append(row)
        return due, known

    async def _write(self, view: str, rows: Sequence[ViewRow]) -> None:
        names = [feature for _, feature in columns_of(view) if feature is not None]
        columns: dict[str, Sequence[object]] = {_USER: [row.user_id for row in rows]}
        columns |= {name: [row.values[place] for row in rows] for place, name in enumerate(names)}
        await self._client.write(view, columns, [row.at_us for row in rows])


def _behaviour_row(user: BehavedUser) -> ViewRow:
    behaviour = user.behaviour
    values = (list(behaviour.items), list(behaviour.actions), list(behaviour.times), user.version)
    return ViewRow(user.user_id, user.at_us, values)
