"""What every process counts of its own tasks."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def task_ends(registry: "CollectorRegistry") -> Callable[[str], None]:
    """Counts background tasks that ended though nobody ended them, by their name."""
    from prometheus_client import Counter

    ends = Counter(
        "foretaste_task_ends", "Background tasks that ended though nobody ended them", ["task"], registry=registry
    )

    def ended(task: str) -> None:
        ends.labels(task).inc()

    return ended
