"""What is served while one generation is active, in running windows. Pure: events and times come as arguments."""

from collections import deque
from dataclasses import astuple, dataclass, field, replace

from pydantic import BaseModel

from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.generations import Generation
from foretaste.kernel.profile import Profile, Shares
from foretaste.kernel.users import STAGES, Stage, stage_of
from streams.watch.drift import Drift, Rolling
from streams.watch.outcomes import ImpressionOutcome, OpenImpressions
from streams.watch.rollback import RankingCounts, counts_of

_IMPRESSIONS, _PREDICTED, _ACTED = range(3)


WINDOW_SECONDS = 3600.0
"""Of every running figure."""
BUCKETS = 12
"""In which a window is forgotten."""
OPEN_IMPRESSIONS = 50_000
"""Impressions whose outcome is waited for, at most: a sample where there are more."""
SAMPLED_USERS = 256
"""Newest cold and warming users whose stored virtual behaviour is looked at."""
REPLAYED = 16
"""Newest rankings that went wrong, kept to be replayed."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """The move of the pointer that made a generation active."""

    at: float
    """Seconds since the epoch."""
    came_from: int | None
    filled: bool
    """Whether every cold or warming user had been re-enriched for it."""


class StageFigures(BaseModel):
    """A stage's share of the rankings; of its impressions whose time is over, the mean score and the rate of acts."""

    share: float | None
    impressions: int
    predicted: float | None
    acted: float | None
    predicted_at_training: float | None
    acted_at_training: float | None


