"""What every process counts of its own tasks."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from foretaste.kernel.running.store_watch import StoreWatch
    from streams.parts import SignUpParts


def task_ends(registry: "CollectorRegistry") -> Callable[[str], None]:
    """Counts background tasks that ended though nobody ended them, by their name."""
    from prometheus_client import Counter

    ends = Counter(
        "foretaste_task_ends", "Background tasks that ended though nobody ended them", ["task"], registry=registry
    )

    def ended(task: str) -> None:
        ends.labels(task).inc()

    return ended


def store_watch(found: "SignUpParts", registry: "CollectorRegistry") -> "StoreWatch":
    """Tells whether Redis drops users or generations by itself, also as a metric."""
    from prometheus_client import Gauge

    from foretaste.kernel.running.store_watch import StoreWatch

    evicts = Gauge(
        "foretaste_store_evicts",
        "1 while a store that is full drops users or generations instead of refusing writes",
        registry=registry,
    )
    return StoreWatch([found.store, found.generations], evicts.set)
