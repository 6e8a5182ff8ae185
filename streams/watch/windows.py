"""What is served while one generation is active, in running windows. Pure: events and times come as arguments."""

from collections import deque
from dataclasses import astuple, dataclass, field, replace
from typing import Literal, TypeAlias, get_args

from pydantic import BaseModel

from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.generations import Generation
from streams.watch.drift import Baseline, Drift, Rolling
from streams.watch.outcomes import Followed, Outcome
from streams.watch.rollback import Tally, tally_of

Group: TypeAlias = Literal["cold", "warming", "warm"]
GROUPS: tuple[Group, ...] = get_args(Group)
_IMPRESSIONS, _PREDICTED, _ACTED = range(3)


@dataclass(frozen=True, slots=True)
class Windows:
    """What is remembered, and for how long. Times are in seconds."""

    seconds: float = 3600.0
    """Of every running figure."""
    buckets: int = 12
    """In which they are forgotten."""
    outcome: float = 1800.0
    """From an impression until it counts as not acted on."""
    followed: int = 50_000
    """Impressions whose outcome is waited for, at most: a sample where there are more."""
    sampled: int = 256
    """Newest cold and warming users whose stored virtual behaviour is looked at."""
    asked: int = 16
    """Newest rankings that went wrong, kept to be asked again."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The move of the pointer that made a generation active."""

    at: float
    """Seconds since the epoch."""
    came_from: int | None
    filled: bool
    """Whether every cold or warming user had been re-enriched for it."""


class GroupFigures(BaseModel):
    """A group's share of the rankings; of its impressions whose time is over, the mean score and the rate of acts."""

    share: float | None
    impressions: int
    predicted: float | None
    acted: float | None
    predicted_at_training: float | None
    acted_at_training: float | None


class Figures(BaseModel):
    """All figures of a regime at one instant; None for what is not known."""

    generation: int
    rankings: int
    failures: float | None
    non_finite: float | None
    coverage: float | None
    groups: dict[Group, GroupFigures]
    attributes: dict[str, float | None]
    """PSI of each."""
    lengths: float | None
    """PSI of the number of behaviours seen."""
    items: float | None
    """PSI of the items acted on."""
    virtual_norm: float | None
    virtual_norm_at_training: float | None
    behaviour_norm_at_training: float | None


