"""The composed system as a user brings it up: images built, 100 sign-ups, ranked from outside, stopped and found again.

Run by `make compose-test`, where a Docker daemon answers.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from foretaste.cli.main import EXIT_RETRIABLE
from serving.access.tokens import Scope, new_token
from tests.data_factory import write_dataset

ROOT = Path(__file__).parents[2]
USERS = 100
HURRIED = {"FORETASTE_OUTCOME_WINDOW": 30, "FORETASTE_LOG_SETTLES": 5, "FORETASTE_HELD_OUT": 0.05}
"""Settings of the refresh, so that it learns from what was acted on a moment ago."""


class System:
    """One compose project, under a name, a password and a port of its own."""

    def __init__(self, datasets: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._token, kept = new_token("test", Scope)
        self._command = [*_compose(), "--project-name", f"foretaste-test-{secrets.token_hex(4)}"]
        self._environment = {
            **os.environ,
            "FORETASTE_REDIS_PASSWORD": secrets.token_hex(16),
            "FORETASTE_API_PORT": str(self.port),
            "FORETASTE_API_TOKENS": kept.line,
            "FORETASTE_DATASETS": str(datasets),
        }

    def compose(self, *arguments: str, given: str | None = None, timeout: float = 300) -> str:
        """What the command printed; fails where its exit status is not 0."""
        ended = self.ran(*arguments, given=given, timeout=timeout)
        assert ended.returncode == 0, f"{arguments} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def ran(
        self, *arguments: str, given: str | None = None, timeout: float = 300
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self._command, *arguments],
            cwd=ROOT,
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def request(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """An answer of the API through its published port; the problem document where it refuses."""
        method, headers = "GET" if body is None else "POST", {"Authorization": f"Bearer {self._token}"}
        answer = httpx.request(method, f"http://127.0.0.1:{self.port}{path}", json=body, headers=headers, timeout=10)
        found: dict[str, Any] = answer.json()
        return found

    def until(self, what: str, condition: Any, seconds: float = 120) -> Any:
        """What `condition()` returns once it is true; fails with the logs after `seconds`."""
        deadline = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = condition()
            except httpx.TransportError as error:
                last = error
            else:
                if last:
                    return last
            time.sleep(0.5)
        pytest.fail(f"{what} did not come true in {seconds:.0f} s, last: {last!r}\n{self.compose('logs', '--tail=40')}")


def _compose() -> list[str]:
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    datasets = tmp_path_factory.mktemp("datasets")
    datasets.chmod(0o755)
    write_dataset(datasets / "small", users=200, items=60, interactions=4000)
    system = System(datasets)
    try:
        system.compose("--profile", "train", "build", timeout=1500)
        system.compose("up", "--detach", timeout=300)
        yield system
    finally:
        system.compose("down", "--volumes", "--timeout", "5", timeout=120)


@pytest.fixture(scope="module")
def serving(system: System) -> System:
    """With a generation that was trained and published in a container."""
    system.compose("run", "--rm", "trainer", "train", "--data", "/datasets/small", timeout=600)

    def published() -> bool:
        ended = system.ran("run", "--rm", "trainer", "publish", timeout=300)
        assert ended.returncode in {0, EXIT_RETRIABLE}, ended.stderr
        return ended.returncode == 0

    system.until("a Triton that loads", published)
    system.until("readiness", lambda: system.request("/readyz").get("readiness") == "ready")
    return system


def _ranks_for(system: System, user: str) -> dict[str, Any]:
    """The answer but for its own id."""
    found = system.request("/v1/rank", {"user_id": user, "items": ["item-1", "item-2", "item-3", "never seen"]})
    found.pop("ranking_id", None)
    return found


def _served_by(system: System, prefix: str) -> set[str]:
    return {_ranks_for(system, f"{prefix}-{number}").get("served_by", "refused") for number in range(USERS)}


def _sign_up(system: System, prefix: str) -> None:
    events = (
        json.dumps({"user_id": f"{prefix}-{number}", "attributes": {"segment": "cook", "age": 20 + number % 40}})
        for number in range(USERS)
    )
    given = "\n".join(events)

    def registered() -> bool:
        ended = system.ran("exec", "-T", "worker", "foretaste", "register", given=given)
        assert ended.returncode in {0, EXIT_RETRIABLE}, ended.stderr
        return ended.returncode == 0

    system.until("a Kafka that takes events", registered)


@pytest.mark.timeout(1800)
def test_a_hundred_users_sign_up_and_are_found_again_after_a_stop(serving: System) -> None:
    system = serving
    _sign_up(system, "first")
    system.until("100 enriched users", lambda: _served_by(system, "first") == {"virtual"})
    before = _ranks_for(system, "first-7")
    assert before["zero_shot_generation"] == before["ranking_generation"] == 1

    system.compose("stop", "--timeout", "10", "kafka", "redis", timeout=120)
    degraded = system.until("an answer without Redis", lambda: _ranks_for(system, "first-7").get("ranked"))
    assert [item["item_id"] for item in degraded]
    system.compose("start", "kafka", "redis", timeout=120)

    system.until("the same answer", lambda: _ranks_for(system, "first-7") == before)
    # of a hundred rankings one may be late, and fall back, while Kafka is still starting
    system.until("all users again", lambda: _served_by(system, "first") == {"virtual"})
    _sign_up(system, "second")
    system.until("100 more enriched users", lambda: _served_by(system, "second") == {"virtual"})


@pytest.mark.timeout(600)
def test_a_refresh_learns_from_what_was_served_and_swaps(serving: System) -> None:
    """Too little was seen to decide anything, so the gate is overruled, which is recorded."""
    _sign_up(serving, "third")
    serving.until("100 enriched users", lambda: _served_by(serving, "third") == {"virtual"})
    for number in range(3):
        _ranks_for(serving, f"third-{number}")
        serving.compose("exec", "-T", "worker", "foretaste", "behave", f"third-{number}", "item-1")
    # newer ones, which are put aside for the gate
    serving.until("rankings for all users", lambda: _served_by(serving, "third") <= {"virtual", "blended"})
    hurried = [word for name, value in HURRIED.items() for word in ("-e", f"{name}={value}")]

    def refreshed() -> dict[str, Any] | None:
        """Once the log has what was served: what happened within `log_settles` is left to the next refresh."""
        ended = serving.ran("run", "--rm", *hurried, "trainer", "cotrain", "--once", "--force", "--json", timeout=300)
        assert ended.stdout.strip(), ended.stderr
        print(ended.stdout)  # shown where the test fails
        record: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
        return record if record["outcome"] != "nothing to learn" else None

    record = serving.until("something to learn from", refreshed, seconds=240)
    assert (record["outcome"], record["number"]) == ("swapped", 2), record
    answer = serving.until(
        "an answer of generation 2", lambda: (a := _ranks_for(serving, "third-50"))["ranking_generation"] == 2 and a
    )
    assert (answer["served_by"], answer["zero_shot_generation"]) == ("virtual", 2)


def test_only_the_api_is_published_and_only_on_loopback(system: System) -> None:
    described = system.compose("ps")
    published = [word for line in described.splitlines() for word in line.split() if "->" in word]
    assert published == [f"127.0.0.1:{system.port}->8080/tcp"], described


def test_a_stranger_is_told_nothing_and_ranks_nothing(system: System) -> None:
    address = f"http://127.0.0.1:{system.port}"
    asked = {"user_id": "first-1", "items": ["item-1"]}

    def refused() -> bool:
        return httpx.post(f"{address}/v1/rank", json=asked, timeout=10).status_code == 401

    assert system.until("a refusal", refused)
    assert httpx.get(f"{address}/readyz", timeout=10).json().keys() == {"readiness"}
    assert httpx.get(f"{address}/healthz", headers={"host": "evil.example"}, timeout=10).status_code == 421


def test_containers_do_not_run_as_root(system: System) -> None:
    for service in ("worker", "api"):
        assert system.compose("exec", "-T", service, "id", "-u").strip() != "0"
