"""The watch's figures for Prometheus, made anew at each scrape. What is not known has no sample."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.watch.monitor import Snapshot
from streams.watch.windows import Figures

PREFIX = "foretaste_watch"


class WatchGauges(Collector):
    """To be registered once, in the registry of the process that watches."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        """Nothing is known of the families before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family that has a sample."""
        found = self._snapshot()
        yield _counter("rollbacks", "Generations that the watch took back", found.rollbacks)
        yield _counter("unreadable", "Events that could not be read", found.unreadable)
        if found.figures is not None:
            yield from _families(found.figures)


def _families(found: Figures) -> Iterator[Metric]:
    plain = {
        "generation": ("The active generation", found.generation),
        "rankings": ("Rankings of the active generation in the window", found.rankings),
        "failure_share": ("Rankings by popularity, or by the mean although attributes were known", found.failures),
        "non_finite_share": ("Rankings for which a tower's answer was not finite", found.non_finite),
        "coverage": ("Cold and warming rankings by current stored virtual behaviour", found.coverage),
    }
    for name, (description, value) in plain.items():
        yield _gauge(name, description, "", {"": value})
    groups = found.groups
    yield _gauge("users_share", "Rankings, by how much was seen", "group", {k: v.share for k, v in groups.items()})
    yield _gauge("predicted", "Mean score of what was shown", "group", {k: v.predicted for k, v in groups.items()})
    yield _gauge("acted", "Rate of acts on what was shown", "group", {k: v.acted for k, v in groups.items()})
    yield _gauge("attribute_psi", "Population stability index of an attribute", "attribute", found.attributes)
    behaviour = {"lengths": found.lengths, "items": found.items}
    yield _gauge("behaviour_psi", "Population stability index of behaviour", "of", behaviour)
    norms = {
        "virtual": found.virtual_norm,
        "virtual_at_training": found.virtual_norm_at_training,
        "behaviour_at_training": found.behaviour_norm_at_training,
    }
    yield _gauge("norm", "Mean norm of stored virtual behaviour, and of both at training", "of", norms)


def _gauge(name: str, description: str, label: str, values: Mapping[str, float | None]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", description, labels=[label] if label else [])
    for key, value in values.items():
        if value is not None and math.isfinite(value):
            family.add_metric([key] if label else [], value)
    return family


def _counter(name: str, description: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", description, value=value)