@dataclass(eq=False)
class Regime:
    """The rankings of one active generation, and the acts meanwhile. Memory is bounded, whatever comes."""

    generation: Generation
    baseline: Baseline | None
    moved: Moved | None
    """None where it is not known how the generation became active."""
    windows: Windows
    before: Tally = field(default_factory=Tally)
    """Of the generation before, until the move."""
    settled: bool = False
    """Whether to go back was decided once and for all."""
    virtual_norm: float | None = None
    """Of a sample of what is stored for cold and warming users."""

    def __post_init__(self) -> None:
        seconds, buckets = self.windows.seconds, self.windows.buckets
        self._tallies = Rolling(len(astuple(Tally())), seconds, buckets)
        self._groups = Rolling(len(GROUPS), seconds, buckets)
        self._outcomes = Rolling(3 * len(GROUPS), seconds, buckets)
        self._followed = Followed(self.windows.outcome, self.windows.followed)
        self.newest: deque[str] = deque(maxlen=self.windows.sampled)
        self.failed: deque[UserRanked] = deque(maxlen=self.windows.asked)
        self.uncovered: deque[UserRanked] = deque(maxlen=self.windows.asked)
        self._attributes: dict[str, Drift] = {}
        self._lengths: Drift | None = None
        self._items: Drift | None = None
        if self.baseline is not None:
            known = self.baseline.attributes
            self._attributes = {name: Drift.of(each, seconds, buckets) for name, each in known.items()}
            self._lengths = Drift.of(self.baseline.lengths, seconds, buckets)
            self._items = Drift.of(self.baseline.items, seconds, buckets)

    def tally(self, now: float) -> Tally:
        """Of the generation, within the window."""
        return Tally(*self._tallies.total(now).tolist())

    @property
    def filled(self) -> bool:
        """Whether its users had been re-enriched when it took over."""
        return self.moved is not None and self.moved.filled

    def guarded(self, now: float, seconds: float) -> bool:
        """Whether a newer generation took over within the last `seconds`: a move back is not undone."""
        if self.moved is None or self.moved.came_from is None or self.settled:
            return False
        return self.generation.number > self.moved.came_from and now - self.moved.at <= seconds

    def ranked(self, event: UserRanked, at: float) -> None:
        """Count a ranking as of the time `at`.

        An answer by popularity names no generation and belongs to the one that was active at its time. What another
        generation served after the move was on its way, and is left out.
        """
        warm_after = event.warm_after or self.generation.warm_after
        tally = tally_of(event, warm_after)
        early = self.moved is not None and at < self.moved.at
        if event.ranking_generation != self.generation.number and (early or event.ranking_generation is not None):
            if early and self.moved is not None and event.ranking_generation in {None, self.moved.came_from}:
                self.before += tally
            return
        for place, amount in enumerate(astuple(tally)):
            if amount:
                self._tallies.add(at, place, amount)
        if tally.failures:
            self.failed.append(event)
        if tally.new > tally.covered:
            self.uncovered.append(event)
        self._describe(event, at, warm_after)

    def acted(self, event: UserBehaved, at: float) -> None:
        """Take an act as of the time `at`."""
        self._followed.acted(event.user_id, event.item_id, at)
        if self._items is not None:
            self._items.add(at, event.item_id)

    def settle(self, now: float) -> None:
        """Count the impressions whose time is over."""
        for outcome in self._followed.settled(now):
            self._count(outcome)

    def figures(self, now: float) -> Figures:
        """All of it, at `now`."""
        tally, groups = self.tally(now), self._groups.total(now)
        found, known = self._outcomes.total(now).reshape(len(GROUPS), 3), self.baseline
        return Figures(
            generation=self.generation.number,
            rankings=int(tally.rankings),
            failures=tally.failure_share,
            non_finite=tally.non_finite_share,
            coverage=tally.coverage,
            groups={
                name: _group(
                    float(groups[place] / groups.sum()) if groups.any() else None, found[place].tolist(), known, name
                )
                for place, name in enumerate(GROUPS)
            },
            attributes=self._psi(now),
            lengths=self._lengths and self._lengths.psi(now),
            items=self._items and self._items.psi(now),
            virtual_norm=self.virtual_norm,
            virtual_norm_at_training=known and known.virtual_norm,
            behaviour_norm_at_training=known and known.behaviour_norm,
        )

    def _describe(self, event: UserRanked, at: float, warm_after: int) -> None:
        seen = len(event.behaviour_items)
        group = (seen > 0) + (seen >= warm_after)
        self._groups.add(at, group)
        attributes = event.attributes or {}
        for name, drift in self._attributes.items():
            drift.add(at, attributes.get(name))
        if self._lengths is not None:
            self._lengths.add(at, seen)
        if seen < warm_after and event.attributes is not None:
            self.newest.append(event.user_id)
        if event.ranking_generation is not None:
            for outcome in self._followed.shown(event.user_id, event.items, event.scores, group, at):
                self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        """Of those shown lately; the window runs over the times of the impressions."""
        first = 3 * outcome.group
        self._outcomes.add(outcome.at, first + _IMPRESSIONS)
        self._outcomes.add(outcome.at, first + _PREDICTED, outcome.score)
        self._outcomes.add(outcome.at, first + _ACTED, outcome.acted)

    def _psi(self, now: float) -> dict[str, float | None]:
        return {name: drift.psi(now) for name, drift in self._attributes.items()}


def succeed(earlier: Regime | None, later: Regime, now: float) -> Regime:
    """`later` with what was counted of the generation that it came from, where `earlier` is that one's."""
    if earlier is None or later.moved is None or earlier.generation.number != later.moved.came_from:
        return later
    return replace(later, before=earlier.tally(now))


def _group(share: float | None, sums: list[float], known: Baseline | None, name: Group) -> GroupFigures:
    impressions, predicted, acted = sums
    at_training = None if known is None else known.calibration.get(name)
    return GroupFigures(
        share=share,
        impressions=int(impressions),
        predicted=predicted / impressions if impressions else None,
        acted=acted / impressions if impressions else None,
        predicted_at_training=at_training and at_training.predicted,
        acted_at_training=at_training and at_training.observed,
    )
