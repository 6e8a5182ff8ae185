"""The training log as an offline store of Feast's: `offline_store: type: features.log.offline_store.DeltaOfflineStore`.

Feast's own file store rewrites a whole file for every write and reads all of a source for every read. This one keeps
a source whose path names no single file as a Delta table by day (`features.log.delta`) under one address, which may be
an object store's, and reads the days asked for, without the rows of users who were erased. Everything else is
Feast's file store, whose relative paths start at the address too.
"""

import logging
import tempfile
from collections.abc import Callable, Sequence
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AliasChoices, Field

from features.feast_api import (
    DaskOfflineStore,
    DaskOfflineStoreConfig,
    FeatureView,
    FileSource,
    RepoConfig,
    RetrievalJob,
)
from features.log.delta import DayTable, FoundRows
from features.log.erasures import ANSWERED_FROM, erasures_table, read_erased
from features.log.objects import is_remote, table_address
from features.log.rows import RANKING_ROWS
from features.repo_config import LOG_STORE
from foretaste.kernel.errors import InvalidInput

log = logging.getLogger(__name__)


class DeltaOfflineStoreConfig(DaskOfflineStoreConfig):
    """`offline_store` in `feature_store.yaml`."""

    # the rule of Feast's plug-ins: the type is the class's path; its file store, which this one is, has a narrower one
    type: Literal["features.log.offline_store.DeltaOfflineStore"] = LOG_STORE  # type: ignore[assignment]
    address: str = Field(validation_alias=AliasChoices("address", "folder"))
    """Where relative paths of sources start: a folder, or `s3://bucket/prefix`, `gs://…`, `abfss://…`."""


class DaysRetrieval(RetrievalJob):
    """A read of some days, done when it is asked for its rows; `skipped` then names the files that could not be."""

    on_demand_feature_views = []  # noqa: RUF012  # Feast's own annotation
    full_feature_names = False
    metadata = None

    def __init__(self, read: Callable[[], FoundRows]) -> None:
        self._read = read
        self.skipped: Sequence[str] = ()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        found = self._read()
        self.skipped = found.skipped
        for path in self.skipped:
            log.warning("training log: %s cannot be read, and is skipped", path)
        return found.table

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        return self._to_arrow_internal(timeout).to_pandas()


class HistoricalRetrieval(RetrievalJob):
    """Feast's point-in-time join over the rows of Delta tables, done when it is asked for its rows."""

    on_demand_feature_views = []  # noqa: RUF012  # Feast's own annotation
    metadata = None

    def __init__(self, join: Callable[[Path], RetrievalJob], *, full_feature_names: bool) -> None:
        self._join = join
        self._full_feature_names = full_feature_names

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return self._join(Path(folder)).to_df(timeout=timeout)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return pa.Table.from_pandas(self._to_df_internal(timeout))


class DeltaOfflineStore(DaskOfflineStore):
    """See the module. What Feast calls with a source that is a single file goes to its own file store."""

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Add rows to the view's table; returns once they are durable.

        Raises `InvalidInput` for rows that lack a column of the view, `Unavailable` when the disk or the store refuses.
        """
        source: Any = feature_view.batch_source
        days = day_table(config, source)
        if days is None:
            DaskOfflineStore.offline_write_batch(_rooted(config), feature_view, table, progress)
            return
        wanted = {source.timestamp_field, *(field.name for field in feature_view.schema)}
        missing = sorted(wanted.difference(table.column_names))
        if missing:
            raise InvalidInput(f"rows of {feature_view.name}", missing, "lack columns of the view")
        days.append(table)
        if progress is not None:
            progress(len(table))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows between the two times, both included; only their days are read, when the job is asked for rows."""
        days = day_table(config, data_source)
        if days is None:
            return DaskOfflineStore.pull_all_from_table_or_query(
                _rooted(config),
                data_source,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
                start_date,
                end_date,
            )
        also = [created_timestamp_column] if created_timestamp_column else []
        columns = list(dict.fromkeys([*join_key_columns, *feature_name_columns, timestamp_field, *also]))
        since, until = _utc(start_date), _utc(end_date)
        return DaysRetrieval(lambda: _left(config, data_source, days, columns, since, until))

    @staticmethod
    def pull_latest_from_table_or_query(config: RepoConfig, *arguments: Any, **named: Any) -> RetrievalJob:
        return DaskOfflineStore.pull_latest_from_table_or_query(_rooted(config), *arguments, **named)

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **named: Any,
    ) -> RetrievalJob:
        """Feast's own join; it reads whole files, so the rows of Delta tables are first put into one each."""

        def join(folder: Path) -> RetrievalJob:
            views = [_as_one_file(config, view, folder) for view in feature_views]
            return DaskOfflineStore.get_historical_features(
                _rooted(config),
                views,
                feature_refs,
                entity_df,
                registry,
                project,
                full_feature_names,
                filter_by_created_timestamp,
                **named,
            )

        if all(day_table(config, view.batch_source) is None for view in feature_views):
            return join(Path())
        return HistoricalRetrieval(join, full_feature_names=full_feature_names)


def log_address(config: RepoConfig) -> str:
    """Where the training log lies. Raises `InvalidInput` where another offline store keeps it."""
    settings = config.offline_store
    if not isinstance(settings, DeltaOfflineStoreConfig):
        raise InvalidInput("offline_store", settings.type, f"the training log is not in tables of {LOG_STORE}")
    return settings.address


def day_table(config: RepoConfig, source: Any) -> DayTable | None:
    """The table of a source that this store keeps by day; None for a single file, or where another store is set."""
    settings = config.offline_store
    if not isinstance(settings, DeltaOfflineStoreConfig) or source.path.endswith(".parquet"):
        return None
    return DayTable(table_address(settings.address, source.path), source.timestamp_field)


def _left(
    config: RepoConfig,
    source: Any,
    days: DayTable,
    columns: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
) -> FoundRows:
    """The rows of a source's table from `since` to `until`, without those that were erased."""
    also = ANSWERED_FROM if source.path == RANKING_ROWS.name else ()
    found = days.read(list(dict.fromkeys([*columns, *also])), since, until)
    erased = read_erased(erasures_table(config.offline_store.address))
    return FoundRows(erased.left_of(found.table, source.timestamp_field).select(list(columns)), found.skipped)


def _as_one_file(config: RepoConfig, view: FeatureView, folder: Path) -> FeatureView:
    """The view with all its rows in one file of `folder`; as it is where they lie in one anyway."""
    source: Any = view.batch_source
    days = day_table(config, source)
    if days is None:
        return view
    columns = dict.fromkeys([*(field.name for field in view.schema), source.timestamp_field])
    path = folder / f"{view.name}.parquet"
    pq.write_table(_left(config, source, days, list(columns)).table, path)
    on_file = copy(view)
    on_file.batch_source = FileSource(
        name=source.name,
        path=str(path),
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column,
        field_mapping=source.field_mapping,
    )
    return on_file


def _rooted(config: RepoConfig) -> RepoConfig:
    """Feast's file store takes a folder; of files in an object store it is given whole addresses."""
    if is_remote(config.offline_store.address):
        return config
    rooted = config.model_copy()
    rooted.repo_path = Path(config.offline_store.address)
    return rooted


def _utc(time: datetime | None) -> datetime | None:
    """Feast passes times without a zone too, and means UTC."""
    if time is None:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
