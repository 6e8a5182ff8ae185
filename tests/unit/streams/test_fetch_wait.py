"""How long the broker may hold a fetch: shorter while records come."""

from dataclasses import dataclass, field
from types import SimpleNamespace

from streams.fetch_wait import IDLE_AFTER, FetchWait


@dataclass
class Hands:
    """A clock that stands until it is moved."""

    at: float = 100.0

    def __call__(self) -> float:
        return self.at


@dataclass
class Client:
    """What of an aiokafka consumer is set."""

    _fetcher: SimpleNamespace = field(default_factory=SimpleNamespace)


def test_a_consumer_that_was_just_made_is_busy() -> None:
    assert FetchWait(0.005, 1.0, Hands()).ms == 5


def test_it_is_idle_once_no_record_came_for_a_while_and_busy_again_at_the_next() -> None:
    hands, client = Hands(), Client()
    wait = FetchWait(0.005, 1.0, hands)
    hands.at += IDLE_AFTER - 1
    wait.apply(client, heard=False)
    assert client._fetcher._fetch_max_wait_ms == 5
    hands.at += 1
    wait.apply(client, heard=False)
    assert client._fetcher._fetch_max_wait_ms == 1000
    wait.apply(client, heard=True)
    assert client._fetcher._fetch_max_wait_ms == 5
    hands.at += IDLE_AFTER - 1
    wait.apply(client, heard=False)
    assert client._fetcher._fetch_max_wait_ms == 5
