"""When a call is tried again: what may succeed later, with jitter, until its deadline."""

import random
from typing import Any

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, stop_any, stop_before_delay
from tenacity.wait import wait_base

from foretaste.client.calls import Call
from foretaste.client.errors import ServiceAway
from foretaste.kernel.configuration import NO_OTHER_FIELDS, PositiveFloat, raises_invalid_input

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds; a pause is random, so that many clients do not come back at once."""


@raises_invalid_input
@dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class TryPolicy:
    """Seconds and counts of one call."""

    deadline: PositiveFloat = 10.0
    """Seconds for a call with all its tries. A `wait` that is asked for comes on top."""
    timeout: PositiveFloat = 2.0
    """Seconds for which the service may stay silent in a try. A `wait` that is asked for comes on top."""
    most: PositiveInt = 5
    """Tries, at most; 1: none is repeated."""

    def rules(self, call: Call[Any]) -> dict[str, Any]:
        """What tenacity needs for one call."""
        return {
            "retry": retry_if_exception(lambda error: _again(error, call)),
            "stop": stop_any(stop_after_attempt(self.most), stop_before_delay(self.deadline + call.waits)),
            "wait": _Pause(),
        }

    def seconds_left(self, call: Call[Any], spent: float) -> float:
        """For the next try, `spent` seconds after the call began."""
        return max(0.001, min(self.timeout + call.waits, self.deadline + call.waits - spent))


class _Pause(wait_base):
    """Random below a bound that doubles, and no less than the service asked for."""

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome is not None else None
        bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2**retry_state.attempt_number)
        asked = error.after if isinstance(error, ServiceAway) else 0.0
        return asked + random.uniform(0, bound)  # noqa: S311  # jitter is no secret


def _again(error: BaseException, call: Call[Any]) -> bool:
    return isinstance(error, ServiceAway) and (call.repeatable or not error.sent)
