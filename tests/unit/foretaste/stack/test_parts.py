"""How the parts are started: their ports, their addresses, what reaches them."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

import pytest

from foretaste.kernel.errors import InvalidInput
from foretaste.stack import health
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.machine import Machine
from foretaste.stack.parts import Api, Kafka, Redis, Triton, Worker, published
from foretaste.stack.processes import LOOPBACK, free_ports, listening, tail
from foretaste.stack.stack import plan


@pytest.fixture
def triton_environment(tmp_path: Path) -> TritonEnvironment:
    """The files that a start looks at, empty."""
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    server = site / "pytriton" / "tritonserver"
    for folder in (server / "backends" / "python", server / "python_backend_stubs" / "3.11"):
        folder.mkdir(parents=True)
    (server / "backends" / "python" / "libtriton_python.so").touch()
    (server / "python_backend_stubs" / "3.11" / "triton_python_backend_stub").touch(mode=0o644)
    return TritonEnvironment(tmp_path / "env")


def publish(repository: Path, model: str, *versions: str) -> None:
    for version in versions:
        (repository / model / version).mkdir(parents=True)
    (repository / model / "config.pbtxt").touch()


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    for port in ports:
        with socket.socket() as taken:
            taken.bind((LOOPBACK, port))


def test_a_port_is_listened_on_by_the_process_that_does_and_no_other() -> None:
    waits = [sys.executable, "-c", "input()"]
    with socket.create_server((LOOPBACK, 0)) as server, subprocess.Popen(waits, stdin=subprocess.PIPE) as other:
        port = server.getsockname()[1]
        assert listening(os.getpid(), port)
        assert not listening(other.pid, port)
        other.kill()
    assert not listening(os.getpid(), port)
    assert not listening(2**22 + 1, port)


def test_every_part_binds_loopback_alone(tmp_path: Path, triton_environment: TritonEnvironment) -> None:
    parts = [
        Kafka(tmp_path / "k"),
        Redis(tmp_path / "r"),
        Triton(tmp_path / "t", tmp_path / "repo", triton_environment),
    ]
    for part in parts:
        launch = part.launch(list(range(9001, 9001 + part.ports)))
        command = " ".join(str(word) for word in launch.command)
        assert f"{LOOPBACK}:9001" in launch.address
        assert LOOPBACK in command
        assert "0.0.0.0" not in command  # noqa: S104 - looked for, not bound
        assert "localhost" not in command


def test_the_shell_of_the_user_does_not_reach_the_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_ENGINE", "s3://elsewhere/")
    monkeypatch.setenv("FORETASTE_KAFKA_PASSWORD", "secret")
    for part in (Kafka(tmp_path / "k"), Redis(tmp_path / "r")):
        assert not {"STORAGE_ENGINE", "FORETASTE_KAFKA_PASSWORD"} & set(part.launch([9001]).env)


def test_triton_serves_what_is_published_and_nothing_half_written(
    tmp_path: Path, triton_environment: TritonEnvironment
) -> None:
    repository = tmp_path / "repo"
    part = Triton(tmp_path / "t", repository, triton_environment)
    assert not any("--load-model" in str(word) for word in part.launch([1, 2]).command)
    publish(repository, "zero_shot_tower", "1", "3")
    publish(repository, "ranking_tower", ".2.partial")
    publish(repository, "unrelated", "1")
    assert published(repository) == ["zero_shot_tower"]
    assert part.launch([1, 2]).command[-1] == "--load-model=zero_shot_tower"


def test_triton_gets_its_backend_with_an_executable_stub(tmp_path: Path, triton_environment: TritonEnvironment) -> None:
    part = Triton(tmp_path / "t", tmp_path / "repo", triton_environment)
    launch = part.launch([1, 2])
    stub = tmp_path / "t" / "backends" / "python" / "triton_python_backend_stub"
    assert stub.stat().st_mode & 0o111 == 0o111
    assert launch.env["PATH"].startswith(f"{triton_environment.bin}:")
    assert launch.env["PYTHONDONTWRITEBYTECODE"] == "1"
    assert launch.env["OPENBLAS_NUM_THREADS"] == "1"


def test_homes_do_not_share_shared_memory(tmp_path: Path, triton_environment: TritonEnvironment) -> None:
    names = {Triton(tmp_path / home, tmp_path, triton_environment).shared_memory for home in ("a", "b")}
    assert len(names) == 2


def test_processes_of_the_project_get_the_users_variables_and_the_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETASTE_TOPIC_PREFIX", "mine-")
    launch = Worker({"FORETASTE_KAFKA": "127.0.0.1:1"}).launch([])
    assert launch.command[1:] == ["-m", "foretaste", "worker"]
    assert launch.env["FORETASTE_TOPIC_PREFIX"] == "mine-"
    assert launch.env["FORETASTE_KAFKA"] == "127.0.0.1:1"
    assert launch.cwd == Path.cwd()


@pytest.mark.parametrize(("port", "ports", "expected"), [(8080, [], "8080"), (0, [9001], "9001")])
def test_api_listens_on_the_port_asked_for_or_a_free_one(port: int, ports: list[int], expected: str) -> None:
    part = Api({}, port)
    assert part.ports == len(ports)
    launch = part.launch(ports)
    assert launch.address == f"http://127.0.0.1:{expected}"
    assert launch.env["FORETASTE_API_PORT"] == expected


def test_the_stacks_api_logs_no_answers_unless_it_is_asked_to() -> None:
    assert Api({}).launch([9001]).env["FORETASTE_API_ACCESS_LOG"] == "false"
    assert Api({"FORETASTE_API_ACCESS_LOG": "true"}).launch([9001]).env["FORETASTE_API_ACCESS_LOG"] == "true"


def test_tail_is_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    assert tail(log) == ""
    log.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(100_000)))
    assert tail(log, 2) == "line 99998 \ufffd\nline 99999 \ufffd"


CLOSED: Mapping[str, Callable[[], Coroutine[None, None, health.Health]]] = {
    "kafka": lambda: health.kafka("127.0.0.1:1"),
    "redis": lambda: health.redis("redis://someone:secret@127.0.0.1:1/0"),
    "triton": lambda: health.triton("127.0.0.1:1"),
    "api": lambda: health.api("http://127.0.0.1:1"),
}


@pytest.mark.parametrize("part", CLOSED)
async def test_a_part_that_is_not_there_is_unwell_and_its_password_stays_unsaid(part: str) -> None:
    found = await CLOSED[part]()
    assert found.part == part
    assert not found.ok
    assert found.detail
    assert found.ms < 4000
    assert "secret" not in f"{found.address} {found.detail}"


async def test_towers_in_process_need_no_server() -> None:
    assert (await health.triton("in-process")).ok


@pytest.mark.parametrize("address", ["broker", "broker:port", ""])
async def test_an_address_that_is_none_is_unwell(address: str) -> None:
    found = await health.kafka(address)
    assert "expected host:port" in found.detail


@pytest.mark.parametrize(
    "machine", [Machine("Linux", "x86_64", (2, 35), "python3.11"), Machine("Darwin", "arm64", None, None)]
)
def test_the_embedded_triton_refuses_a_gpu(tmp_path: Path, machine: Machine) -> None:
    with pytest.raises(InvalidInput, match=r"^triton_device: .*CPU alone.*FORETASTE_TRITON.*\(got 'gpu'\)"):
        plan(tmp_path, {}, machine=machine, device="gpu")
    assert list(tmp_path.iterdir()) == []
    own = plan(tmp_path, {"triton": "10.0.0.1:8000"}, machine=machine, device="gpu")
    assert [part.name for part in own.parts] == ["kafka", "redis"]


def test_one_broken_version_does_not_keep_triton_from_getting_ready(
    tmp_path: Path, triton_environment: TritonEnvironment
) -> None:
    command = Triton(tmp_path / "t", tmp_path / "repo", triton_environment).launch([1, 2]).command
    assert {"--strict-readiness=false", "--exit-on-error=false"} <= set(command)
