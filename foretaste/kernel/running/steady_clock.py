"""A wall clock that is never set back."""

import time

from foretaste.kernel.ports import Clock


class SteadyClock:
    """Seconds since the epoch that never fall: where the machine's clock is set back, time goes on from where it was.

    For whoever bounds the times of events by the present (`event_time_ms`): by a clock that was set back, events would
    count as of before others that came earlier. Until the process is started anew it runs ahead by as much then, which
    only makes that bound wider. A clock that is set forward is followed.
    """

    def __init__(self, wall: Clock = time.time, monotonic: Clock = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._ahead = wall() - monotonic()
        """Of the wall clock before the monotonic one, the most that was seen."""

    def __call__(self) -> float:
        monotonic = self._monotonic()
        self._ahead = max(self._ahead, self._wall() - monotonic)
        return monotonic + self._ahead
