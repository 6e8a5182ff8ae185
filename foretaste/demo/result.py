"""The result of the demo: its figures as `demo.json` holds them, and the problems in it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foretaste.demo.evaluation import LiveEvaluation
from foretaste.demo.first_session import CANDIDATES, FirstSessions
from foretaste.demo.interactions import InteractionResult
from foretaste.demo.refresh import DemoRefresh
from foretaste.demo.sign_ups import SignUpResult
from foretaste.kernel.ranking import Source
from serving.requests import RankResponse

if TYPE_CHECKING:
    from models.evaluation.bootstrap import Estimate

TOP = 10


@dataclass(frozen=True, slots=True)
class FirstUsersResult:
    """The sign-ups and the rankings of the first users."""

    opening: SignUpResult
    """The first sign-up, measured apart: the worker has no partitions before it."""
    sign_ups: SignUpResult
    """All other sign-ups, at the rate of the plan; the latencies in `demo.json` are theirs."""
    evaluation: LiveEvaluation
    before: RankResponse
    after: RankResponse
    liked: list[str]

    @property
    def sent(self) -> int:
        return self.opening.sent + self.sign_ups.sent

    @property
    def enriched(self) -> int:
        return self.opening.enriched + self.sign_ups.enriched


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything measured in the live part of the demo."""

    number: int
    """Of the first generation."""
    first_users: FirstUsersResult
    interactions: InteractionResult
    later: SignUpResult
    """Sign-ups of the later users, who come once the first users have acted."""
    before: LiveEvaluation
    """The later users, ranked by the first generation."""
    refresh: DemoRefresh
    after: LiveEvaluation | None
    """The later users, ranked by the second generation; None where that was not swapped in."""
    sessions: FirstSessions
    dead_letters: int
    seed: int
    """Seed of the bootstrap draws of users."""


def problems(result: DemoResult) -> Iterator[str]:
    """Sentences, one for each thing that went wrong."""
    first, later, refresh = result.first_users, result.later, result.refresh
    during = refresh.during
    counts = {
        "sign-ups were not enriched": first.sent - first.enriched + later.sent - later.enriched,
        "users who signed up during the refresh lack virtual behaviour": len(during.newcomers) - refresh.enriched,
        "events became dead letters": result.dead_letters,
        f"requests failed during the refresh, the first by {during.first_failure}": during.failed,
        "answers mixed generations": during.mixed + sum(each.mixed for each in _evaluations(result)),
        "users were not ranked by their virtual behaviour": sum(
            _without_virtual(each) for each in _evaluations(result)
        ),
        "clicks of a first session were not read in time": result.sessions.unread,
        "later users were ranked by another generation than requested": _by_another_generation(result),
    }
    yield from (f"{count} {what}" for what, count in counts.items() if count)
    if not refresh.swapped:
        yield f"generation {refresh.active.number} is active: {refresh.outcome}, {refresh.detail}"


