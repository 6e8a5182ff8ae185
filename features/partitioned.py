"""The offline store of the training log under the name that it has in `feature_store.yaml` of earlier versions."""

from typing import Final, Literal

from features.log.offline_store import DeltaOfflineStore, DeltaOfflineStoreConfig

_TYPE: Final = "features.partitioned.PartitionedOfflineStore"


class PartitionedOfflineStoreConfig(DeltaOfflineStoreConfig):
    """As `DeltaOfflineStoreConfig`, under the type of earlier versions: Feast looks it up beside the class."""

    type: Literal["features.partitioned.PartitionedOfflineStore"] = _TYPE  # type: ignore[assignment]


PartitionedOfflineStore = DeltaOfflineStore
