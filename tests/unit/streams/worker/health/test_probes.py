"""What a worker tells over HTTP."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from foretaste.kernel.running.readiness import ProcessReadiness
from streams.worker.health.probes import probes


class Told:
    """A served worker."""

    def __init__(self, port: int, readiness: ProcessReadiness) -> None:
        self.port, self.readiness = port, readiness

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()


@pytest.fixture
def told() -> Iterator[Told]:
    registry, readiness = CollectorRegistry(), ProcessReadiness()
    Counter("foretaste_things", "Things", registry=registry).inc(3)
    with probes("127.0.0.1", 0, registry, readiness) as port:
        yield Told(port, readiness)


def test_it_lives_and_counts(told: Told) -> None:
    assert told.get("/healthz") == (200, '{"status": "alive"}')
    status, text = told.get("/metrics")
    assert status == 200
    assert "foretaste_things_total 3.0" in text


def test_it_is_ready_until_something_keeps_it_from_its_work(told: Told) -> None:
    assert told.get("/readyz") == (200, '{"readiness": "ready", "reasons": {}}')
    told.readiness.unready("kafka", "nobody answers")
    status, text = told.get("/readyz")
    assert status == 503
    assert json.loads(text) == {"readiness": "unready", "reasons": {"kafka": "nobody answers"}}
    assert told.get("/healthz")[0] == 200


def test_nothing_else_is_there(told: Told) -> None:
    assert told.get("/other")[0] == 404
