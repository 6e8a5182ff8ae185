"""For how long the broker may hold a fetch: shorter while records come than once none came for a while."""

import time
from dataclasses import dataclass, field
from typing import Any

from foretaste.kernel.ports import Clock

IDLE_AFTER = 30.0
"""Seconds without a record, after which a consumer is idle."""


@dataclass(slots=True)
class FetchWait:
    """The wait of one consumer. All times are in seconds; the clock never falls.

    Apache Kafka answers a waiting fetch as soon as there is data. Tansu looks again after half of the wait, half of
    what is left, and so on: there a short wait is a low latency, and costs processor time whether records come or not.
    """

    busy: float
    idle: float
    clock: Clock = time.monotonic
    heard_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.heard_at = self.clock()

    def heard(self) -> None:
        """A record came."""
        self.heard_at = self.clock()

    @property
    def ms(self) -> int:
        """The wait of the next fetch, in milliseconds."""
        return round(1000 * (self.busy if self.clock() - self.heard_at < IDLE_AFTER else self.idle))

    def apply(self, consumer: Any, *, heard: bool) -> None:
        """Set the wait of an aiokafka consumer's next fetch, after a look at it that brought records or did not."""
        if heard:
            self.heard()
        consumer._fetcher._fetch_max_wait_ms = self.ms  # noqa: SLF001  # fixed by its constructor otherwise
