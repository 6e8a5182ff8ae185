"""The faults: what hurts the system while a load runs, under which setting, and what is odd about the load."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.faults.streams import part_faults as parts
from tests.faults.streams import redis_faults
from tests.faults.streams.load import HOUR_MS
from tests.faults.streams.processes import Setting
from tests.faults.streams.system import System


@dataclass(frozen=True)
class StreamFault:
    """One row."""

    name: str
    hurt: Callable[[System], None]
    """Called while the load runs; it returns when all that it took away is there again."""
    setting: Setting = "plain"
    load: Mapping[str, Any] = field(default_factory=dict)
    """What is odd about the load: fields of `LoadPlan`."""
    takes_back: bool = False
    """The store may lose its newest writes under this setting, as the documentation says, and they come again."""
    hurts_service: bool = False
    """Rankings may stay without an answer."""
    logs_rankings: bool = False
    """All rankings that were answered must come to their topic."""
    rotten: bool = False
    """Rows that cannot be read lie at the keys of some users before."""

    def __str__(self) -> str:
        return self.name


def senders_clock(seconds: float) -> int:
    """An hour ahead from the sixth to the twelfth second, then an hour back until the fifteenth."""
    if 6 <= seconds < 12:
        return HOUR_MS
    return -HOUR_MS if 12 <= seconds < 15 else 0


EMPTIED = StreamFault("redis emptied", redis_faults.emptied, takes_back=True)
"""The first: it is brought back by reading all again that Kafka has, of earlier faults too."""
WORKER_STOPPED = StreamFault("worker stopped past its session", parts.worker_stopped)
POWER_CUT = StreamFault("redis: power cut", redis_faults.power_cut, takes_back=True)
POISON = StreamFault("poison in each partition", parts.nothing, load={"poison": True})
PLAIN = (
    EMPTIED,
    POWER_CUT,
    StreamFault("redis: a replica one second behind takes over", redis_faults.failover, takes_back=True),
    StreamFault("redis killed", redis_faults.killed),
    StreamFault("redis stopped", redis_faults.stopped),
    StreamFault("redis read-only", redis_faults.read_only),
    StreamFault("redis out of memory", redis_faults.full),
    StreamFault("redis that would evict, told of and set right", redis_faults.evicting),
    StreamFault("worker killed", parts.worker_killed),
    WORKER_STOPPED,
    StreamFault("workers that leave and join in turns", parts.workers_in_turns),
    StreamFault("worker ended while redis is stopped", parts.worker_ended_without_a_store),
    StreamFault("service ended", parts.service_ended, hurts_service=True, logs_rankings=True),
    StreamFault("requests with half a character", parts.odd_requests, logs_rankings=True),
    StreamFault("broker killed", parts.broker_killed),
    StreamFault("broker away for 60 s", parts.broker_away),
    StreamFault("broker's disk full", parts.broker_disk_full),
    StreamFault("triton killed", parts.triton_killed),
    StreamFault("triton hanging", parts.triton_hanging),
    StreamFault("a tower unloaded", parts.tower_unloaded),
    StreamFault("towers answer NaN", parts.towers_not_finite),
    StreamFault("worker and redis killed", parts.redis_and_worker_killed),
    StreamFault("redis and triton stopped", parts.redis_and_triton_stopped),
    StreamFault("broker killed, worker stopped", parts.broker_killed_and_worker_stopped),
    StreamFault("senders' clock steps an hour", parts.worker_stopped, load={"clock": senders_clock}),
    StreamFault("senders 20 h ahead", parts.worker_killed, load={"claims_ahead_ms": 20 * HOUR_MS}),
    POISON,
    StreamFault("all codecs", parts.nothing, load={"codecs": True}),
    StreamFault("transactions, some aborted", parts.nothing, load={"transactions": True}),
    StreamFault("sign-ups without a key", parts.worker_stopped, load={"keyless": True}),
    StreamFault("rotten rows", parts.nothing, rotten=True),
)
OTHER_SETTINGS = (
    StreamFault("redis: power cut, waited for its disk", redis_faults.power_cut_behind_the_disk, "disk"),
    StreamFault("workers' clock steps an hour", parts.worker_clock_steps, "stepped"),
    *(
        StreamFault(f"{part}: connections cut", partial(parts.cut, part), "proxied")
        for part in ("kafka", "redis", "triton")
    ),
    *(
        StreamFault(f"{part}: connections slow", partial(parts.slowed, part, seconds), "proxied")
        for part, seconds in (("kafka", 0.3), ("redis", 0.1), ("triton", 0.3))
    ),
)
LAST = (StreamFault("topics gain partitions", parts.partitions_added),)
"""What the topics do not get rid of any more."""
ALL = (*PLAIN, *OTHER_SETTINGS, *LAST)
FEW = (POWER_CUT, WORKER_STOPPED, POISON)


def stream_faults(which: str) -> tuple[StreamFault, ...]:
    """`few` or `all`."""
    return FEW if which == "few" else ALL
