"""The figures of a study, as SVG: losses, real and virtual behaviour, and GAUC by how much was seen."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from models.evaluation.curves import STYLE, loss_curves, save
from models.study.fold import BY_STEPS
from models.study.page import file_name, slug
from models.study.protocols import SEEN
from models.study.rows import ResultRow
from models.study.study import Result
from models.study.vectors import Vectors

Points = npt.NDArray[np.float32]
PERPLEXITY = 30
MOST_TOWERS = 8
"""Lines of a figure that can still be told apart."""
PAPERS = "mail"
"""Whose losses and vectors the paper's own figures show."""


def draw(result: Result, folder: Path) -> list[tuple[str, str]]:
    """Write every figure that the study has the matter for; (file, what it shows) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    data = slug(result)
    drawn: list[tuple[str, str]] = []
    with mpl.rc_context(dict(STYLE)):
        by_steps = [name for name in BY_STEPS if name in result.protocols]
        if by_steps:
            file = f"gauc-by-seen-{data}.svg"
            rows = [row for row in result.rows if row.protocol == by_steps[0]]
            save(by_seen(rows, result.study.towers[:MOST_TOWERS]), folder / file)
            drawn.append((file, "GAUC of new users by behaviours seen, with 95 % intervals over users"))
        for tower, vectors in _shown(result):
            if vectors.losses.size:
                file = f"losses-{data}-{file_name(tower)}.svg"
                save(loss_curves(vectors.names, vectors.losses), folder / file)
                drawn.append((file, f"Training losses of {tower} by step, smoothed (the paper's Figure 4)"))
            if min(len(vectors.old_virtual), len(vectors.new_virtual)) > 1:
                file = f"tsne-{data}-{file_name(tower)}.svg"
                save(clouds(vectors), folder / file)
                drawn.append((file, f"t-SNE of real and virtual behaviour of {tower} (the paper's Figures 5 and 6)"))
    return drawn


def _shown(result: Result) -> list[tuple[str, Vectors]]:
    """The first tower that has vectors, and the paper's."""
    there = [(one.name, one.vectors) for one in result.contenders if one.vectors is not None]
    with_virtual = [pair for pair in there if len(pair[1].old_virtual)] or there
    return with_virtual[:1] + [pair for pair in with_virtual[1:] if pair[0] == PAPERS]


def clouds(vectors: Vectors) -> Figure:
    """Figure 5: real beside virtual behaviour, of old users and of new ones. Figure 6: old beside new users."""
    panels = (
        ("old users: behaviour", ("real v", vectors.old_real), ("virtual v̂", vectors.old_virtual)),
        ("new users: behaviour", ("real v", vectors.new_real), ("virtual v̂", vectors.new_virtual)),
        ("attributes hᵃ", ("old users", vectors.old_attributes), ("new users", vectors.new_attributes)),
        ("virtual behaviour v̂", ("old users", vectors.old_virtual), ("new users", vectors.new_virtual)),
    )
    figure = Figure(figsize=(9, 8), layout="constrained")
    for place, (title, one, other) in enumerate(panels):
        axes = figure.add_subplot(2, 2, place + 1)
        planes = embedded(one[1], other[1])
        for label, placed, color, marker in zip(
            (one[0], other[0]), planes, ("tab:purple", "darkorange"), ("o", "^"), strict=True
        ):
            axes.scatter(placed[:, 0], placed[:, 1], s=9, alpha=0.6, color=color, marker=marker, label=label, lw=0)
        axes.set(title=title, xticks=[], yticks=[])
        axes.legend(loc="best", markerscale=2)
    return figure


def embedded(one: Points, other: Points) -> tuple[Points, Points]:
    """Both groups of points (U, width) on one plane, (U, 2)."""
    together = np.concatenate([one, other]).astype(np.float64)
    perplexity = min(PERPLEXITY, (len(together) - 1) / 3)
    with threadpool_limits(1):  # its threads spin while they wait for each other
        plane = TSNE(n_components=2, perplexity=perplexity, init="random", random_state=0).fit_transform(together)
    return plane[: len(one)], plane[len(one) :]


def by_seen(rows: Sequence[ResultRow], towers: Sequence[str]) -> Figure:
    """GAUC of the first steps that `rows` tell of, a line a tower, with intervals."""
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.add_subplot()
    found = {(row.tower, row.group): row for row in rows if row.metric == "gauc" and row.against is None}
    for place, tower in enumerate(towers):
        own = [found[tower, group] for group in SEEN]
        shift = 0.06 * (place - (len(towers) - 1) / 2)
        values = np.array([row.value for row in own])
        reach = np.array([[row.value - row.low, row.high - row.value] for row in own]).T
        axes.errorbar(
            np.arange(len(SEEN)) + shift,
            values,
            yerr=np.maximum(reach, 0),
            marker="o",
            markersize=4,
            capsize=2,
            linewidth=1.4,
            elinewidth=0.9,
            label=tower,
        )
    axes.set(xticks=np.arange(len(SEEN)), xticklabels=list(SEEN), xlabel="behaviours seen", ylabel="GAUC")
    figure.legend(loc="outside right upper", fontsize=9)
    return figure
