"""The figures of all rounds as one object, and as lines to read."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.enrich.benchmark import EnrichPlan, Measured


def figures(measured: Mapping[str, Measured], plan: EnrichPlan, broker: str, consumer: str) -> dict[str, Any]:
    """Medians of the rounds, the worker's without a prefix; under `rounds` each with its lowest and highest round."""
    worker, floor, peer = (measured[name] for name in ("worker", "floor", "peer"))
    per_second, at_least = median(worker.per_second), median(floor.per_second)
    naive = median(peer.per_second)
    return {
        "broker": broker,
        "consumer": consumer,
        "per_second": round(per_second),
        "floor_per_second": round(at_least),
        "peer_per_second": round(naive, 1),
        "ratio_to_floor": round(per_second / at_least, 3),
        "times_peer": round(per_second / naive, 1),
        "p50_ms": round(median(worker.p50_ms), 2),
        "p99_ms": round(median(worker.p99_ms), 2),
        "floor_p50_ms": round(median(floor.p50_ms), 2),
        "floor_p99_ms": round(median(floor.p99_ms), 2),
        "rate": plan.rate,
        "burst": plan.burst,
        "rounds": {name: _spread_of(each) for name, each in measured.items()},
        "processor_us": {
            name: {process: round(median(used), 1) for process, used in each.processor_us.items()}
            for name, each in measured.items()
        },
    }


def text_of(found: Mapping[str, Any]) -> str:
    """A line a figure."""
    return "\n".join(f"{name:20} {value}" for name, value in found.items())


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {
        "median": round(median(values), 2),
        "lowest": round(min(values), 2),
        "highest": round(max(values), 2),
    }


def _spread_of(measured: Measured) -> dict[str, dict[str, float]]:
    of_rounds = {"per_second": measured.per_second, "p50_ms": measured.p50_ms, "p99_ms": measured.p99_ms}
    return {name: spread(values) for name, values in of_rounds.items() if values}
