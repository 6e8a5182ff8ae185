"""The rows of a replay: every figure with what it would have been for other draws of users."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.replay_judging import GROUPS, Answers, Asked, Protocol, together
from benchmarks.replay_training import Kind
from models.evaluation.bootstrap import Estimate, Resamples
from models.evaluation.scores import Metric, measure

DRAWS_SEED = 7
PAIRS: Sequence[tuple[Kind, Kind]] = (("refreshed", "frozen"), ("refreshed", "cold"), ("cold", "frozen"))
LATER = "from week 2"
"""All weeks together in which a refresh could have helped: before the first there was none."""
POOLED: Sequence[Protocol] = ("hidden", "first_steps")
"""Who is new is so in one week alone, so that each user's rows were ranked by one generation of a kind."""


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of a kind of generation in a week, or over weeks, with its 95 % interval over users.

    With `against`, how much better it is than that kind, relative to it, on the same draws of users.
    """

    week: int | str
    protocol: Protocol
    group: str
    generation: Kind = "frozen"
    metric: Metric = "gauc"
    users: int = 0
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    against: Kind | None = None
    relative: float = math.nan
    relative_low: float = math.nan
    relative_high: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it: null for nan; the four keys of a pair only where there is one."""
        values = asdict(self)
        if self.against is None:
            for name in ("against", "relative", "relative_low", "relative_high"):
                del values[name]
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def rows(weeks: Sequence[Answers], resamples: int) -> list[Row]:
    """Of each week, from the first, then of all from the second together: figures, and then pairs of generations."""
    found = [row for number, answers in enumerate(weeks, 1) for row in _of(number, answers, resamples)]
    later = {protocol: together([answers[protocol] for answers in weeks[1:]]) for protocol in POOLED}
    return [*found, *_of(LATER, later, resamples)]


def _of(week: int | str, answers: Answers, resamples: int) -> Iterator[Row]:
    for protocol, asked in answers.items():
        for group in GROUPS[protocol]:
            yield from _group(Row(week, protocol, group), asked, resamples)


def _group(row: Row, asked: Asked, resamples: int) -> Iterator[Row]:
    """Those of a group, each like `row` but for the generation and what follows."""
    own = asked.group(row.group)
    persons, labels = asked.persons[own], asked.labels[own]
    draws = Resamples.drawn(persons, resamples, DRAWS_SEED)
    found = {kind: measure(persons, labels, scores[own], draws) for kind, scores in asked.scores.items()}
    row = replace(row, users=len(np.unique(persons)))
    for kind, figures in found.items():
        yield from (_figure(row, kind, metric, estimate) for metric, estimate in figures.items())
    for kind, against in PAIRS:
        if kind in found and against in found:
            yield from _pair(row, kind, against, found)


def _figure(row: Row, kind: Kind, metric: Metric, estimate: Estimate) -> Row:
    low, high = estimate.interval
    return replace(row, generation=kind, metric=metric, value=estimate.value, low=low, high=high)


def _pair(row: Row, kind: Kind, against: Kind, found: Mapping[Kind, Mapping[Metric, Estimate]]) -> Iterator[Row]:
    for metric, estimate in found[kind].items():
        relative = estimate.relative_to(found[against][metric])
        low, high = relative.interval
        yield replace(
            _figure(row, kind, metric, estimate),
            against=against,
            relative=relative.value,
            relative_low=low,
            relative_high=high,
        )
