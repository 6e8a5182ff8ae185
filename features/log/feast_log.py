"""The training log: Feast's offline store behind the `TrainingLog` port."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.feast_api import FeatureStore, FeatureView, Provider, RepoConfig, get_provider
from features.log import files as log_files
from features.log.rows import (
    BEHAVIOUR_ROWS,
    RANKING_ROWS,
    Kind,
    as_time,
    behaviours_table,
    conformed,
    each_once,
    rankings_table,
    within,
)
from features.partitioned import folder_of
from features.repo_config import local_registry
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.ports import Clock, Logged

EVENT_TIME = "event_timestamp"
"""What `at` is called in the log: Feast's usual name for it."""


@dataclass(frozen=True, slots=True)
class _Feast:
    """What writes and reads need of Feast, resolved once."""

    provider: Provider
    views: Mapping[str, FeatureView]


class FeastTrainingLog:
    """What was served and what users did, in the offline store that `feature_store.yaml` names.

    Writing again what was written changes no answer: a row is read once, by its key. Everything runs in threads, so a
    loop that serves is not held up; opened by its first use, which reads the registry. `compact` and `expire` are for
    the log's own files; where another offline store is set they do nothing, since a warehouse keeps itself.
    """

    def __init__(self, config: RepoConfig, *, now: Clock = time.time) -> None:
        self._config = config
        self._now = now
        self._feast: _Feast | None = None

    async def write_rankings(self, rankings: Sequence[UserRanked]) -> None:
        if rankings:
            await asyncio.to_thread(self._write, RANKING_ROWS, partial(rankings_table, rankings))

    async def write_behaviours(self, behaviours: Sequence[UserBehaved]) -> None:
        if behaviours:
            await asyncio.to_thread(self._write, BEHAVIOUR_ROWS, partial(behaviours_table, behaviours))

    async def read(self, since_ms: int, until_ms: int) -> Logged:
        rankings, skipped = await asyncio.to_thread(self._read, RANKING_ROWS, since_ms, until_ms)
        behaviours, more = await asyncio.to_thread(self._read, BEHAVIOUR_ROWS, since_ms, until_ms)
        return Logged(rankings, behaviours, [*skipped, *more])

    async def compact(self, before: date, ended: Callable[[], bool] = lambda: False) -> log_files.Compacted:
        """One file for each day before `before` (UTC), each row in it once. Anything may write and read meanwhile.

        `ended` is asked before each day, in a thread: once it is true, no other day is begun.
        """
        done = [await asyncio.to_thread(self._compact, kind, before, ended) for kind in (RANKING_ROWS, BEHAVIOUR_ROWS)]
        days = {day for each in done for day in each.days}
        return log_files.Compacted(sorted(days), [path for each in done for path in each.skipped])

    async def expire(self, before: date) -> list[date]:
        """Remove what happened before `before` (UTC); the days that were removed."""
        done = [await asyncio.to_thread(self._expire, kind, before) for kind in (RANKING_ROWS, BEHAVIOUR_ROWS)]
        return sorted({day for each in done for day in each})

    def _write(self, kind: Kind, make: Callable[[], pa.Table]) -> None:
        feast = self._opened()
        names = [EVENT_TIME if name == "at" else name for name in kind.schema.names]
        feast.provider.ingest_df_to_offline_store(feast.views[kind.name], make().rename_columns(names))

    def _read(self, kind: Kind, since_ms: int, until_ms: int) -> tuple[pa.Table, Sequence[str]]:
        feast = self._opened()
        source: Any = feast.views[kind.name].batch_source
        job = feast.provider.offline_store.pull_all_from_table_or_query(
            config=self._config,
            data_source=source,
            join_key_columns=["user_id"],
            feature_name_columns=[name for name in kind.schema.names if name not in ("user_id", "at")],
            timestamp_field=EVENT_TIME,
            start_date=as_time(since_ms),
            end_date=as_time(until_ms),
        )
        table = job.to_arrow()
        names = ["at" if name == EVENT_TIME else name for name in table.column_names]
        rows = conformed(table.rename_columns(names), kind.schema)
        return each_once(within(rows, since_ms, until_ms), kind), getattr(job, "skipped", ())

    def _compact(self, kind: Kind, before: date, ended: Callable[[], bool]) -> log_files.Compacted:
        folder = self._folder(kind)
        if folder is None:
            return log_files.Compacted((), ())
        once = partial(each_once, kind=kind, time=EVENT_TIME)
        return log_files.compact(folder, before, EVENT_TIME, once, self._now(), ended)

    def _expire(self, kind: Kind, before: date) -> Sequence[date]:
        folder = self._folder(kind)
        return [] if folder is None else log_files.expire(folder, before)

    def _folder(self, kind: Kind) -> Path | None:
        source: Any = self._opened().views[kind.name].batch_source
        return folder_of(self._config, source)

    def _opened(self) -> _Feast:
        if self._feast is None:
            self._feast = _open(self._config)
        return self._feast


def _open(config: RepoConfig) -> _Feast:
    path = local_registry(config)
    if path is not None and not path.exists():  # Feast would make an empty one
        raise Unavailable("feast", f"no registry at {path}: the feature repository has not been applied")
    registry = FeatureStore(config=config).registry
    views = {view.name: view for view in registry.list_feature_views(config.project, allow_cache=True)}
    missing = [kind.name for kind in (RANKING_ROWS, BEHAVIOUR_ROWS) if kind.name not in views]
    if missing:
        raise Unavailable("feast", f"the registry has no view {missing[0]} of project {config.project}: apply it first")
    return _Feast(get_provider(config), views)
