"""When a generation that has just taken over seems to go wrong, in numbers. Pure: `streams.watch.monitor` acts."""

from dataclasses import dataclass, fields

from foretaste.kernel.events import UserRanked
from foretaste.kernel.ranking import Fallback, Source

NOT_FINITE = "not finite"
"""What the ranking service says in its reason where a tower's answer was not."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Rankings, counted."""

    rankings: float = 0
    failures: float = 0
    """Served by popularity, or by the mean behaviour although the user's attributes were known."""
    non_finite: float = 0
    """Because an answer of a tower was not finite."""
    new: float = 0
    """Of cold and warming users whose attributes were known: those who can have virtual behaviour."""
    covered: float = 0
    """Of these, by stored virtual behaviour of the generation that ranked."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

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


def tally_of(event: UserRanked, warm_after: int) -> Tally:
    """One ranking, of a generation whose users are warm after so many behaviours."""
    known = event.attributes is not None
    non_finite = NOT_FINITE in (event.reason or "")
    failed = event.fallback is Fallback.POPULARITY or (known and event.fallback is Fallback.MEAN_BEHAVIOUR)
    new = known and len(event.behaviour_items) < warm_after
    stored = event.served_by in {Source.VIRTUAL, Source.BLENDED}
    covered = new and stored and event.zero_shot_generation == event.ranking_generation
    return Tally(1, failed or non_finite, non_finite, new, covered)


@dataclass(frozen=True, slots=True)
class RollbackRule:
    """When to suspect a generation that has taken over from another, by what was counted.

    `before` is what was counted until the move: what went wrong as often then is not the generation's fault. Where
    nothing was counted, as in a watch that has just started, a fault counts as new and a low coverage does not.
    """

    guard: float = 900.0
    """Seconds after the pointer moved in which a generation is guarded."""
    least_rankings: int = 200
    """Of the new generation, before anything is decided."""
    most_failures: float = 0.05
    """Share of failures beyond which, and …"""
    growth: float = 2.0
    """… beyond so many times the share before the move, the generation is suspected; likewise the next."""
    least_non_finite: int = 5
    """Answers that are not finite, before they are judged."""
    most_non_finite: float = 0.01
    """Share of them."""
    least_blamed: int = 3
    """Rankings that went wrong and that the previous generation answers, asked again, before it takes over."""
    least_new: int = 50
    """Rankings of users who can have virtual behaviour, on either side, for coverage to be judged."""
    least_coverage: float = 0.5
    """Share below which, where it was …"""
    good_coverage: float = 0.8
    """… above this before the move, the generation is suspected."""

    def faults(self, after: Tally, before: Tally) -> str | None:
        """Failures and answers that are not finite, in numbers; None while there are not too many."""
        if after.rankings < self.least_rankings:
            return None
        found = []
        if self._beyond(self.most_failures, after.failure_share, before.failure_share):
            found.append(f"failures {after.failure_share:.1%}")
        if after.non_finite >= self.least_non_finite and self._beyond(
            self.most_non_finite, after.non_finite_share, before.non_finite_share
        ):
            found.append(f"not finite {after.non_finite:.0f}")
        return "; ".join(found) or None

    def lost_coverage(self, after: Tally, before: Tally) -> str | None:
        """A coverage that was good and is low now, in numbers; None where it is not so, or not known."""
        if after.rankings < self.least_rankings or min(after.new, before.new) < self.least_new:
            return None
        if (after.coverage or 0.0) >= self.least_coverage or (before.coverage or 0.0) <= self.good_coverage:
            return None
        return f"coverage {after.coverage:.1%} of {after.new:.0f} new users' rankings"

    def _beyond(self, most: float, share: float | None, earlier: float | None) -> bool:
        return (share or 0.0) > max(most, self.growth * (earlier or 0.0))


def told(after: Tally, before: Tally) -> str:
    """What a reason rests on."""
    return f"of {after.rankings:.0f} rankings since the move, before it {_earlier(before)}"


def _earlier(before: Tally) -> str:
    if not before.rankings:
        return "none were counted"
    coverage = "unknown" if before.coverage is None else f"{before.coverage:.1%}"
    return (
        f"failures {before.failure_share:.1%}, not finite {before.non_finite:.0f} and coverage {coverage} "
        f"of {before.rankings:.0f}"
    )
