"""What `python -m benchmarks train` prints: one JSON object, or tables."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.timing import WARM_UP, Lap
from benchmarks.training.benchmark import ATTENTION, TrainingBenchmarkPlan, TrainingBenchmarkResult
from benchmarks.training.rounds import Contestant, Spread, added, per_processor_second, per_second, ratio, spread


def to_json(plan: TrainingBenchmarkPlan, result: TrainingBenchmarkResult, facts: dict[str, Any]) -> dict[str, Any]:
    """The whole result, fit for JSON; each figure once by the clock on the wall and once by processor time."""
    return {
        "machine": facts,
        "settings": {
            "rows": result.rows,
            "seconds": plan.seconds if math.isfinite(plan.seconds) else None,
            "rounds": plan.rounds,
            "threads": plan.threads,
            "precision": {"foretaste": result.precision, "peers": "float32"},
            "uncounted_batches": WARM_UP,
            "peers_attention": list(ATTENTION),
            "training": result.config.to_dict(),
        },
        "contestants": {each.name: _contestant(each, result.laps[each.name]) for each in result.contestants},
        "ratios": [
            {
                "foretaste": ours,
                "peer": theirs,
                "rows_per_second": asdict(ratio(result.laps, ours, theirs)),
                "rows_per_processor_second": asdict(ratio(result.laps, ours, theirs, per_processor_second)),
            }
            for ours, theirs in result.pairs
        ],
        "zero_shot_adds": asdict(added(result.laps, *result.zero_shot, result.every_row)),
    }


def _contestant(contestant: Contestant, laps: Sequence[Lap]) -> dict[str, Any]:
    return {
        "library": contestant.library,
        "version": version(contestant.library),
        "model": contestant.model,
        "rows_per_second": asdict(spread([per_second(lap) for lap in laps])),
        "rows_per_processor_second": asdict(spread([per_processor_second(lap) for lap in laps])),
        "rounds": [asdict(lap) for lap in laps],
    }


def show(console: Console, plan: TrainingBenchmarkPlan, result: TrainingBenchmarkResult, facts: dict[str, Any]) -> None:
    """Print the result as tables."""
    ends = f"; a run ends after {plan.seconds:g} s" if math.isfinite(plan.seconds) else ""
    console.print(
        f"{result.rows:,} rows an epoch, batches of {result.config.batch:,}, {plan.rounds} rounds interleaved{ends}\n"
        f"torch {facts['torch']}, Foretaste in {result.precision}, peers in float32, threads: {plan.threads}, "
        f"cores: {facts['cores_of_this_process']}\n"
        "in brackets the lowest and the highest round"
    )
    speeds = Table("contestant", "rows a second", "rows a second of processor time", "s before the first batch")
    for each in result.contestants:
        laps = result.laps[each.name]
        speeds.add_row(
            f"{each.library} {version(each.library)}, {each.model}",
            _text(spread([per_second(lap) for lap in laps]), ",.0f"),
            _text(spread([per_processor_second(lap) for lap in laps]), ",.0f"),
            f"{spread([lap.before_seconds for lap in laps]).median:.1f}",
        )
    console.print(speeds)
    if result.pairs:
        console.print(_ratios(result))
    adds = added(result.laps, *result.zero_shot, result.every_row)
    console.print(
        f"the zero-shot tower, its fit before the first batch included, adds {_text(adds, '.1%')} "
        f"to the ranking tower's epoch of {result.every_row:,} rows"
    )


def _ratios(result: TrainingBenchmarkResult) -> Table:
    ratios = Table("foretaste", "÷ peer", "rows a second", "rows a second of processor time")
    for ours, theirs in result.pairs:
        found = (ratio(result.laps, ours, theirs, rate) for rate in (per_second, per_processor_second))
        ratios.add_row(ours, theirs, *(_text(each, ".2f") for each in found))
    return ratios


def _text(found: Spread, form: str) -> str:
    return f"{found.median:{form}} ({found.low:{form}} to {found.high:{form}})"
