"""What a benchmark prints: one JSON object, or tables."""

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contest import Contestant, Spread, added, per_processor_second, per_second, ratio, spread
from benchmarks.stopwatch import WARM_UP, Lap
from benchmarks.training import ATTENTION, Outcome, Plan


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_of_this_process": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_now": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": "cpu",
    }


def to_json(plan: Plan, outcome: Outcome, facts: dict[str, Any]) -> dict[str, Any]:
    """All of it, plain; each figure once by the clock on the wall and once by processor time."""
    return {
        "machine": facts,
        "settings": {
            "rows": outcome.rows,
            "seconds": plan.seconds if math.isfinite(plan.seconds) else None,
            "rounds": plan.rounds,
            "threads": plan.threads,
            "precision": {"foretaste": outcome.precision, "peers": "float32"},
            "uncounted_batches": WARM_UP,
            "peers_attention": list(ATTENTION),
            "training": outcome.config.to_dict(),
        },
        "contestants": {each.name: _contestant(each, outcome.laps[each.name]) for each in outcome.contestants},
        "ratios": [
            {
                "foretaste": ours,
                "peer": theirs,
                "rows_per_second": asdict(ratio(outcome.laps, ours, theirs)),
                "rows_per_processor_second": asdict(ratio(outcome.laps, ours, theirs, per_processor_second)),
            }
            for ours, theirs in outcome.pairs
        ],
        "zero_shot_adds": asdict(added(outcome.laps, *outcome.zero_shot, outcome.every_row)),
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


def show(console: Console, plan: Plan, outcome: Outcome, facts: dict[str, Any]) -> None:
    """The same for reading."""
    ends = f"; a run ends after {plan.seconds:g} s" if math.isfinite(plan.seconds) else ""
    console.print(
        f"{outcome.rows:,} rows an epoch, batches of {outcome.config.batch:,}, {plan.rounds} rounds interleaved{ends}\n"
        f"torch {facts['torch']}, Foretaste in {outcome.precision}, peers in float32, threads: {plan.threads}, "
        f"cores: {facts['cores_of_this_process']}\n"
        "in brackets the lowest and the highest round"
    )
    speeds = Table("contestant", "rows a second", "rows a second of processor time", "s before the first batch")
    for each in outcome.contestants:
        laps = outcome.laps[each.name]
        speeds.add_row(
            f"{each.library} {version(each.library)}, {each.model}",
            _text(spread([per_second(lap) for lap in laps]), ",.0f"),
            _text(spread([per_processor_second(lap) for lap in laps]), ",.0f"),
            f"{spread([lap.before_seconds for lap in laps]).median:.1f}",
        )
    console.print(speeds)
    if outcome.pairs:
        console.print(_ratios(outcome))
    adds = added(outcome.laps, *outcome.zero_shot, outcome.every_row)
    console.print(
        f"the zero-shot tower, its fit before the first batch included, adds {_text(adds, '.1%')} "
        f"to the ranking tower's epoch of {outcome.every_row:,} rows"
    )


def _ratios(outcome: Outcome) -> Table:
    ratios = Table("foretaste", "÷ peer", "rows a second", "rows a second of processor time")
    for ours, theirs in outcome.pairs:
        found = (ratio(outcome.laps, ours, theirs, rate) for rate in (per_second, per_processor_second))
        ratios.add_row(ours, theirs, *(_text(each, ".2f") for each in found))
    return ratios


def _text(found: Spread, form: str) -> str:
    return f"{found.median:{form}} ({found.low:{form}} to {found.high:{form}})"


def _processor() -> str:
    """As the system names it; empty where it does not."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  # a kernel's file
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