class Figures(BaseModel):
    """All figures of a monitor window at one instant; None for what is not known."""

    generation: int
    rankings: int
    failures: float | None
    non_finite: float | None
    coverage: float | None
    groups: dict[Stage, StageFigures]
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
class MonitorWindow:
    """The rankings while one generation is active, and the acts meanwhile. Memory is bounded, whatever comes."""

    generation: Generation
    profile: Profile | None
    takeover: Takeover | None
    """None where it is not known how the generation became active."""
    outcome_seconds: float
    """From an impression until it counts as not acted on."""
    before: RankingCounts = field(default_factory=RankingCounts)
    """Of the generation before, until the move."""
    decided: bool = False
    """Whether to roll back was decided once and for all."""
    virtual_norm: float | None = None
    """Of a sample of what is stored for cold and warming users."""

    def __post_init__(self) -> None:
        self._counts = Rolling(len(astuple(RankingCounts())), WINDOW_SECONDS, BUCKETS)
        self._stages = Rolling(len(STAGES), WINDOW_SECONDS, BUCKETS)
        self._outcomes = Rolling(3 * len(STAGES), WINDOW_SECONDS, BUCKETS)
        self._impressions = OpenImpressions(self.outcome_seconds, OPEN_IMPRESSIONS)
        self.newest: deque[str] = deque(maxlen=SAMPLED_USERS)
        self.failed: deque[UserRanked] = deque(maxlen=REPLAYED)
        self.uncovered: deque[UserRanked] = deque(maxlen=REPLAYED)
        self._attributes: dict[str, Drift] = {}
        self._lengths: Drift | None = None
        self._items: Drift | None = None
        if self.profile is not None:
            self._attributes = {name: _drift(each) for name, each in self.profile.attributes.items()}
            self._lengths = _drift(self.profile.lengths)
            self._items = _drift(self.profile.items)

    def counts(self, now: float) -> RankingCounts:
        """Of the generation, within the window."""
        return RankingCounts(*self._counts.total(now).tolist())

    @property
    def filled(self) -> bool:
        """Whether its users had been re-enriched when it took over."""
        return self.takeover is not None and self.takeover.filled

    def guarded(self, now: float, seconds: float) -> bool:
        """Whether a newer generation took over within the last `seconds`: a move back is not undone."""
        if self.takeover is None or self.takeover.came_from is None or self.decided:
            return False
        return self.generation.number > self.takeover.came_from and now - self.takeover.at <= seconds

    def ranked(self, event: UserRanked, at: float) -> None:
        """Count a ranking as of the time `at`.

        An answer by popularity names no generation and belongs to the one that was active at its time. What another
        generation served after the move was on its way, and is left out.
        """
        warm_after = event.warm_after or self.generation.warm_after
        counts = counts_of(event, warm_after)
        early = self.takeover is not None and at < self.takeover.at
        if event.ranking_generation != self.generation.number and (early or event.ranking_generation is not None):
            if early and self.takeover is not None and event.ranking_generation in {None, self.takeover.came_from}:
                self.before += counts
            return
        for place, amount in enumerate(astuple(counts)):
            if amount:
                self._counts.add(at, place, amount)
        if counts.failures:
            self.failed.append(event)
        if counts.new > counts.covered:
            self.uncovered.append(event)
        self._describe(event, at, warm_after)

    def acted(self, event: UserBehaved, at: float) -> None:
        """Take an act as of the time `at`."""
        self._impressions.acted(event.user_id, event.item_id, at)
        if self._items is not None:
            self._items.add(at, event.item_id)

    def settle(self, now: float) -> None:
        """Count the impressions whose time is over."""
        for outcome in self._impressions.settled(now):
            self._count(outcome)

    def figures(self, now: float) -> Figures:
        """All of it, at `now`."""
        counts, stages = self.counts(now), self._stages.total(now)
        found, known = self._outcomes.total(now).reshape(len(STAGES), 3), self.profile
        return Figures(
            generation=self.generation.number,
            rankings=int(counts.rankings),
            failures=counts.failure_share,
            non_finite=counts.non_finite_share,
            coverage=counts.coverage,
            groups={
                stage: _of_stage(
                    float(stages[place] / stages.sum()) if stages.any() else None, found[place].tolist(), known, stage
                )
                for place, stage in enumerate(STAGES)
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
        stage = stage_of(seen, warm_after)
        self._stages.add(at, STAGES.index(stage))
        attributes = event.attributes or {}
        for name, drift in self._attributes.items():
            drift.add(at, attributes.get(name))
        if self._lengths is not None:
            self._lengths.add(at, seen)
        if stage is not Stage.WARM and event.attributes is not None:
            self.newest.append(event.user_id)
        if event.ranking_generation is not None:
            for outcome in self._impressions.shown(event.user_id, event.items, event.scores, stage, at):
                self._count(outcome)

    def _count(self, outcome: ImpressionOutcome) -> None:
        """Of those shown lately; the window runs over the times of the impressions."""
        first = 3 * STAGES.index(outcome.stage)
        self._outcomes.add(outcome.at, first + _IMPRESSIONS)
        self._outcomes.add(outcome.at, first + _PREDICTED, outcome.score)
        self._outcomes.add(outcome.at, first + _ACTED, outcome.acted)

    def _psi(self, now: float) -> dict[str, float | None]:
        return {name: drift.psi(now) for name, drift in self._attributes.items()}


def succeed(earlier: MonitorWindow | None, later: MonitorWindow, now: float) -> MonitorWindow:
    """`later` with what was counted of the generation that it came from, where `earlier` is that one's."""
    if earlier is None or later.takeover is None or earlier.generation.number != later.takeover.came_from:
        return later
    return replace(later, before=earlier.counts(now))


def _drift(expected: Shares) -> Drift:
    return Drift.of(expected, WINDOW_SECONDS, BUCKETS)


def _of_stage(share: float | None, sums: list[float], known: Profile | None, stage: Stage) -> StageFigures:
    impressions, predicted, acted = sums
    at_training = None if known is None else known.calibration.get(stage)
    return StageFigures(
        share=share,
        impressions=int(impressions),
        predicted=predicted / impressions if impressions else None,
        acted=acted / impressions if impressions else None,
        predicted_at_training=at_training and at_training.predicted,
        acted_at_training=at_training and at_training.observed,
    )
