"""What `python -m benchmarks swap` prints: one JSON object, or tables."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.swap.benchmark import SHARES, SwapPlan, SwapResult
from benchmarks.swap.figures import figures, met


def to_json(plan: SwapPlan, result: SwapResult, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The whole result, fit for JSON."""
    found = figures(result.run)
    return {
        "machine": dict(facts),
        "settings": {**asdict(plan), "shares": dict(SHARES)},
        "goals": met(found),
        **found,
        "cores_used": {when: dict(used) for when, used in result.cores.items()},
    }


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Print the result as tables; `found` is what `to_json` returns."""
    requested, rates = found["settings"], found["rates"]
    console.print(
        f"{found['requests']:,} ranking requests; {rates['answered']} answered a second, "
        f"{requested['rank_rate']:g} requested; "
        f"{rates['signed_up']} sign-ups a second, {requested['sign_up_rate']:g} requested; {len(found['swaps'])} swaps"
    )
    console.print(_latencies(found))
    console.print(_swaps(found))
    console.print(_cores(found))
    compared = found["compared"]
    console.print(
        f"failed: {found['failed']}; of mixed generations: {found['mixed']}; {compared['wrong']} of "
        f"{compared['answers']} compared answers were not their generation's ({compared['would_tell']} would tell)"
    )
    console.print("served by: " + ", ".join(f"{count:,} {source}" for source, count in found["served_by"].items()))
    for problem, times in found["problems"].items():
        console.print(f"{times:,} times: {problem}")
    for incident in found["incidents"]:
        console.print(incident)
    for goal, reached in found["goals"].items():
        console.print(f"{'yes' if reached else 'NO':4} {goal}")


def _latencies(found: Mapping[str, Any]) -> Table:
    latency, sign_ups = found["latency_ms"], found["sign_ups"]["latency_ms"]
    table = Table("ms", "p50 before", "p99 before", "p50 during", "p99 during", "p99 during ÷ before")
    for name, each, ratio in (("ranking", latency, latency["p99_ratio"]), ("sign-up to readable", sign_ups, None)):
        values = (each[when][q] for when in ("before", "during") for q in ("p50", "p99"))
        table.add_row(name, *map(_text, values), _text(ratio))
    return table


def _swaps(found: Mapping[str, Any]) -> Table:
    phases = ("load", "fill", "move", "after")
    columns = {"seconds": "s", "p99_ms": "p99 ms", "sign_ups_p99_ms": "sign-ups p99 ms"}
    headings = [f"{phase} {heading}" for heading in columns.values() for phase in phases]
    table = Table("generation", *headings, "seen s")
    for swap in found["swaps"]:
        values = [_text(swap[phase][column]) for column in columns for phase in phases]
        table.add_row(str(swap["generation"]), *values, _text(swap["seen_within_seconds"]))
    return table


def _cores(found: Mapping[str, Any]) -> Table:
    used = found["cores_used"]
    table = Table("cores used", *used["during"])
    for when, parts in used.items():
        table.add_row(when, *(f"{parts.get(part, 0.0):.2f}" for part in used["during"]))
    return table


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
