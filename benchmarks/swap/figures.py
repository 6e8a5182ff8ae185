"""The figures of `python -m benchmarks swap`, computed from the record of a run alone."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.swap.load import Answer, LoadRecord

SETTLED = 1.0
"""Seconds after the pointer moved within which every reader must have seen it."""
OK = 200


@dataclass(frozen=True, slots=True)
class Swap:
    """One swap to generation `number`; times are seconds of the monotonic clock, in the order of the steps."""

    number: int
    began: float
    loaded: float
    filled: float
    moved: float
    """When the call that moves the pointer came back."""
    retired: float
    """When the generation before the previous one was gone."""

    @property
    def until(self) -> float:
        """The end of what counts as during the swap: readers have seen the move, and the old generation is retired."""
        return max(self.moved + SETTLED, self.retired)

    @property
    def phases(self) -> dict[str, tuple[float, float]]:
        return {
            "load": (self.began, self.loaded),
            "fill": (self.loaded, self.filled),
            "move": (self.filled, self.moved),
            "after": (self.moved, self.until),
        }


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """The result of comparing sampled answers with those of the artifacts of their own generation."""

    answers: int = 0
    wrong: int = 0
    telling: int = 0
    """Answers that would have differed with another generation's virtual behaviour: the power of the check."""
    greatest_difference: float = 0.0


@dataclass(frozen=True)
class SwapRun:
    """The record of a whole run. `steady` is when counting began, `ended` when the load was stopped."""

    steady: float
    ended: float
    swaps: Sequence[Swap]
    record: LoadRecord
    enriched_at: Mapping[str, float]
    """When each new user's virtual behaviour was written, in epoch seconds."""
    unfilled: int = 0
    """New users without virtual behaviour of the last generation in the end."""
    checked: AnswerCheck = field(default_factory=AnswerCheck)
    incidents: Sequence[str] = ()
    """Parts that died or were started again."""

    @property
    def before(self) -> list[Answer]:
        """Answers of the steady load before the first swap, without those that were due before counting began."""
        return self._due(self.steady, self.swaps[0].began if self.swaps else self.ended)

    @property
    def during(self) -> list[Answer]:
        return [answer for swap in self.swaps for answer in self._due(swap.began, swap.until)]

    def sign_ups_took(self, *periods: tuple[float, float]) -> list[float]:
        """Seconds from sent to written, of the new users whose sign-up was sent within one of the periods."""
        return [
            self.enriched_at[each.user_id] - each.sent_at
            for each in self.record.sign_ups
            if each.user_id in self.enriched_at and any(since <= each.sent < until for since, until in periods)
        ]

    def _due(self, since: float, until: float) -> list[Answer]:
        return [answer for answer in self.record.answers if since <= answer.due < until]


def is_failed(answer: Answer) -> bool:
    """Whether the user got no ranked list."""
    return answer.status != OK


def is_mixed(answer: Answer) -> bool:
    """Whether virtual behaviour of one generation went into the tower of another one."""
    return answer.zero_shot is not None and answer.zero_shot != answer.ranking


def seen_within(answers: Sequence[Answer], swap: Swap, before: int | None) -> float:
    """Seconds from the move to the last request that generation `before` still answered; 0 where there was none."""
    late = [
        answer.sent - swap.moved
        for answer in answers
        if swap.moved <= answer.sent and answer.ranking is not None and answer.ranking == before
    ]
    return max(late, default=0.0)