def as_json(result: DemoResult, data: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The content of `demo.json`. JSON has no nan: null stands for it."""
    first = result.first_users
    sign_ups, evaluation = first.sign_ups, first.evaluation
    return {
        "data": data,
        "generation": result.number,
        "sign_ups": first.sent,
        "enriched": first.enriched,
        "dead_letters": result.dead_letters,
        "latency_ms": {"p50": _rounded(sign_ups.percentile(50), 1), "p99": _rounded(sign_ups.percentile(99), 1)},
        "sign_ups_per_second": _rounded(sign_ups.enriched / sign_ups.seconds, 1),
        "auc": {way: _rounded(value, 4) for way, value in evaluation.auc().items()},
        "gauc": {way: _rounded(value, 4) for way, value in evaluation.gauc().items()},
        "ranked_users": evaluation.served_by.total(),
        "served_by": dict(evaluation.served_by),
        "acted": {
            "users": result.interactions.users,
            "rankings": result.interactions.rankings,
            "acts": result.interactions.actions,
        },
        "refresh": _refresh(result.refresh),
        "during": _during(result.refresh),
        "generations": generations(result),
        "first_session": first_session(result.sessions),
        "seconds": dict(seconds),
        "top_ten": {
            "user": first.after.user_id,
            "acted_on_later": first.liked,
            "before": {"served_by": first.before.served_by, "items": _top(first.before)},
            "after": {"served_by": first.after.served_by, "items": _top(first.after)},
        },
    }


def generations(result: DemoResult) -> dict[str, Any]:
    """GAUC of both generations for the same later users, with 95 % intervals over draws of users.

    The difference is paired: in each draw both have the same users.
    """
    numbered = {result.number: result.before}
    if result.after is not None:
        numbered[result.refresh.active.number] = result.after
    estimates = {number: evaluation.estimate("virtual", result.seed) for number, evaluation in numbered.items()}
    figures: dict[str, Any] = {
        "users": len(set(result.before.users)),
        "gauc": {str(number): _figure(estimate) for number, estimate in estimates.items()},
        "popularity": {
            str(number): _figure(evaluation.estimate("popularity", result.seed))
            for number, evaluation in numbered.items()
        },
        "difference": None,
    }
    if result.after is not None:
        old, new = estimates.values()
        figures["difference"] = _figure(_difference(new, old))
    return figures


def first_session(sessions: FirstSessions) -> dict[str, Any]:
    """By clicks before, where the item stood that users acted on next, among `CANDIDATES`; and one user's session."""
    waits = np.array(sessions.waits) * 1000
    return {
        "users": sessions.users,
        "candidates": CANDIDATES,
        "mean_place": [_rounded(float(np.mean(places)) if places else math.nan, 1) for places in sessions.places],
        "among_first_ten": [
            _rounded(float(np.mean(np.array(places) <= TOP)) if places else math.nan, 3) for places in sessions.places
        ],
        "click_to_ranking_ms": {
            f"p{share}": _rounded(float(np.percentile(waits, share)) if len(waits) else math.nan, 1)
            for share in (50, 99)
        },
        "one_user": [
            {"clicked": each.clicked, "first": list(each.first), "next": each.next_item, "place": each.place}
            for each in sessions.shown
        ],
    }


def _refresh(refresh: DemoRefresh) -> dict[str, Any]:
    record, verdict = refresh.record, refresh.verdict
    learning = None if record is None else record.learning
    return {
        "outcome": refresh.outcome.value,
        "detail": refresh.detail,
        "generation": None if record is None else record.number,
        "seconds": None if record is None else record.seconds,
        "steps": {} if record is None else dict(record.steps),
        "learned_from": {
            "rankings": 0 if learning is None else learning.rankings,
            "impressions": 0 if learning is None else learning.impressions,
        },
        "verdict": None if verdict is None else verdict.model_dump(mode="json"),
    }


def _during(refresh: DemoRefresh) -> dict[str, Any]:
    during = refresh.during
    return {
        "sign_ups": len(during.newcomers),
        "enriched": refresh.enriched,
        "rankings": during.rankings,
        "failed": during.failed,
        "mixed": during.mixed,
        "p50_ms": _rounded(during.percentile(50), 1),
        "p99_ms": _rounded(during.percentile(99), 1),
        "by_generation": {str(number): count for number, count in sorted(during.by_generation.items())},
        "served_by": dict(during.served_by),
    }


def _evaluations(result: DemoResult) -> list[LiveEvaluation]:
    return [each for each in (result.first_users.evaluation, result.before, result.after) if each is not None]


def _without_virtual(evaluation: LiveEvaluation) -> int:
    return evaluation.served_by.total() - evaluation.served_by[Source.VIRTUAL.value]


def _by_another_generation(result: DemoResult) -> int:
    requested = [(result.first_users.evaluation, result.number), (result.before, result.number)]
    if result.after is not None:
        requested.append((result.after, result.refresh.active.number))
    return sum(evaluation.by_generation.total() - evaluation.by_generation[number] for evaluation, number in requested)


def _difference(new: "Estimate", old: "Estimate") -> "Estimate":
    from models.evaluation.bootstrap import Estimate

    return Estimate(new.value - old.value, new.drawn - old.drawn)


def _figure(estimate: "Estimate") -> dict[str, float | None]:
    low, high = estimate.interval
    return {"value": _rounded(estimate.value, 4), "low": _rounded(low, 4), "high": _rounded(high, 4)}


def _top(response: RankResponse) -> list[str]:
    return [item["item_id"] for item in response.ranked[:TOP]]


def _rounded(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(value, digits)
