"""Feast's own online API, awaited, on whatever online store its configuration names."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pandas as pd
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types
from redis.exceptions import ResponseError

from features.driver_thread import DriverThread
from features.feast_api import FeatureStore, RepoConfig
from features.log.rows import EVENT_TIME
from features.online.layout import Column, Raw
from features.redis.address import OneLoop
from features.repo_config import check_applied, close_connections
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Clock

USER_KEY = "user_id"
"""The join key of users."""
CLOSING_SECONDS = 2.0
MOST_HANGING = 2
"""Threads whose driver hangs; while there are so many, the store is not available. Each holds a connection."""
MOST_PAUSE = 0.5
"""Seconds between an answer and the write that follows from it: more is a process that stood still."""

ROTTEN = b"\xff\xff"
"""In the place of each value of a row that Feast cannot decode: no message of any kind, so its readers refuse it."""


class _UndecodableError(Unavailable):
    """Feast reached the store, and could not read what it holds."""


class FeastClient:
    """Reads and writes rows of views: Feast's asynchronous methods where the online store has them, else in a thread.

    It is one thread, since most drivers' connections, which Feast keeps open, serve one call at a time. Opened by its
    first use; after a failure it is opened anew, since Feast does not connect again by itself. A call that is waited
    for no longer leaves its thread and its store to the driver, who may hang for ever; both end when it returns.
    Belongs to the event loop of its first use. `views` must be applied.
    """

    def __init__(self, config: RepoConfig, *views: str) -> None:
        self._config = config
        self._views = views
        self._part = str(config.online_store.type)
        self._store: FeatureStore | None = None
        self._opening = asyncio.Lock()
        self._thread: DriverThread | None = None
        self._left: list[DriverThread] = []
        """Those whose calls nobody waits for any more."""
        self._loop = OneLoop()

    @asynccontextmanager
    async def answered_within(self, seconds: float) -> AsyncIterator[None]:
        """What is awaited inside has so long in all; raises `Unavailable` beyond that."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise Unavailable(self._part, f"no answer within {seconds} s") from error

    async def read(self, columns: Sequence[Column], key: str, values: Sequence[str]) -> list[list[Raw]]:
        """For each value of the join key `key`, the columns' values as Feast's messages; None where nothing is.

        Feast answers for all rows or none. Where it cannot decode one of them, it is asked for each half of them, and
        the row itself comes back with `ROTTEN` in every column.
        """
        if not values:
            return []
        try:
            return await self._read(columns, key, values)
        except _UndecodableError:
            if len(values) == 1:
                return [[ROTTEN] * len(columns)]
        middle = len(values) // 2
        return [*await self.read(columns, key, values[:middle]), *await self.read(columns, key, values[middle:])]

    async def _read(self, columns: Sequence[Column], key: str, values: Sequence[str]) -> list[list[Raw]]:
        store = await self._opened()
        named: dict[str, Any] = {
            "features": [f"{view}:{feature}" for view, feature in columns if feature is not None],
            "entity_rows": {key: list(values)},
            "full_feature_names": True,
        }
        if store.provider.async_supported.online.read:
            answer = await self._asked(store, store.get_online_features_async(**named))
        else:
            answer = await self._asked(store, self._in_thread(partial(store.get_online_features, **named)))
        return _rows(answer.proto, columns, len(values))

    async def write(self, view: str, columns: Mapping[str, Sequence[object]], at_us: Sequence[int]) -> None:
        """Rows of a view as columns, its join key among them; event times in microseconds since the epoch.

        Where a stored row keeps Feast from writing, each half of the rows is written by itself, and `InvalidInput`
        names the row that Feast cannot write over.
        """
        if not at_us:
            return
        try:
            await self._write(view, columns, at_us)
        except _UndecodableError as error:
            if len(at_us) == 1:
                row = {name: values[0] for name, values in columns.items()}
                raise InvalidInput(view, row, f"Feast cannot write over what is stored: {error.detail}") from error
            middle = len(at_us) // 2
            for half in (slice(None, middle), slice(middle, None)):
                await self.write(view, {name: values[half] for name, values in columns.items()}, at_us[half])

    async def _write(self, view: str, columns: Mapping[str, Sequence[object]], at_us: Sequence[int]) -> None:
        store = await self._opened()
        frame = pd.DataFrame({**columns, EVENT_TIME: pd.to_datetime(pd.Series(at_us), unit="us", utc=True)})
        if store.provider.async_supported.online.write:
            await self._asked(store, store.write_to_online_store_async(view, frame))
        else:
            await self._asked(store, self._in_thread(partial(store.write_to_online_store, view, frame)))

    async def close(self) -> None:
        """Ends within `CLOSING_SECONDS`, though a driver hangs."""
        store, self._store = self._store, None
        if store is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_SECONDS):
                    await self._closed(store)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()

    async def _opened(self) -> FeatureStore:
        self._loop.check()
        if self._store is None:
            async with self._opening:
                if self._store is None:
                    store = await self._in_thread(partial(check_applied, self._config, *self._views))
                    await self._asked(store, store.initialize())
                    self._store = store
        return self._store

    async def _asked(self, store: FeatureStore, call: Awaitable[Any]) -> Any:
        """What Feast answers. Every driver has errors of its own, and Feast passes them on: all mean no answer."""
        try:
            return await call
        except Exception as error:
            if _is_undecodable(error):
                raise _UndecodableError(self._part, _one_line(error)) from error
            await self._dropped(store)
            raise Unavailable(self._part, _one_line(error)) from error

    async def _dropped(self, store: FeatureStore) -> None:
        if self._store is store:
            self._store = None
            await self._closed(store)

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        if self._thread is None:
            self._left = [thread for thread in self._left if thread.is_alive()]
            if len(self._left) >= MOST_HANGING:
                raise Unavailable(self._part, f"{len(self._left)} calls of its driver do not return")
            self._thread = DriverThread("feast")
        thread = self._thread
        try:
            return await asyncio.wrap_future(thread.submit(call))
        except asyncio.CancelledError:
            self._leave(thread)
            raise

    def _leave(self, thread: DriverThread) -> None:
        """The next call opens a store anew, in another thread; this one ends behind the calls that it has."""
        if thread is not self._thread:
            return
        store, self._store, self._thread = self._store, None, None
        if store is not None:
            thread.submit(partial(close_connections, store))
        thread.end()
        self._left.append(thread)

    async def _closed(self, store: FeatureStore) -> None:
        online_store: Any = store.provider.online_store
        await store.close()
        client = getattr(online_store, "_client_async", None)
        if client is not None:
            await client.aclose()
        await self._in_thread(partial(close_connections, store))


