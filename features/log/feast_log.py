"""The training log: Feast's offline store behind the `TrainingLog` port."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.feast_api import FeatureView, Provider, RepoConfig, get_provider
from features.log.convert import older_days
from features.log.delta import DayTable, DueDays
from features.log.erasures import (
    ANSWERED_FROM,
    USER,
    ErasedFromLog,
    erasures_table,
    read_erased,
    write_erased,
)
from features.log.objects import is_remote
from features.log.offline_store import DeltaOfflineStoreConfig, day_table
from features.log.rows import (
    BEHAVIOUR_ROWS,
    EVENT_TIME,
    RANKING_ROWS,
    RowKind,
    as_time,
    behaviours_table,
    conformed,
    each_once,
    rankings_table,
    within,
)
from features.repo_config import check_applied
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.ports import CompactedDays, Logged
from foretaste.kernel.running.erasing import LogErasure

log = logging.getLogger(__name__)

_ERASED = "erasures"
"""Under which a table keeps the version of the table of erasures that its files are without."""


@dataclass(frozen=True, slots=True)
class _Feast:
    """What writes and reads need of Feast, resolved once."""

    provider: Provider
    views: Mapping[str, FeatureView]


class FeastTrainingLog:
    """What was served and what users did, in the offline store that `feature_store.yaml` names.

    Writing again what was written changes no answer: a row is read once, by its key. Everything runs in threads, so a
    loop that serves is not held up; opened by its first use, which reads the registry. `compact`, `expire` and `erase`
    are for the log's own tables; where another offline store is set they do nothing but say so: a warehouse keeps
    itself.
    """

    def __init__(self, config: RepoConfig) -> None:
        self._config = config
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
        erased = await asyncio.to_thread(self._read_erased)
        return Logged(*erased.of_known(rankings, behaviours), [*skipped, *more])

    async def erase(self, erasures: Sequence[LogErasure]) -> None:
        await asyncio.to_thread(self._erase, erasures)

    async def erased(self) -> Mapping[bytes, int]:
        return (await asyncio.to_thread(self._read_erased)).times()

    async def rows_of(self, user_id: str) -> Mapping[str, int]:
        """How many rows of a user the log holds that are read, by kind; nothing where another offline store is set."""
        return await asyncio.to_thread(self._rows_of, user_id)

    async def read_behaviours(self, since_ms: int, until_ms: int) -> pa.Table:
        """The behaviours of `read` alone; files that cannot be read are named in the log."""
        behaviours, skipped = await asyncio.to_thread(self._read, BEHAVIOUR_ROWS, since_ms, until_ms)
        for path in skipped:
            log.warning("behaviours that cannot be read are left out: %s", path)
        return behaviours

    async def compact(self, before: date, ended: Callable[[], bool] = lambda: False) -> CompactedDays:
        """One file for each day before `before` (UTC), each row in it once. Anything may write and read meanwhile.

        What was erased is left out, also of days that are one file already. `ended` is asked before each day, in a
        thread: once it is true, no other day is begun.
        """
        done = [await asyncio.to_thread(self._compact, kind, before, ended) for kind in (RANKING_ROWS, BEHAVIOUR_ROWS)]
        days = {day for each in done for day in each.days}
        return CompactedDays(sorted(days), [path for each in done for path in each.skipped])

    async def expire(self, before: date) -> list[date]:
        """From now on, nothing that happened before `before` (UTC) is read; the days that were removed."""
        done = [await asyncio.to_thread(self._expire, kind, before) for kind in (RANKING_ROWS, BEHAVIOUR_ROWS)]
        await asyncio.to_thread(self._keep_erasures, before)
        return sorted({day for each in done for day in each})

    def _write(self, kind: RowKind, make: Callable[[], pa.Table]) -> None:
        feast = self._opened()
        names = [EVENT_TIME if name == "at" else name for name in kind.schema.names]
        feast.provider.ingest_df_to_offline_store(feast.views[kind.name], make().rename_columns(names))

    def _read(self, kind: RowKind, since_ms: int, until_ms: int) -> tuple[pa.Table, Sequence[str]]:
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

    def _compact(self, kind: RowKind, before: date, ended: Callable[[], bool]) -> CompactedDays:
        table = self._table(kind)
        if table is None:
            return CompactedDays((), ())
        erasures = self._erasures()
        version, erased = (-1, ErasedFromLog({})) if erasures is None else (erasures.version(), read_erased(erasures))

        def left(rows: pa.Table) -> pa.Table:
            return each_once(erased.left_of(rows, EVENT_TIME), kind, EVENT_TIME)

        due = DueDays([USER, EVENT_TIME, *ANSWERED_FROM], partial(erased.covers_some, time=EVENT_TIME))
        is_new = version > table.marked(_ERASED)
        done = table.compact(before, left, ended, due if is_new else None)
        if is_new and not ended():
            table.mark(_ERASED, version)
        return done

    def _erase(self, erasures: Sequence[LogErasure]) -> None:
        table = self._erasures()
        if table is None:
            store = self._config.offline_store.type
            log.warning("%d users lie in the offline store %s, which must erase them itself", len(erasures), store)
            return
        write_erased(table, erasures)

    def _rows_of(self, user_id: str) -> dict[str, int]:
        erased, found = self._read_erased(), {}
        for kind in (RANKING_ROWS, BEHAVIOUR_ROWS):
            table = self._table(kind)
            if table is not None:

                def of_user(rows: pa.Table) -> pa.Table:
                    return erased.left_of(rows.filter(pc.field(USER) == user_id), EVENT_TIME)

                found[kind.name] = len(table.matching([USER, *ANSWERED_FROM], of_user).table)
        return found

    def _read_erased(self) -> ErasedFromLog:
        table = self._erasures()
        return ErasedFromLog({}) if table is None else read_erased(table)

    def _erasures(self) -> DayTable | None:
        """None where another offline store is set."""
        settings = self._config.offline_store
        return erasures_table(settings.address) if isinstance(settings, DeltaOfflineStoreConfig) else None

    def _expire(self, kind: RowKind, before: date) -> Sequence[date]:
        table = self._table(kind)
        if table is None:
            store = self._config.offline_store.type
            log.warning("%s lie in the offline store %s, which must remove what is old itself", kind.name, store)
            return []
        return table.expire(before)

    def _keep_erasures(self, before: date) -> None:
        """Those of old days go, and those of a day come into one file."""
        table = self._erasures()
        if table is not None:
            table.expire(before)
            table.compact(date.max, lambda rows: rows)

    def _table(self, kind: RowKind) -> DayTable | None:
        """The table of a kind of row; None where another offline store is set."""
        source: Any = self._opened().views[kind.name].batch_source
        return day_table(self._config, source)

    def _opened(self) -> _Feast:
        if self._feast is None:
            self._feast = _open(self._config)
        return self._feast


def _open(config: RepoConfig) -> _Feast:
    kinds = (RANKING_ROWS, BEHAVIOUR_ROWS)
    registry = check_applied(config, *(kind.name for kind in kinds)).registry
    views = {view.name: view for view in registry.list_feature_views(config.project, allow_cache=True)}
    if isinstance(config.offline_store, DeltaOfflineStoreConfig):
        _check_older(config.offline_store.address, {kind: views[kind.name] for kind in kinds})
    return _Feast(get_provider(config), views)


def _check_older(address: str, views: Mapping[RowKind, FeatureView]) -> None:
    """What an earlier version left: a registry in whose place nothing new may be written, and a log to be converted."""
    for kind, view in views.items():
        source: Any = view.batch_source
        if source.path == f"data/{kind.name}":
            raise Unavailable("feast", "the registry is that of an earlier version: run `foretaste setup`")
        if not is_remote(address) and older_days(Path(address), kind):
            hint = "`foretaste log --convert` brings it in; afterwards its folder `data` can be removed"
            log.warning("the %s of an earlier version in %s are not read: %s", kind.name, address, hint)
