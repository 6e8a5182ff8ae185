"""The report of a replay: a JSON file of figures and facts, a chart, and tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

from benchmarks.refresh.figures import LATER, ReplayFigure
from benchmarks.refresh.replay import ReplayPlan, ReplayResult
from benchmarks.refresh.scores import ALL, Protocol
from benchmarks.refresh.trainings import GenerationKind, refresh_costs
from models.evaluation.curves import STYLE, save
from models.study.protocols import NEW

MOST_OF_COLD = 1 / 3
"""Share of a cold start's time that a refresh may take."""
KINDS: Mapping[GenerationKind, tuple[str, str]] = {
    "frozen": ("generation 1, kept", "tab:gray"),
    "refreshed": ("refreshed every week", "tab:blue"),
    "cold": ("trained anew on all before", "darkorange"),
}
"""Label and colour of each kind in the chart."""
PANELS: Sequence[tuple[Protocol, str, str]] = (
    ("hidden", NEW, "new users, behaviour hidden"),
    ("first_steps", ALL, "new users' first steps"),
)


def to_json(
    replay: ReplayResult, rows: Sequence[ReplayFigure], plan: ReplayPlan, facts: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """The whole result, fit for JSON."""
    return {
        "command": command,
        "machine": dict(facts),
        "settings": {
            "negatives": plan.negatives,
            "rounds": plan.rounds,
            "seed": plan.seed,
            "resamples": plan.resamples,
            "refresh": _plain(asdict(plan.refresh)),
            "training": plan.training.to_dict(),
        },
        "goals": goals(replay, rows),
        "weeks": [
            {"week": log.week.number, "since": _day(log.week.since_ms), "until": _day(log.week.until_ms)}
            | {"rankings": log.rankings, "impressions": log.impressions, "new_users": log.new_users}
            for log in replay.logs
        ],
        "trainings": [asdict(each) for each in replay.trainings],
        "compared": [asdict(each) | {"ratio": each.ratio} for each in refresh_costs(replay.trainings)],
        "rows": [row.to_dict() for row in rows],
    }


def goals(replay: ReplayResult, rows: Sequence[ReplayFigure]) -> dict[str, bool]:
    """Whether fresh data helped new users significantly, and whether a refresh was fast enough and not worse for it."""
    pairs = {
        (row.week, row.protocol, row.group, row.generation, row.against): row for row in rows if row.metric == "gauc"
    }
    speeds = refresh_costs(replay.trainings)
    found = {
        f"{shown}: GAUC of refreshed generations above that of generation 1, interval excluding 0": (
            pairs[LATER, protocol, group, "refreshed", "frozen"].relative_low > 0
        )
        for protocol, group, shown in PANELS
    }
    if speeds:
        found["a refresh takes at most a third of a cold start's time"] = all(
            each.ratio <= MOST_OF_COLD for each in speeds
        )
        found["and is not significantly worse in new users' GAUC"] = all(
            pairs[each.week, protocol, group, "refreshed", "cold"].relative_high >= 0
            for each in speeds
            for protocol, group, _ in PANELS
        )
    return found


def write(found: Mapping[str, Any], path: Path) -> None:
    """Write the result as JSON, one line for each fact, week, training and figure."""
    lines = []
    for key, value in found.items():
        if isinstance(value, list):
            inner = ",\n".join(f"    {_line(each)}" for each in value)
            lines.append(f"  {json.dumps(key)}: [\n{inner}\n  ]" if value else f"  {json.dumps(key)}: []")
        else:
            lines.append(f"  {json.dumps(key)}: {_line(value)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def draw(rows: Sequence[ReplayFigure], path: Path) -> None:
    """Draw the GAUC of new users by week with intervals as SVG, one line for each kind of generation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        for place, (protocol, group, shown) in enumerate(PANELS):
            axes = figure.add_subplot(1, len(PANELS), place + 1)
            own = [row for row in rows if (row.protocol, row.group) == (protocol, group) and row.week != LATER]
            _by_week(axes, [row for row in own if row.metric == "gauc" and row.against is None])
            axes.set(title=shown, xlabel="week", ylabel="GAUC" if not place else None)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(KINDS))
        save(figure, path)


def _by_week(axes: Axes, rows: Sequence[ReplayFigure]) -> None:
    for place, (kind, (label, color)) in enumerate(KINDS.items()):
        own = [row for row in rows if row.generation == kind]
        if not own:
            continue
        weeks = np.array([row.week for row in own], dtype=np.float64) + 0.08 * (place - 1)
        values = np.array([row.value for row in own])
        reach = np.array([[row.value - row.low, row.high - row.value] for row in own]).T
        line = "" if kind == "cold" else "-"
        axes.errorbar(
            weeks, values, yerr=np.maximum(reach, 0), label=label, color=color, marker="o", markersize=4, capsize=2,
            linewidth=1.4, elinewidth=0.9, linestyle=line,
        )  # fmt: skip


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Print the result as tables; `found` is what `to_json` returns."""
    table = Table("week", "protocol", "group", "new users", "generation", "GAUC", "against", "better by, %")
    for row in found["rows"]:
        if row["metric"] == "gauc" and "against" in row and (row["week"] == LATER or row["group"] in {NEW, ALL}):
            interval = (f"{100 * row[name]:+.2f}" for name in ("relative", "relative_low", "relative_high"))
            better = "{} [{}, {}]".format(*interval)
            texts = (str(row["week"]), row["protocol"], row["group"], str(row["users"]), row["generation"])
            table.add_row(*texts, f"{row['value']:.4f}", row["against"], better)
    console.print(table)
    for each in found["compared"]:
        console.print(
            f"before week {each['week']}: a refresh {each['refresh_seconds']:.1f} s, "
            f"a cold start {each['cold_seconds']:.1f} s; "
            f"of the processor {each['refresh_processor_seconds']:.1f} s and {each['cold_processor_seconds']:.1f} s"
        )
    for goal, reached in found["goals"].items():
        console.print(f"{'yes' if reached else 'NO':4}{goal}")


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.name if isinstance(value, Path) else value for name, value in values.items()}


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="minutes")
