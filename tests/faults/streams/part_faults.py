"""What may happen to the other parts: workers, the broker, Triton, the service, connections and clocks."""

import asyncio
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from features.online.keys import Keys
from features.online.layout import ATTRIBUTES, BEHAVIOUR
from foretaste.kernel.files import write_file
from models.generations.repository import RANKING_TOWER, ZERO_SHOT_TOWER
from tests.faults.streams.processes import WORKERS
from tests.faults.streams.system import PARTITIONS, SESSION_SECONDS, System, waited
from tests.faults.swaps.system import pause

TOWERS = (ZERO_SHOT_TOWER, RANKING_TOWER)
BREATH = 1.5
"""Seconds of a connection that is cut, and again until the next cut."""
AWAY_SECONDS = 60
HOUR = 3600.0
NOT_FINITE = """

def _not_finite(answer, respond=_response):
    return respond(answer if isinstance(answer, BadRequest) else np.full_like(answer, np.nan))


_response = _not_finite
"""
"""Behind the code of a tower: what it answers is no number."""


def nothing(_system: System) -> None:
    """The load itself is the fault."""
    pause(1)


def worker_killed(system: System) -> None:
    """kill -9; it is started again at once, but its partitions wait for the end of its session."""
    system.signal("worker", signal.SIGKILL)
    pause(2)


def worker_stopped(system: System) -> None:
    """It stands still past its session, its partitions go to the other one, and it goes on with what it held."""
    with system.frozen("worker"):
        pause(SESSION_SECONDS + 5)


def workers_in_turns(system: System) -> None:
    """Each leaves in order and joins again, in turns."""
    for worker in WORKERS * 2:
        system.signal(worker, signal.SIGTERM)
        pause(3)


def worker_ended_without_a_store(system: System) -> None:
    """It is told to end while Redis stands still, and does so in time."""
    with system.redis.frozen():
        pause(2)
        taken = system.ended("worker")
    assert taken < 9, f"it took {taken:.1f} s to end, and Docker kills after 10"


def service_ended(system: System) -> None:
    """The service is told to end, and is started again: what it noted for training is sent."""
    system.signal("api", signal.SIGTERM)
    pause(3)


def odd_requests(system: System) -> None:
    """Somebody asks with half a character: refused, and rankings of others come to their topic."""
    body = b'{"user_id": "u", "items": ["item-1"], "context": {"device": "\\ud800"}}'
    assert {system.processes.asked("/v1/rank", body) for _ in range(20)} == {422}


def broker_killed(system: System) -> None:
    """kill -9, and started again."""
    system.stop_broker(kill=True)
    system.start_broker()


def broker_away(system: System) -> None:
    """It ends in order, and is away for a minute."""
    system.stop_broker()
    pause(AWAY_SECONDS)
    system.start_broker()


def broker_disk_full(system: System) -> None:
    """Its disk has no room for some seconds; where it ends by that, it is started again once there is some."""
    assert system.disk is not None, "Kafka needs a disk of its own to fill: mounts are refused here"
    filler = system.disk / "filler"
    _fill(filler)
    ended = waited(lambda: system.broker.process.poll() is not None, 10)
    filler.unlink()
    if ended:
        system.start_broker()


def triton_killed(system: System) -> None:
    """kill -9; it is started again at once."""
    system.signal("triton", signal.SIGKILL)
    pause(2)


def triton_hanging(system: System) -> None:
    """It holds its connections and answers nothing for six seconds."""
    with system.frozen("triton"):
        pause(6)


def tower_unloaded(system: System) -> None:
    """Somebody unloads the zero-shot tower, and loads it again five seconds later."""
    system.triton_repository("unload", ZERO_SHOT_TOWER)
    pause(5)
    system.triton_repository("load", ZERO_SHOT_TOWER)


def towers_not_finite(system: System) -> None:
    """Both towers answer NaN for some seconds; sign-ups of these are dead letters."""
    codes = {tower: system.tower_code(tower) for tower in TOWERS}
    before = {tower: code.read_text(encoding="utf-8") for tower, code in codes.items()}
    for more in (NOT_FINITE, ""):
        for tower, code in codes.items():
            write_file(code, before[tower] + more)
            system.triton_repository("load", tower)
        pause(4)


def redis_and_worker_killed(system: System) -> None:
    """Both at once."""
    system.redis.kill()
    system.signal("worker", signal.SIGKILL)
    pause(2)
    system.redis.start()


def redis_and_triton_stopped(system: System) -> None:
    """Both stand still for six seconds: rankings go by popularity, from memory."""
    with system.redis.frozen(), system.frozen("triton"):
        pause(6)


def broker_killed_and_worker_stopped(system: System) -> None:
    """A worker stands still past its session while the broker is killed and comes back."""
    with system.frozen("worker"):
        pause(2)
        broker_killed(system)
        pause(SESSION_SECONDS + 3)


def cut(part: str, system: System) -> None:
    """All connections to a part break, three times, and none can be made for a while."""
    proxy = system.proxies[part]
    for _ in range(3):
        proxy.cut()
        pause(BREATH)
        proxy.join()
        pause(BREATH)


def slowed(part: str, seconds: float, system: System) -> None:
    """Whatever goes to a part or comes from it takes so much longer, for eight seconds."""
    proxy = system.proxies[part]
    proxy.delay = seconds
    pause(8)
    proxy.delay = 0.0


def worker_clock_steps(system: System) -> None:
    """The wall clock of both workers goes an hour back, to where it was, an hour ahead, and to where it was."""
    for hours in (-1, 0, 1, 0):
        write_file(system.processes.clock, f"{hours * HOUR:g}")
        pause(3)


def partitions_added(system: System) -> None:
    """Both topics of users gain two partitions, so that users move to others."""

    async def add() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.address)
        await admin.start()
        try:
            names = (system.names.registered, system.names.behaved)
            await admin.create_partitions({name: NewPartitions(PARTITIONS + 2) for name in names})
        finally:
            await admin.close()

    asyncio.run(add())
    pause(6)


def rotten_rows(system: System, users: list[str]) -> None:
    """Somebody else left what is no row at the keys of these users, before they sign up."""
    keys = Keys(system.settings.project)
    with system.redis.client() as client:
        for place, user in enumerate(users):
            if place % 2:
                client.set(keys.of(user), b"no hash")
            else:
                client.hset(keys.of(user), mapping=dict.fromkeys((ATTRIBUTES, *BEHAVIOUR), b"no row"))


def _fill(filler: Path) -> None:
    """Take all room that is left on the disk of this file."""
    with ExitStack() as opened, suppress(OSError):
        file = opened.enter_context(filler.open("wb", buffering=0))
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)