class FeastSteps:
    """Users' rows that are read, and then written by what was read; one for each call of a store.

    Feast's API compares nothing. So a write raises `Unavailable` where this process stood still before it for longer
    than `MOST_PAUSE`: others may have written what it does not know of. The time that the store itself takes is no
    standing still; `answered_within` bounds it.
    """

    def __init__(self, client: FeastClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._answered_at = clock()

    async def read(self, columns: Sequence[Column], user_ids: Sequence[str]) -> list[list[Raw]]:
        """As `FeastClient.read`, of users."""
        found = await self._client.read(columns, USER_KEY, user_ids)
        self._answered_at = self._clock()
        return found

    async def write(self, view: str, columns: Mapping[str, Sequence[object]], at_us: Sequence[int]) -> None:
        """As `FeastClient.write`."""
        if at_us:
            async with self.step():
                await self._client.write(view, columns, at_us)

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        """Around what is written in another way."""
        if self._clock() - self._answered_at > MOST_PAUSE:
            raise Unavailable("feast", "this process stood still after it had read what it would write over")
        yield
        self._answered_at = self._clock()


def _is_undecodable(error: Exception) -> bool:
    """Whether the store answered with what Feast cannot read; a pipeline of Redis names its command before that."""
    return isinstance(error, DecodeError) or (isinstance(error, ResponseError) and "WRONGTYPE" in str(error))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _rows(answer: Any, columns: Sequence[Column], count: int) -> list[list[Raw]]:
    """The columns of Feast's answer, row by row; the event time of a view is that of its first feature."""
    found = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
    features = {column: found[f"{column[0]}__{column[1]}"] for column in columns if column[1] is not None}
    first = {view: vector for (view, _), vector in reversed(features.items())}
    read: list[list[Raw]] = []
    for view, feature in columns:
        if feature is None:
            read.append([time.SerializeToString() for time in first[view].event_timestamps])
        else:
            read.append([value.SerializeToString() for value in features[view, feature].values])
    return [[column[row] or None for column in read] for row in range(count)]
