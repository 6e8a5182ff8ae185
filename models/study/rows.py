"""The rows of `docs/results/towers-<data>.json`."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from models.evaluation.bootstrap import Estimate, mean
from models.evaluation.scores import Metric
from models.study.fold import PROTOCOLS, ProtocolName
from models.study.scoring import ALL, FitOutcome, Key

_Named: TypeAlias = tuple[ProtocolName, str, str, Metric]
"""Protocol, tower or probe, group, metric."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A figure of a tower, the mean over its seeds, with its 95 % interval over users.

    With `against`, how much better it is than that tower, relative to it (the paper's RI), on the same draws.
    """

    protocol: ProtocolName
    tower: str
    group: str
    metric: str
    value: float
    low: float
    high: float
    against: str | None = None
    relative: float = math.nan
    relative_low: float = math.nan
    relative_high: float = math.nan

    def to_dict(self) -> dict[str, str | float | None]:
        """The row as JSON keeps it: null for nan; the four keys of a pair only where there is one."""
        keys = ["protocol", "tower", "group", "metric", "value", "low", "high"]
        keys += ["against", "relative", "relative_low", "relative_high"] if self.against is not None else []
        values = {key: getattr(self, key) for key in keys}
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def name(tower: str, variant: str) -> str:
    """The name of a tower, or of one of its probes."""
    return f"{tower} ({variant})" if variant else tower


def rows(outcomes: Sequence[FitOutcome], pairs: Iterable[tuple[str, str]]) -> list[ResultRow]:
    """Every figure, then every pair (a tower, the one it is held against) and each probe against its own tower.

    In the order of the protocols, the towers as they came, the groups as the protocol has them.
    """
    figures = over_seeds(outcomes)
    probes = [(name(tower, variant), tower) for tower, (_, variant, *_) in figures if variant]
    named = {(key[0], name(tower, key[1]), *key[2:]): figure for (tower, key), figure in figures.items()}
    found = [_row(key, figure) for key, figure in named.items()]
    for tower, against in dict.fromkeys([*pairs, *probes]):
        for key, figure in named.items():
            base = named.get((key[0], against, *key[2:]))
            if key[1] == tower and base is not None:
                found.append(_row(key, figure, against, figure.relative_to(base)))
    return sorted(found, key=lambda row: (row.against is not None, PROTOCOLS.index(row.protocol)))


def over_seeds(outcomes: Sequence[FitOutcome]) -> dict[tuple[str, Key], Estimate]:
    """The mean over the seeds, of each tower and figure; that of all first steps together is left out."""
    gathered: dict[tuple[str, Key], list[Estimate]] = {}
    for outcome in outcomes:
        for key, estimate in outcome.estimates.items():
            if key[2] != ALL:
                gathered.setdefault((outcome.tower, key), []).append(estimate)
    return {key: mean(estimates) for key, estimates in gathered.items()}


def write(rows: Sequence[ResultRow], path: Path) -> None:
    """Write the rows as a JSON list, a row a line."""
    lines = ",\n".join(json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _row(key: _Named, figure: Estimate, against: str | None = None, relative: Estimate | None = None) -> ResultRow:
    protocol, tower, group, metric = key
    row = ResultRow(protocol, tower, group, metric, figure.value, *figure.interval)
    if relative is None:
        return row
    low, high = relative.interval
    return replace(row, against=against, relative=relative.value, relative_low=low, relative_high=high)
