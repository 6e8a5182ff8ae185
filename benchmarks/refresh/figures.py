"""The figures of a replay, each with a bootstrap interval over users."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.refresh.scores import GROUPS, Protocol, ProtocolScores, WeekScores, concatenated
from benchmarks.refresh.trainings import GenerationKind
from models.evaluation.bootstrap import Estimate, Resamples
from models.evaluation.scores import Metric, measure

DRAWS_SEED = 7
PAIRS: Sequence[tuple[GenerationKind, GenerationKind]] = (
    ("refreshed", "frozen"),
    ("refreshed", "cold"),
    ("cold", "frozen"),
)
LATER = "from week 2"
"""The name of all weeks together but the first, in which no generation has been refreshed yet."""
POOLED: Sequence[Protocol] = ("hidden", "first_steps")
"""Protocols pooled over weeks: a user is new in one week alone, so one generation of a kind scored all their rows."""


@dataclass(frozen=True, slots=True)
class ReplayFigure:
    """A figure of a kind of generation in a week, or over weeks, with its 95 % interval over users.

    With `against`, `relative` is the difference from that kind, relative to it, on the same draws of users.
    """

    week: int | str
    protocol: Protocol
    group: str
    generation: GenerationKind = "frozen"
    metric: Metric = "gauc"
    users: int = 0
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    against: GenerationKind | None = None
    relative: float = math.nan
    relative_low: float = math.nan
    relative_high: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON: null for nan; the four keys of a comparison only where there is one."""
        values = asdict(self)
        if self.against is None:
            for name in ("against", "relative", "relative_low", "relative_high"):
                del values[name]
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def replay_figures(weeks: Sequence[WeekScores], resamples: int) -> list[ReplayFigure]:
    """The figures of each week, then those of all weeks from the second together; after each, the comparisons."""
    found = [row for number, week_scores in enumerate(weeks, 1) for row in _of(number, week_scores, resamples)]
    later = {protocol: concatenated([week_scores[protocol] for week_scores in weeks[1:]]) for protocol in POOLED}
    return [*found, *_of(LATER, later, resamples)]


def _of(week: int | str, week_scores: WeekScores, resamples: int) -> Iterator[ReplayFigure]:
    for protocol, scores in week_scores.items():
        for group in GROUPS[protocol]:
            yield from _group(ReplayFigure(week, protocol, group), scores, resamples)


def _group(row: ReplayFigure, scores: ProtocolScores, resamples: int) -> Iterator[ReplayFigure]:
    """The figures of a group, each a copy of `row` with its generation, metric and values."""
    own = scores.group(row.group)
    persons, labels = scores.persons[own], scores.labels[own]
    draws = Resamples.drawn(persons, resamples, DRAWS_SEED)
    found = {kind: measure(persons, labels, own_scores[own], draws) for kind, own_scores in scores.scores.items()}
    row = replace(row, users=len(np.unique(persons)))
    for kind, figures in found.items():
        yield from (_figure(row, kind, metric, estimate) for metric, estimate in figures.items())
    for kind, against in PAIRS:
        if kind in found and against in found:
            yield from _pair(row, kind, against, found)


def _figure(row: ReplayFigure, kind: GenerationKind, metric: Metric, estimate: Estimate) -> ReplayFigure:
    low, high = estimate.interval
    return replace(row, generation=kind, metric=metric, value=estimate.value, low=low, high=high)


def _pair(
    row: ReplayFigure,
    kind: GenerationKind,
    against: GenerationKind,
    found: Mapping[GenerationKind, Mapping[Metric, Estimate]],
) -> Iterator[ReplayFigure]:
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