def figures(run: SwapRun) -> dict[str, Any]:
    """All figures of a run, fit for JSON: milliseconds for latencies, seconds for all else."""
    answers = run.record.answers
    before, during = _latency(run.before), _latency(run.during)
    after_moves = [
        seen_within(answers, swap, earlier)
        for swap, earlier in zip(run.swaps, [1, *(swap.number for swap in run.swaps)], strict=False)
    ]
    return {
        "requests": len(answers),
        "failed": sum(map(is_failed, answers)),
        "failures": dict(Counter(str(answer.status) for answer in answers if is_failed(answer))),
        "problems": dict(run.record.problems),
        "mixed": sum(map(is_mixed, answers)),
        "compared": {
            "answers": run.checked.answers,
            "wrong": run.checked.wrong,
            "would_tell": run.checked.telling,
            "greatest_difference": run.checked.greatest_difference,
        },
        "latency_ms": {"before": before, "during": during, "p99_ratio": _ratio(during["p99"], before["p99"])},
        "client_late_ms": {
            "before": _percentile([answer.sent - answer.due for answer in run.before], 99),
            "during": _percentile([answer.sent - answer.due for answer in run.during], 99),
        },
        "seen_within_seconds": round(max(after_moves, default=0.0), 3),
        "rates": _rates(run),
        "served_by": dict(Counter(answer.fallback or answer.served_by for answer in answers if not is_failed(answer))),
        "generations": {str(number): count for number, count in sorted(_served(answers).items())},
        "sign_ups": _sign_ups(run),
        "swaps": [_swap(swap, late, run) for swap, late in zip(run.swaps, after_moves, strict=True)],
        "incidents": list(run.incidents),
    }


def met(found: Mapping[str, Any]) -> dict[str, bool]:
    """Whether the figures reach each goal."""
    before, during = (found["latency_ms"][when]["p99"] for when in ("before", "during"))
    return {
        "no failed request": found["failed"] == 0,
        "no mixed generations": found["mixed"] == 0 and found["compared"]["wrong"] == 0,
        "p99 at most twice that before": None not in {before, during} and during <= 2 * before,
        "seen within a second": found["seen_within_seconds"] <= SETTLED,
        "every sign-up enriched": not found["sign_ups"]["missing"]
        and not found["sign_ups"]["without_the_last_generation"],
    }


def _swap(swap: Swap, late: float, run: SwapRun) -> dict[str, Any]:
    phases = {
        name: {
            "seconds": round(until - since, 3),
            "p99_ms": _latency([answer for answer in run.record.answers if since <= answer.due < until])["p99"],
            "sign_ups_p99_ms": _percentile(run.sign_ups_took((since, until)), 99),
        }
        for name, (since, until) in swap.phases.items()
    }
    return {"generation": swap.number, "seen_within_seconds": round(late, 3), **phases}


def _served(answers: Sequence[Answer]) -> Counter[int]:
    return Counter(answer.ranking for answer in answers if answer.ranking is not None)


def _rates(run: SwapRun) -> dict[str, float]:
    """Answers and sign-ups a second, over the counted time."""
    seconds = run.ended - run.steady
    answered = sum(not is_failed(answer) and run.steady <= answer.ended < run.ended for answer in run.record.answers)
    signed_up = sum(each.durable and run.steady <= each.sent < run.ended for each in run.record.sign_ups)
    return {"answered": round(answered / seconds, 1), "signed_up": round(signed_up / seconds, 1)}


def _sign_ups(run: SwapRun) -> dict[str, Any]:
    sent = run.record.sign_ups
    first = run.swaps[0].began if run.swaps else run.ended
    during = run.sign_ups_took(*((swap.began, swap.until) for swap in run.swaps))
    before = run.sign_ups_took((run.steady, first))
    return {
        "sent": len(sent),
        "failed": sum(not each.durable for each in sent),
        "missing": sum(each.durable and each.user_id not in run.enriched_at for each in sent),
        "without_the_last_generation": run.unfilled,
        "latency_ms": {
            name: {"p50": _percentile(seconds, 50), "p99": _percentile(seconds, 99)}
            for name, seconds in (("before", before), ("during", during))
        },
    }


def _latency(answers: Sequence[Answer]) -> dict[str, Any]:
    """Percentiles over the answered requests, from when each was due; failed ones are counted elsewhere."""
    seconds = [answer.ended - answer.due for answer in answers if not is_failed(answer)]
    return {"requests": len(answers), **{f"p{q}": _percentile(seconds, q) for q in (50, 99)}}


def _percentile(seconds: Sequence[float], q: float) -> float | None:
    """In milliseconds; None for no values."""
    return round(1000 * float(np.percentile(seconds, q)), 2) if seconds else None


def _ratio(during: float | None, before: float | None) -> float | None:
    if during is None or before is None or math.isclose(before, 0):
        return None
    return round(during / before, 2)
