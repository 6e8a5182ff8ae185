"""What the demo found, as `demo.json` holds it, and what of it is not as it should be."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foretaste.demo.acting import Acted
from foretaste.demo.judging import Judged
from foretaste.demo.load import SignUps
from foretaste.demo.refreshing import Refreshed
from foretaste.kernel.ranking import Source
from serving.requests import RankResponse

if TYPE_CHECKING:
    from models.evaluation.bootstrap import Estimate

TOP = 10


@dataclass(frozen=True, slots=True)
class Introduced:
    """How the first users were received."""

    opening: SignUps
    """The first sign-up alone, before which the worker had no partitions."""
    sign_ups: SignUps
    """All others, at the rate; the latencies are theirs."""
    judged: Judged
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
class Found:
    """All of the live part."""

    number: int
    """The first generation."""
    introduced: Introduced
    acted: Acted
    later: SignUps
    """Of users who came after the others had acted."""
    before: Judged
    """Those, ranked by the first generation."""
    refreshed: Refreshed
    after: Judged | None
    """The same, ranked by the next; None where it was not swapped in."""
    dead_letters: int
    seed: int
    """Of the draws of users behind the intervals."""


def wrong(found: Found) -> Iterator[str]:
    """What is not as it should be, a sentence each."""
    first, later, refreshed = found.introduced, found.later, found.refreshed
    during = refreshed.during
    counts = {
        "sign-ups were not enriched": first.sent - first.enriched + later.sent - later.enriched,
        "users who signed up during the refresh lack virtual behaviour": len(during.newcomers) - refreshed.enriched,
        "events became dead letters": found.dead_letters,
        f"requests failed during the refresh, the first by {during.why}": during.failed,
        "answers mixed generations": during.mixed + sum(each.mixed for each in _judged(found)),
        "users were not ranked by their virtual behaviour": sum(_otherwise(each) for each in _judged(found)),
        "later users were ranked by another generation than asked": _by_another(found),
    }
    yield from (f"{count} {what}" for what, count in counts.items() if count)
    if not refreshed.swapped:
        yield f"generation {refreshed.active.number} is active: {refreshed.outcome}, {refreshed.said}"


def as_json(found: Found, data: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """What `demo.json` holds. JSON has no nan: null stands for it."""
    first = found.introduced
    sign_ups, judged = first.sign_ups, first.judged
    return {
        "data": data,
        "generation": found.number,
        "sign_ups": first.sent,
        "enriched": first.enriched,
        "dead_letters": found.dead_letters,
        "latency_ms": {"p50": _rounded(sign_ups.percentile(50), 1), "p99": _rounded(sign_ups.percentile(99), 1)},
        "sign_ups_per_second": _rounded(sign_ups.enriched / sign_ups.seconds, 1),
        "auc": {way: _rounded(value, 4) for way, value in judged.auc().items()},
        "gauc": {way: _rounded(value, 4) for way, value in judged.gauc().items()},
        "ranked_users": judged.served_by.total(),
        "served_by": dict(judged.served_by),
        "acted": {"users": found.acted.users, "rankings": found.acted.rankings, "acts": found.acted.acts},
        "refresh": _refresh(found.refreshed),
        "during": _during(found.refreshed),
        "generations": generations(found),
        "seconds": dict(seconds),
        "top_ten": {
            "user": first.after.user_id,
            "acted_on_later": first.liked,
            "before": {"served_by": first.before.served_by, "items": _top(first.before)},
            "after": {"served_by": first.after.served_by, "items": _top(first.after)},
        },
    }


def generations(found: Found) -> dict[str, Any]:
    """GAUC of both generations for the same later users, with 95 % intervals over draws of users; the difference is
    paired: draw by draw the same users."""
    numbered = {found.number: found.before}
    if found.after is not None:
        numbered[found.refreshed.active.number] = found.after
    live = {number: judged.estimate("virtual", found.seed) for number, judged in numbered.items()}
    told: dict[str, Any] = {
        "users": len(set(found.before.users)),
        "gauc": {str(number): _figure(estimate) for number, estimate in live.items()},
        "popularity": {
            str(number): _figure(judged.estimate("popularity", found.seed)) for number, judged in numbered.items()
        },
        "difference": None,
    }
    if found.after is not None:
        old, new = live.values()
        told["difference"] = _figure(_difference(new, old))
    return told


def _refresh(refreshed: Refreshed) -> dict[str, Any]:
    record, verdict = refreshed.record, refreshed.verdict
    learning = None if record is None else record.learning
    return {
        "outcome": refreshed.outcome.value,
        "said": refreshed.said,
        "generation": None if record is None else record.number,
        "seconds": None if record is None else record.seconds,
        "steps": {} if record is None else dict(record.steps),
        "learned_from": {
            "rankings": 0 if learning is None else learning.rankings,
            "impressions": 0 if learning is None else learning.impressions,
        },
        "verdict": None if verdict is None else verdict.model_dump(mode="json"),
    }


def _during(refreshed: Refreshed) -> dict[str, Any]:
    during = refreshed.during
    return {
        "sign_ups": len(during.newcomers),
        "enriched": refreshed.enriched,
        "rankings": during.rankings,
        "failed": during.failed,
        "mixed": during.mixed,
        "p50_ms": _rounded(during.percentile(50), 1),
        "p99_ms": _rounded(during.percentile(99), 1),
        "by_generation": {str(number): count for number, count in sorted(during.by_generation.items())},
        "served_by": dict(during.served_by),
    }


def _judged(found: Found) -> list[Judged]:
    return [each for each in (found.introduced.judged, found.before, found.after) if each is not None]


def _otherwise(judged: Judged) -> int:
    return judged.served_by.total() - judged.served_by[Source.VIRTUAL.value]


def _by_another(found: Found) -> int:
    asked = [(found.introduced.judged, found.number), (found.before, found.number)]
    if found.after is not None:
        asked.append((found.after, found.refreshed.active.number))
    return sum(judged.by_generation.total() - judged.by_generation[number] for judged, number in asked)


def _difference(new: "Estimate", old: "Estimate") -> "Estimate":
    from models.evaluation.bootstrap import Estimate

    return Estimate(new.value - old.value, new.drawn - old.drawn)


def _figure(estimate: "Estimate") -> dict[str, float | None]:
    low, high = estimate.interval
    return {"value": _rounded(estimate.value, 4), "low": _rounded(low, 4), "high": _rounded(high, 4)}


def _top(response: RankResponse) -> list[str]:
    return [item.item_id for item in response.ranked[:TOP]]


def _rounded(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(value, digits)
