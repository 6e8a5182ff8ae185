"""What the ranking service counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.requests import RankResponse

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class RankingMetrics:
    """Answers by what served them and by fallback, the seconds they took, and what of it could not be kept."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("served_by", "fallback")
        self._answers = Counter("foretaste_rank_answers", "Ranked lists given", labels, registry=registry)
        self._seconds = Histogram(
            "foretaste_rank_seconds", "Time to rank", ("served_by",), registry=registry, buckets=_BUCKETS
        )
        self._lost_repairs = Counter(
            "foretaste_rank_repairs_lost", "Read repairs used but not written back", registry=registry
        )
        self._registered_ahead = Counter(
            "foretaste_rank_registered_ahead",
            "Rankings of users whose registration lies ahead of the clock: their account's age was read as unknown",
            registry=registry,
        )
        self._impressions = Counter(
            "foretaste_rank_impressions", "Rankings that were shown and are durable for training", registry=registry
        )
        self._lost_impressions = Counter(
            "foretaste_rank_impressions_lost",
            "Rankings that were shown and that training will not see",
            registry=registry,
        )
        self._failed_impressions = Gauge(
            "foretaste_rank_impressions_failed",
            "1 from when a defect ended the task that sends impressions until a later batch is durable",
            registry=registry,
        )

    def answered(self, response: RankResponse, seconds: float) -> None:
        fallback = "none" if response.fallback is None else response.fallback.value
        self._answers.labels(response.served_by.value, fallback).inc()
        self._seconds.labels(response.served_by.value).observe(seconds)

    def repairs_lost(self, count: int) -> None:
        self._lost_repairs.inc(count)

    def registered_ahead(self, count: int) -> None:
        if count:
            self._registered_ahead.inc(count)

    def impressions_kept(self, count: int) -> None:
        self._impressions.inc(count)

    def impressions_lost(self, count: int) -> None:
        self._lost_impressions.inc(count)

    def impressions_failed(self, *, failed: bool) -> None:
        self._failed_impressions.set(failed)
