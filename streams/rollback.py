"""When a generation that has just taken over goes wrong, in numbers. Pure: who acts on it is `streams.watching`."""

from dataclasses import dataclass, fields

from foretaste.contracts import Fallback, Source, UserRanked

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
    """When to go back to the generation before."""

    guard: float = 900.0
    """Seconds after the pointer moved in which a generation is guarded."""
    least_rankings: int = 200
    """Of the new generation, before anything is decided."""
    most_failures: float = 0.05
    """Share of failures beyond which, and …"""
    growth: float = 2.0
    """… beyond so many times the share before the move, the generation has gone wrong."""
    least_new: int = 50
    """Rankings of users who can have virtual behaviour, on either side, for coverage to be judged."""
    least_coverage: float = 0.5
    """Share below which, where it was …"""
    good_coverage: float = 0.8
    """… above this before the move, the generation has gone wrong."""

    def reason(self, after: Tally, before: Tally) -> str | None:
        """Why to go back, in numbers; None for no reason. `before` is what was counted until the move.

        What went wrong as often before the move is not the generation's fault. Where nothing was counted before, as in
        a watch that has just started, a failure counts as new and a low coverage does not.
        """
        if after.rankings < self.least_rankings:
            return None
        found = [told for told in (self._failing(after, before), self._non_finite(after, before)) if told]
        if self._lost_coverage(after, before):
            found.append(f"coverage {after.coverage:.1%} of {after.new:.0f} new users' rankings")
        if not found:
            return None
        return f"{'; '.join(found)}; of {after.rankings:.0f} rankings since the move, before it {_told(before)}"

    def _failing(self, after: Tally, before: Tally) -> str | None:
        share, earlier = after.failure_share or 0.0, before.failure_share or 0.0
        return f"failures {share:.1%}" if share > self.most_failures and share > self.growth * earlier else None

    def _non_finite(self, after: Tally, before: Tally) -> str | None:
        share, earlier = after.non_finite_share or 0.0, before.non_finite_share or 0.0
        return f"not finite {after.non_finite:.0f}" if share > self.growth * earlier else None

    def _lost_coverage(self, after: Tally, before: Tally) -> bool:
        if min(after.new, before.new) < self.least_new:
            return False
        return (after.coverage or 0.0) < self.least_coverage and (before.coverage or 0.0) > self.good_coverage


def _told(before: Tally) -> str:
    if not before.rankings:
        return "none were counted"
    coverage = "unknown" if before.coverage is None else f"{before.coverage:.1%}"
    return (
        f"failures {before.failure_share:.1%}, not finite {before.non_finite:.0f} and coverage {coverage} "
        f"of {before.rankings:.0f}"
    )
