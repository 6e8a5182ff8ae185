"""The training log as an offline store of Feast's: `offline_store: type: features.partitioned.PartitionedOfflineStore`.

Feast's own file store rewrites a whole file for every write and reads all of a source for every read. This one keeps
a source whose path is a folder as whole files by day (`features.log.files`), adds files and never changes one, and
reads the days asked for. Everything else is Feast's file store, with relative paths starting at `folder`: its
`get_historical_features` reads such a folder too.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa

from features.feast_api import (
    DaskOfflineStore,
    DaskOfflineStoreConfig,
    FeatureView,
    FileSource,
    RepoConfig,
    RetrievalJob,
)
from features.log import files as log_files
from foretaste.kernel.errors import InvalidInput

log = logging.getLogger(__name__)

_TYPE: Final = "features.partitioned.PartitionedOfflineStore"


class PartitionedOfflineStoreConfig(DaskOfflineStoreConfig):
    """`offline_store` in `feature_store.yaml`."""

    # the rule of Feast's plug-ins: the type is the class's path; its file store, which this one is, has a narrower one
    type: Literal["features.partitioned.PartitionedOfflineStore"] = _TYPE  # type: ignore[assignment]
    folder: str
    """Where relative paths of sources start; a folder on a file system that renames at once and keeps what it syncs."""


class DaysRetrieval(RetrievalJob):
    """A read of some days, done when it is asked for its rows; `skipped` then names the files that could not be."""

    on_demand_feature_views = []  # noqa: RUF012  # Feast's own annotation
    full_feature_names = False
    metadata = None

    def __init__(self, read: Callable[[], log_files.Found]) -> None:
        self._read = read
        self.skipped: Sequence[str] = ()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        found = self._read()
        self.skipped = [str(path) for path in found.skipped]
        for path in self.skipped:
            log.warning("training log: %s cannot be read, and is skipped", path)
        return found.table

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        return self._to_arrow_internal(timeout).to_pandas()


class PartitionedOfflineStore(DaskOfflineStore):
    """See the module. What Feast calls with a source that is a single file goes to its own file store."""

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Add rows to the view's source; returns once they are durable.

        Raises `InvalidInput` for a table that lacks a column of the view, `Unavailable` when the disk takes no more.
        """
        source: Any = feature_view.batch_source
        folder = folder_of(config, source)
        if folder is None:
            DaskOfflineStore.offline_write_batch(_rooted(config), feature_view, table, progress)
            return
        wanted = {source.timestamp_field, *(field.name for field in feature_view.schema)}
        missing = sorted(wanted.difference(table.column_names))
        if missing:
            raise InvalidInput(f"rows of {feature_view.name}", missing, "lack columns of the view")
        log_files.append(folder, table, source.timestamp_field)
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
        folder = folder_of(config, data_source)
        if folder is None:
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
        return DaysRetrieval(lambda: log_files.read(folder, columns, timestamp_field, since, until))

    @staticmethod
    def pull_latest_from_table_or_query(config: RepoConfig, *arguments: Any, **named: Any) -> RetrievalJob:
        return DaskOfflineStore.pull_latest_from_table_or_query(_rooted(config), *arguments, **named)

    @staticmethod
    def get_historical_features(config: RepoConfig, *arguments: Any, **named: Any) -> RetrievalJob:
        return DaskOfflineStore.get_historical_features(_rooted(config), *arguments, **named)


def folder_of(config: RepoConfig, source: FileSource) -> Path | None:
    """The folder of a source that this store keeps by day; None for a single file, or where another store is set."""
    settings = config.offline_store
    if not isinstance(settings, PartitionedOfflineStoreConfig) or source.path.endswith(".parquet"):
        return None
    return Path(settings.folder) / source.path


def _rooted(config: RepoConfig) -> RepoConfig:
    rooted = config.model_copy()
    rooted.repo_path = Path(config.offline_store.folder)
    return rooted


def _utc(time: datetime | None) -> datetime | None:
    """Feast passes times without a zone too, and means UTC."""
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time
