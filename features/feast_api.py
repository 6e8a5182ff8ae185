"""The names of Feast that this package uses, imported without what importing Feast does besides.

It instruments its classes with run-time type checks (typeguard) and loads torch where it is installed: unused here, and
together 8 of 10 seconds. Dask, below its file store, loads scipy for arrays that no source has: a seventh of what is
left. And it turns this process and all its children to the multiprocess mode of prometheus-client, where metrics live
in files that every registry shares.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import prometheus_client  # noqa: F401  chooses its mode as it is imported, so before Feast
import typeguard

_HIDDEN = ("torch", "scipy")
_MULTIPROCESS = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")


def _as_it_is(target: Any = None, **_: Any) -> Any:
    return target if target is not None else _as_it_is


@contextmanager
def _light() -> Iterator[None]:
    """While inside, `typeguard.typechecked` changes nothing, and `_HIDDEN` cannot be imported unless it already is.

    Afterwards both are as before, and so is prometheus-client's mode in the environment.
    """
    checked, hidden = typeguard.typechecked, [name for name in _HIDDEN if name not in sys.modules]
    unset = [name for name in _MULTIPROCESS if name not in os.environ]
    typeguard.typechecked = _as_it_is
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        typeguard.typechecked = checked
        for name in hidden:
            del sys.modules[name]
        for name in unset:
            os.environ.pop(name, None)


with _light():
    from feast import FeatureService, FeatureStore, FeatureView, FileSource, RepoConfig
    from feast.infra.offline_stores.dask import DaskOfflineStore, DaskOfflineStoreConfig
    from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
    from feast.infra.provider import Provider, get_provider
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import FloatList, Int64List, StringList, Value

__all__ = [
    "DaskOfflineStore",
    "DaskOfflineStoreConfig",
    "EntityKey",
    "FeatureService",
    "FeatureStore",
    "FeatureView",
    "FileSource",
    "FloatList",
    "Int64List",
    "OfflineStore",
    "Provider",
    "RepoConfig",
    "RetrievalJob",
    "RetrievalMetadata",
    "StringList",
    "Value",
    "get_provider",
]
