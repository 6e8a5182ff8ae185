"""The embedded stack with its real servers: healthy, kept so, and gone with the process that started it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import psutil
import pytest
from redis import Redis as RedisClient

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.stack import health, running
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.parts import Launch, Triton
from foretaste.stack.processes import Child, free_ports, spawn
from foretaste.stack.record import RECORD, StackRecord, running_stack
from foretaste.stack.running import Incident
from foretaste.stack.stack import Stack, plan

ROOT = Path(__file__).parents[2]
ORPHANS_GONE = 5.0
"""Seconds after a kill -9 of the parent within which nothing of the stack lives."""
OWN_TRITON = {"triton": "127.0.0.1:1"}

CONFIG = """
name: "zero_shot_tower"
backend: "python"
max_batch_size: 8
input [{name: "x" data_type: TYPE_FP32 dims: [2]}]
output [{name: "y" data_type: TYPE_FP32 dims: [2]}]
instance_group [{kind: KIND_CPU count: 2}]
"""
MODEL = """
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        assert Path(args["model_repository"], args["model_version"], "model.py").samefile(__file__)

    def execute(self, requests):
        assert np.__version__.startswith("1."), np.__version__
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", 2 * x)]) for x in inputs]
"""
PARENT = """
import json, signal, sys, threading
from pathlib import Path
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.stack import Stack, plan

signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a shell started in the background
home, environment = Path(sys.argv[1]), TritonEnvironment(Path(sys.argv[2]))
with Stack(home, plan(home, json.loads(sys.argv[3]), triton_environment=environment)) as stack:
    print(json.dumps(stack.addresses), flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a space in its name and one published model, so that Triton has children of its own."""
    home = tmp_path / "a home"
    version = home / "triton_repo" / "zero_shot_tower" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    return home


@dataclass(frozen=True)
class Parent:
    """A process that runs a stack, and every process of that stack."""

    process: "subprocess.Popen[str]"
    addresses: dict[str, str]
    family: list[psutil.Process]


class StartParent(Protocol):
    """Start a process that runs a stack in the home, without the parts in `own`, and wait until it is up."""

    def __call__(self, own: Mapping[str, str] = ...) -> Parent: ...


@pytest.fixture
def start_parent(home: Path, triton_environment: TritonEnvironment) -> Iterator[StartParent]:
    started: list[subprocess.Popen[str]] = []

    def start(own: Mapping[str, str] = MappingProxyType({})) -> Parent:
        command = [sys.executable, "-c", PARENT, str(home), str(triton_environment.path), json.dumps(dict(own))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        started.append(process)
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        return Parent(process, addresses, psutil.Process(process.pid).children(recursive=True))

    yield start
    for process in started:
        process.kill()
        process.communicate()
    assert eventually(lambda: not living_in(home), ORPHANS_GONE)


def eventually(holds: Callable[[], bool], timeout: float) -> bool:
    """Whether it holds within `timeout` seconds."""
    pause, deadline = threading.Event(), time.monotonic() + timeout
    while not holds():
        if time.monotonic() >= deadline:
            return False
        pause.wait(0.02)
    return True


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if is_alive(each)]


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def living_in(home: Path) -> list[psutil.Process]:
    """Every process that has to do with this home, by its command line or its folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            about = [*process.cmdline(), process.cwd()]
            if process.pid != os.getpid() and any(str(home) in each for each in about):
                found.append(process)
    return found


def shared_memory(home: Path) -> list[Path]:
    """What this home's Triton still holds of it."""
    prefix = Triton(home / "triton", home, TritonEnvironment(home)).shared_memory
    return list(Path("/dev/shm").glob(f"{prefix}*"))  # noqa: S108 - not a temporary file of ours


def store(address: str) -> None:
    with RedisClient.from_url(address) as client:
        client.set("sign-up", "kept")


def stored(address: str) -> bool:
    with RedisClient.from_url(address) as client:
        return bool(client.get("sign-up") == b"kept")


def check_all(addresses: dict[str, str]) -> dict[str, health.Health]:
    checks = {"kafka": health.kafka, "redis": health.redis, "triton": health.triton, "api": health.api}

    async def check() -> list[health.Health]:
        return list(await asyncio.gather(*(checks[part](address) for part, address in addresses.items())))

    return {each.part: each for each in asyncio.run(check())}


def family_of(record: StackRecord) -> list[psutil.Process]:
    """The processes of one stack: other fixtures of this test process have children too."""
    parts = [psutil.Process(part.guard_pid) for part in record.parts.values()]
    return [each for part in parts for each in (part, *part.children(recursive=True))]


def test_all_three_parts_start_healthy_together_and_leave_nothing(
    home: Path, triton_environment: TritonEnvironment
) -> None:
    seen: list[tuple[str, int]] = []
    with Stack(
        home,
        plan(home, {}, triton_environment=triton_environment),
        report=lambda step, done, _total: seen.append((step, done)),
    ) as stack:
        assert set(stack.addresses) == {"kafka", "redis", "triton"}
        found = check_all(stack.addresses)
        assert all(each.ok for each in found.values()), found
        assert found["triton"].detail == "zero_shot_tower 1"
        record = running_stack(home)
        assert record is not None
        assert record.pid == os.getpid()
        assert record.addresses == stack.addresses
        family = family_of(record)
        assert {part.pid for part in record.parts.values()} <= {each.pid for each in family}
        assert len([each for each in family if "stub" in each.name()]) == 2
        assert len(shared_memory(home)) == 2
        assert stack.watch() == []
        assert stack.variables["FORETASTE_KAFKA_IDEMPOTENT"] == "false"
    assert {("start kafka", 1), ("start redis", 1), ("start triton", 1)} <= set(seen)
    assert alive(family) == []
    assert living_in(home) == []
    assert not (home / RECORD).exists()
    assert shared_memory(home) == []
    stack.close()


def test_every_server_listens_on_loopback_alone(home: Path, triton_environment: TritonEnvironment) -> None:
    with Stack(home, plan(home, {}, triton_environment=triton_environment)):
        record = running_stack(home)
        assert record is not None
        family = family_of(record)
        hosts = {c.laddr.ip for each in family for c in each.net_connections() if c.status == psutil.CONN_LISTEN}
    assert hosts <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_nothing_outlives_a_killed_parent(home: Path, start_parent: StartParent) -> None:
    parent = start_parent()
    assert len(parent.family) == 8  # three guards, three servers, two stubs
    parent.process.kill()
    parent.process.wait()
    assert eventually(lambda: not alive(parent.family) and not living_in(home), ORPHANS_GONE)
    assert running_stack(home) is None
    assert shared_memory(home) == []


def test_a_new_stack_starts_at_once_after_a_killed_one_and_finds_its_data(
    home: Path, start_parent: StartParent
) -> None:
    first = start_parent()
    store(first.addresses["redis"])
    first.process.kill()
    second = start_parent()
    assert alive(first.family) == []
    assert stored(second.addresses["redis"])
    assert check_all(second.addresses)["triton"].detail == "zero_shot_tower 1"
    record = running_stack(home)
    assert record is not None
    assert record.pid == second.process.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_stack_in_order(home: Path, start_parent: StartParent, number: signal.Signals) -> None:
    parent = start_parent(OWN_TRITON)
    parent.process.send_signal(number)
    assert parent.process.wait(timeout=20) in (128 + number, 1, -number)
    assert alive(parent.family) == []
    assert not (home / RECORD).exists()


def test_a_killed_guard_takes_its_server_along(start_parent: StartParent, home: Path) -> None:
    parent = start_parent()
    record = running_stack(home)
    assert record is not None
    for part in record.parts.values():
        os.kill(part.guard_pid, signal.SIGKILL)
    assert eventually(lambda: not alive(parent.family), ORPHANS_GONE)


def test_parts_of_the_user_are_left_to_the_user(home: Path) -> None:
    own = {"kafka": "127.0.0.1:1", **OWN_TRITON}
    with Stack(home, plan(home, own)) as stack:
        assert set(stack.addresses) == {"redis"}
        assert "FORETASTE_KAFKA" not in stack.variables
        record = running_stack(home)
        assert record is not None
        assert len(family_of(record)) == 2  # a guard and Valkey
        assert "127.0.0.1:1" not in (home / RECORD).read_text()


def test_second_stack_in_a_home_is_refused(home: Path) -> None:
    planned = plan(home, OWN_TRITON)
    with Stack(home, planned) as first:
        with pytest.raises(InvalidInput, match=f"pid {os.getpid()}"), Stack(home, planned):
            pytest.fail("two stacks share a home")
        assert all(each.ok for each in check_all(first.addresses).values())
        assert running_stack(home) is not None


@pytest.mark.parametrize("part", ["kafka", "redis", "triton"])
def test_a_part_that_dies_is_told_and_comes_back_at_its_address(
    home: Path, triton_environment: TritonEnvironment, part: str
) -> None:
    own = {name: "elsewhere" for name in ("kafka", "redis", "triton") if name != part}
    hours = iter(range(0, 1_000_000, 3600))
    planned = plan(home, own, triton_environment=triton_environment)
    with Stack(home, planned, clock=lambda: float(next(hours))) as stack:
        before = running_stack(home)
        assert before is not None
        if part == "redis":
            store(stack.addresses[part])
        os.kill(before.parts[part].pid, signal.SIGKILL)
        incidents: list[Incident] = []

        def both_seen() -> bool:
            incidents.extend(stack.watch())
            return len(incidents) == 2

        assert eventually(both_seen, 20)
        died, recovered = incidents
        assert (died.part, died.what, recovered.what) == (part, "died", "recovered")
        assert "status 137" in died.detail
        assert "lost" in died.detail
        assert str(home / "logs" / f"{part}.log") in died.detail
        assert check_all(stack.addresses)[part].ok
        after = running_stack(home)
        assert after is not None
        assert after.addresses == before.addresses
        assert after.parts[part].pid != before.parts[part].pid
        assert part != "redis" or stored(stack.addresses[part])


def test_a_part_that_cannot_start_shows_its_log_and_ends_the_others(home: Path) -> None:
    broken = home / "redis" / "appendonlydir" / "appendonly.aof.manifest"
    broken.parent.mkdir(parents=True)
    broken.write_text("this is no manifest\n")
    refused = pytest.raises(Unavailable, match=r"(?s)redis is not available: it ended with status 1.*manifest")
    with refused as caught, Stack(home, plan(home, OWN_TRITON)):
        pytest.fail("it started")
    assert str(home / "logs" / "redis.log") in str(caught.value)
    assert living_in(home) == []
    assert running_stack(home) is None
    broken.unlink()
    with Stack(home, plan(home, OWN_TRITON)) as stack:
        assert set(stack.addresses) == {"kafka", "redis"}


@pytest.mark.parametrize("part", ["kafka", "redis", "triton"])
def test_a_port_lost_to_another_process_is_tried_once_more(
    home: Path, triton_environment: TritonEnvironment, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = home / "empty", home / "elsewhere"
    with Stack(elsewhere, plan(elsewhere, {"redis": "not here", **OWN_TRITON})) as other:
        taken = int(other.addresses["kafka"].rpartition(":")[2])
        offers = iter([taken])

        def offer(count: int) -> tuple[int, ...]:
            ports = free_ports(count)
            return (next(offers, ports[0]), *ports[1:])

        monkeypatch.setattr(running, "free_ports", offer)
        own = {name: "elsewhere" for name in ("kafka", "redis", "triton") if name != part}
        with Stack(home, plan(home, own, triton_environment=triton_environment)) as stack:
            assert not stack.addresses[part].endswith(f":{taken}")
            assert check_all(stack.addresses)[part].ok


READY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Script:
    """A part that runs a line of Python, given its port if it has one."""

    name: str
    code: str
    ports: int = 0
    when_restarted: str = "nothing is lost"
    niceness: int = 0

    def launch(self, ports: Sequence[int]) -> Launch:
        address = f"http://127.0.0.1:{ports[0]}" if ports else ""
        return Launch(
            command=[sys.executable, "-c", self.code, *map(str, ports)],
            env=os.environ,
            cwd=ROOT,
            address=address,
            check=(lambda _pid: health.api(address)) if ports else (lambda pid: health.process(self.name, pid)),
            niceness=self.niceness,
        )


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
def test_what_a_ranking_does_not_need_stands_back_with_all_its_threads(home: Path) -> None:
    threaded = "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); time.sleep(60)"
    with Stack(home, plan(home, {"kafka": "elsewhere", **OWN_TRITON})) as stack:
        for part in (Script("watch", threaded, niceness=3), Script("api", threaded)):
            stack.start(part)
        record = running_stack(home)
        assert record is not None
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        assert eventually(lambda: _priorities(record.parts["watch"].pid) == [min(mine + 3, 19)] * 2, 5)
        assert eventually(lambda: _priorities(record.parts["api"].pid) == [mine] * 2, 5)
        sessions = {name: Path(f"/proc/{part.pid}/autogroup") for name, part in record.parts.items()}
        if sessions["watch"].exists():  # this kernel may weigh sessions before processes
            assert sessions["watch"].read_text().endswith("nice 3\n")
            assert sessions["api"].read_text().endswith("nice 0\n")


def _priorities(pid: int) -> list[int]:
    """Of each of its threads."""
    return [os.getpriority(os.PRIO_PROCESS, int(each.name)) for each in Path(f"/proc/{pid}/task").iterdir()]


def test_processes_of_the_project_join_a_running_stack_and_end_before_its_servers(home: Path) -> None:
    with Stack(home, plan(home, {"kafka": "elsewhere", **OWN_TRITON})) as stack:
        address = stack.start(Script("api", READY, ports=1))
        assert check_all({"api": address})["api"].ok
        record = running_stack(home)
        assert record is not None
        assert record.addresses["api"] == address
        last_words = f"""
import signal, redis
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("listens", flush=True)
signal.sigwait([signal.SIGTERM])
redis.Redis.from_url({stack.addresses["redis"]!r}).set("sign-up", "kept")
"""
        stack.start(Script("worker", last_words))
        assert eventually(lambda: "listens" in (home / "logs" / "worker.log").read_text(), 5)
    with Stack(home, plan(home, {"kafka": "elsewhere", **OWN_TRITON})) as stack:
        assert stored(stack.addresses["redis"])


def next_death(stack: Stack) -> Incident:
    deaths: list[Incident] = []

    def died() -> bool:
        deaths.extend(each for each in stack.watch() if each.what == "died")
        return bool(deaths)

    assert eventually(died, 5)
    return deaths[0]


def test_a_part_that_dies_again_and_again_is_started_ever_more_rarely(home: Path) -> None:
    now = 0.0
    with Stack(home, plan(home, {"kafka": "a", "redis": "b", "triton": "c"}), clock=lambda: now) as stack:
        stack.start(Script("worker", "import threading; threading.Event().wait(0.3); exit('no such topic')"))
        waits = []
        for _ in range(4):
            died = next_death(stack)
            assert (home / "logs" / "worker.log").read_text().endswith("no such topic\n")
            waits.append(died.detail.rpartition("again in ")[2])
            now += 5
        assert waits == ["0.5 s", "1 s", "2 s", "4 s"]


def run_python(code: str, cwd: Path, grace: float = 1.0) -> Child:
    return spawn([sys.executable, "-c", code], env=dict(os.environ), cwd=cwd, output=subprocess.PIPE, grace=grace)


def test_child_that_ignores_term_and_one_that_left_its_group_are_ended(tmp_path: Path) -> None:
    """The grandchild makes a session of its own, as a daemon does; both ignore TERM."""
    child = run_python(
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pid = os.fork()\n"
        "if not pid: os.setsid()\n"
        "os.write(1, b'%d\\n' % os.getpid())\n"
        "signal.pause()\n",
        tmp_path,
    )
    family = [psutil.Process(int(child.output.readline())) for _ in range(2)]
    began = time.monotonic()
    child.stop()
    assert child.wait(5) == 128 + signal.SIGKILL
    assert alive(family) == []
    assert 1.0 <= time.monotonic() - began < 3.0


def test_child_says_how_it_ended(tmp_path: Path) -> None:
    child = run_python("raise SystemExit(7)", tmp_path)
    assert child.wait(5) == 7
    assert child.exit_status() == 7
    child.stop()
    missing = spawn([tmp_path / "missing"], env={}, cwd=tmp_path, output=subprocess.PIPE)
    assert b"No such file or directory" in missing.output.read()
    assert missing.wait(5) == 127


def test_child_lives_beyond_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[Child] = []
    thread = threading.Thread(target=lambda: started.append(run_python("import signal; signal.pause()", tmp_path)))
    thread.start()
    thread.join()
    child = started[0]
    assert not eventually(lambda: child.exit_status() is not None, 0.6)
    child.stop()
    assert child.wait(5) == 128 + signal.SIGTERM
