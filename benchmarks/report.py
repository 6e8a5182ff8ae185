"""What a benchmark prints: one JSON object, or tables."""

import math
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contest import Spread, spread
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
        "precision": "float32",
    }


def to_json(plan: Plan, outcome: Outcome, facts: dict[str, Any]) -> dict[str, Any]:
    """All of it, plain."""
    config = outcome.config
    return {
        "machine": facts,
        "settings": {
            "rows": outcome.rows,
            "seconds": plan.seconds if math.isfinite(plan.seconds) else None,
            "rounds": plan.rounds,
            "threads": plan.threads,
            "uncounted_batches": WARM_UP,
            "peers_attention": list(ATTENTION),
            "training": config.to_dict(),
        },
        "contestants": {
            each.name: {
                "library": each.library,
                "version": version(each.library),
                "model": each.model,
                "rows_per_second": asdict(rate(outcome.laps[each.name])),
                "rounds": [asdict(lap) for lap in outcome.laps[each.name]],
            }
            for each in outcome.contestants
        },
        "ratios": [
            {"foretaste": ours, "peer": theirs, **asdict(found)} for (ours, theirs), found in outcome.ratios.items()
        ],
        "zero_shot_adds": asdict(outcome.zero_shot_adds),
    }


def rate(laps: list[Lap]) -> Spread:
    """Rows a second over the rounds."""
    return spread([lap.rows_per_second for lap in laps])


def show(console: Console, plan: Plan, outcome: Outcome, facts: dict[str, Any]) -> None:
    """The same for reading."""
    config, ends = outcome.config, f"; a run ends after {plan.seconds:g} s" if math.isfinite(plan.seconds) else ""
    console.print(
        f"{outcome.rows:,} rows an epoch, batches of {config.batch:,}, {plan.rounds} rounds interleaved{ends}"
    )
    console.print(
        f"torch {facts['torch']}, {facts['precision']}, {plan.threads} threads on {facts['cores_of_this_process']} "
        "cores; in brackets the lowest and the highest round"
    )
    speeds = Table("contestant", "rows a second", "cores used", "s before the first batch")
    for each in outcome.contestants:
        laps = outcome.laps[each.name]
        found = rate(laps)
        cores = spread([lap.processor_seconds / lap.seconds for lap in laps])
        before = spread([lap.before_seconds for lap in laps])
        name = f"{each.library} {version(each.library)}, {each.model}"
        speeds.add_row(name, _text(found, ",.0f"), f"{cores.median:.2f}", f"{before.median:.1f}")
    console.print(speeds)
    if outcome.ratios:
        ratios = Table("foretaste", "÷ peer", "times as many rows a second")
        for (ours, theirs), ratio in outcome.ratios.items():
            ratios.add_row(ours, theirs, _text(ratio, ".2f"))
        console.print(ratios)
    console.print(f"the zero-shot tower adds {_text(outcome.zero_shot_adds, '.1%')} to the ranking tower's epoch")


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
