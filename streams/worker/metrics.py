"""What the ways count and time, as Prometheus metrics in a registry that is passed in."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.worker.records.tolerant import SkippedCounter

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

CLOCK_DIFFERENCE_MS = 1000
"""By which the clocks of well-kept machines differ, at most: less is no fault that anybody wants to be told."""


class DurableSeconds(Collector):
    """A histogram of seconds by way that takes a whole batch at once; the library's own takes a lock for each event."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        """By way, of the seconds up to each bound and above the one before."""
        self._sums: dict[str, float] = {}

    def observe(self, way: str, seconds: Sequence[float]) -> None:
        """Count the events of a batch."""
        counts = self._counts.setdefault(way, [0] * (len(SECONDS) + 1))
        for each in seconds:
            counts[bisect_left(SECONDS, each)] += 1
        self._sums[way] = self._sums.get(way, 0.0) + sum(seconds)

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for way, counts in list(self._counts.items()):  # another thread may count meanwhile
            bounds = [*map(str, SECONDS), "+Inf"]
            family.add_metric([way], list(zip(bounds, accumulate(counts), strict=True)), self._sums.get(way, 0.0))
        yield family

    @staticmethod
    def _family() -> HistogramMetricFamily:
        text = "Seconds from an event's Kafka timestamp until all its effects were durable"
        return HistogramMetricFamily("foretaste_event_durable_seconds", text, labels=["way"])


class Metrics:
    """The metrics of one process of the streams. `way` is the name of a collector, `sign-up` or `watch-ranked` say."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        registry.register(SkippedCounter())
        self.sign_ups = Counter(
            "foretaste_sign_ups",
            "Users of the sign-up way whose features are durable, by what was known of them",
            ["state"],
            registry=registry,
        )
        self.enriched = Counter(
            "foretaste_enriched", "Virtual behaviours that are durable and announced", registry=registry
        )
        self.filled = Counter(
            "foretaste_filled",
            "Sign-ups with durable virtual behaviour of the filling generation too",
            registry=registry,
        )
        self.unfilled = Counter(
            "foretaste_unfilled",
            "Sign-ups that re-enrichment is to fill: the filling generation's tower failed, or was not finite",
            ["reason"],
            registry=registry,
        )
        self.reenriched = Counter(
            "foretaste_reenriched",
            "Users of re-enrichment, by what came of it: made, refused, not_needed, unknown, non_finite or dropped",
            ["outcome"],
            registry=registry,
        )
        self.behaviours = Counter(
            "foretaste_behaviours", "Behaviours taken, those already known included", registry=registry
        )
        self.clock_ahead = Counter(
            "foretaste_clock_ahead",
            "Events that claim a time after Kafka had them, taken as of when Kafka did",
            ["way"],
            registry=registry,
        )
        self.unknown_attributes = Counter(
            "foretaste_unknown_attributes",
            "Attributes of sign-ups that the active generation does not know, by name; the first 50 names, then other",
            ["attribute"],
            registry=registry,
        )
        self.unknown_values = Counter(
            "foretaste_unknown_attribute_values",
            "Values of sign-ups that the active generation never saw, by attribute: they count as missing",
            ["attribute"],
            registry=registry,
        )
        self.dropped = Counter(
            "foretaste_events_dropped",
            "Events without effect that are no dead letters: not_newer, repeated, too_old, or refused by the watch",
            ["way", "reason"],
            registry=registry,
        )
        self.items = Counter("foretaste_items", "Registrations of items that are durable", registry=registry)
        self.erasures = Counter(
            "foretaste_erasures",
            "Users erased from the online store, or registered anew since",
            ["outcome"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "foretaste_dead_letters", "Events that cannot be processed", ["reason"], registry=registry
        )
        self.lost_tails = Counter(
            "foretaste_store_lost_tails",
            "Times that the store was found to have lost acknowledged writes: its newest (tail), all, or all while no "
            "worker ran (unseen)",
            ["kind"],
            registry=registry,
        )
        self.retries = Counter(
            "foretaste_retries", "Batches tried again because a part was away", ["way"], registry=registry
        )
        self.batch_size = Histogram(
            "foretaste_batch_size", "Events in a batch", ["way"], buckets=SIZES, registry=registry
        )
        self.durable_seconds = DurableSeconds()
        registry.register(self.durable_seconds)

    def count_ahead(self, way: str, claimed_ms: int | None, at_ms: int) -> None:
        """Counts an event whose sender claims a later time than it is taken as of, by more than clocks differ."""
        if claimed_ms is not None and claimed_ms - at_ms > CLOCK_DIFFERENCE_MS:
            self.clock_ahead.labels(way).inc()
