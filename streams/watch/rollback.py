"""When a generation that has just taken over seems to go wrong, in numbers. Pure: `streams.watch.monitor` acts.

Everywhere here, `before` is what was counted until the move: what went wrong as often then is not the generation's
fault. Where nothing was counted, as in a watch that has just started, a fault counts as new, a low coverage not.
"""

from dataclasses import dataclass, fields

from foretaste.kernel.events import UserRanked
from foretaste.kernel.ranking import Fallback, Source
from foretaste.kernel.users import Stage, stage_of


@dataclass(frozen=True, slots=True)
class RankingCounts:
    """How many rankings there were, and of which kinds."""

    rankings: float = 0
    failures: float = 0
    """Served by popularity, or by the mean behaviour although the user's attributes were known."""
    non_finite: float = 0
    """Because an answer of a tower was not finite."""
    new: float = 0
    """Of cold and warming users whose attributes were known: only these can have virtual behaviour."""
    covered: float = 0
    """Of these, by stored virtual behaviour of the generation that ranked."""

    def __add__(self, other: "RankingCounts") -> "RankingCounts":
        return RankingCounts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def coverage(self) -> float | None:
        """None while nobody was counted, as in the shares below."""
        return self.covered / self.new if self.new else None

    @property
    def failure_share(self) -> float | None:
        return self.failures / self.rankings if self.rankings else None

    @property
    def non_finite_share(self) -> float | None:
        return self.non_finite / self.rankings if self.rankings else None


def counts_of(event: UserRanked, warm_after: int) -> RankingCounts:
    """One ranking, of a generation whose users are warm after so many behaviours."""
    known = event.attributes is not None
    non_finite = event.cause is not None and event.cause.not_finite
    failed = event.fallback is Fallback.POPULARITY or (known and event.fallback is Fallback.MEAN_BEHAVIOUR)
    new = known and stage_of(len(event.behaviour_items), warm_after) is not Stage.WARM
    stored = event.served_by in {Source.VIRTUAL, Source.BLENDED}
    covered = new and stored and event.zero_shot_generation == event.ranking_generation
    return RankingCounts(1, failed or non_finite, non_finite, new, covered)


LEAST_RANKINGS = 200
"""Of the new generation, before anything is decided."""
MOST_FAILURES = 0.05
"""Share of failures beyond which, and …"""
GROWTH = 2.0
"""… beyond so many times the share before the move, the generation is suspected; likewise the next."""
LEAST_NON_FINITE = 5
"""Answers that are not finite, before they are judged."""
MOST_NON_FINITE = 0.01
"""Share of them."""
LEAST_BLAMED = 3
"""Rankings that went wrong and that the previous generation answers when they are replayed, before it takes over."""
LEAST_NEW = 50
"""Rankings of users that can have virtual behaviour, on either side, for coverage to be judged."""
LEAST_COVERAGE = 0.5
"""Share below which, where it was …"""
GOOD_COVERAGE = 0.8
"""… above this before the move, the generation is suspected."""


def faults(after: RankingCounts, before: RankingCounts) -> str | None:
    """Failures and answers that are not finite, in numbers; None while there are not too many."""
    if after.rankings < LEAST_RANKINGS:
        return None
    found = []
    if _beyond(MOST_FAILURES, after.failure_share, before.failure_share):
        found.append(f"failures {after.failure_share:.1%}")
    if after.non_finite >= LEAST_NON_FINITE and _beyond(
        MOST_NON_FINITE, after.non_finite_share, before.non_finite_share
    ):
        found.append(f"not finite {after.non_finite:.0f}")
    return "; ".join(found) or None


def lost_coverage(after: RankingCounts, before: RankingCounts) -> str | None:
    """A coverage that was good and is low now, in numbers; None where it is not so, or not known."""
    if after.rankings < LEAST_RANKINGS or min(after.new, before.new) < LEAST_NEW:
        return None
    if (after.coverage or 0.0) >= LEAST_COVERAGE or (before.coverage or 0.0) <= GOOD_COVERAGE:
        return None
    return f"coverage {after.coverage:.1%} of {after.new:.0f} new users' rankings"


def _beyond(most: float, share: float | None, earlier: float | None) -> bool:
    return (share or 0.0) > max(most, GROWTH * (earlier or 0.0))


def evidence(after: RankingCounts, before: RankingCounts) -> str:
    """The counts behind the reason of a rollback, as text."""
    return f"of {after.rankings:.0f} rankings since the move, before it {_earlier(before)}"


def _earlier(before: RankingCounts) -> str:
    if not before.rankings:
        return "none were counted"
    coverage = "unknown" if before.coverage is None else f"{before.coverage:.1%}"
    return (
        f"failures {before.failure_share:.1%}, not finite {before.non_finite:.0f} and coverage {coverage} "
        f"of {before.rankings:.0f}"
    )
