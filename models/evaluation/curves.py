"""The losses of a training by step, drawn as SVG: the paper's Figure 4."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Floats = npt.NDArray[np.float32]
LOSSES = {"attributes": "L_a", "behaviour": "L_v", "discrepancy": "L_d", "ranking": "L_rt"}
"""The losses by their names in a `Step`, and by the paper's."""
SMOOTHING = 0.05
"""Of the steps of a training, in each of the means that a loss curve shows."""
STYLE: "Mapping[Any, Any]" = {
    "svg.hashsalt": "foretaste",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
}


def draw_losses(losses: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write the curves of a run's `losses`, those of each step by name; nothing where there are none."""
    if not losses:
        return
    with mpl.rc_context(dict(STYLE)):
        save(loss_curves(*by_step(losses)), path)


def by_step(losses: Sequence[Mapping[str, float]]) -> tuple[list[str], Floats]:
    """The P names that occur, and the losses of T steps (T, P); nan where a step had none."""
    names = sorted({name for step in losses for name in step})
    table = np.array([[step.get(name, np.nan) for name in names] for step in losses], dtype=np.float32)
    return names, table.reshape(len(losses), len(names))


def loss_curves(names: Sequence[str] | npt.NDArray[np.str_], losses: Floats) -> Figure:
    """A panel for each of the P `names`: each step of `losses` (T, P) faint, the mean of its neighbours over it."""
    columns = min(len(names), 2)
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.5 * columns, 2.8 * lines), layout="constrained")
    for place, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, place + 1)
        steps = np.flatnonzero(~np.isnan(losses[:, place]))
        values = losses[steps, place]
        axes.plot(steps + 1, values, color="tab:blue", alpha=0.25, linewidth=0.8)
        axes.plot(steps + 1, smoothed(values), color="tab:blue")
        axes.set(title=LOSSES.get(str(name), str(name)), xlabel="step", ylabel="loss")
        if values.size and values.min() > 0 and values.max() / values.min() > 50:  # noqa: PLR2004  # flat otherwise
            axes.set_yscale("log")
    return figure


def smoothed(values: Floats) -> Floats:
    """(T,) the mean of each value and its neighbours; fewer of them at the ends."""
    half = max(round(SMOOTHING * len(values) / 2), 1)
    sums = np.r_[0.0, np.cumsum(values, dtype=np.float64)]
    ends = np.minimum(np.arange(len(values)) + half + 1, len(values))
    begins = np.maximum(np.arange(len(values)) - half, 0)
    means: Floats = ((sums[ends] - sums[begins]) / (ends - begins)).astype(np.float32)
    return means


def save(figure: Figure, path: Path) -> None:
    """Without a date: the same figure is the same file."""
    figure.savefig(path, format="svg", metadata={"Date": None})
