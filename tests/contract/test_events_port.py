"""The Events port: one suite on its in-memory form and on Kafka."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Events
from foretaste.testing import InMemoryEvents, Sent
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection
from streams.worker.producer import KafkaEvents
from streams.worker.topic_admin import create_topics
from tests.integration.brokers import free_port
from tests.integration.kafka_reading import read_all

MAX_BYTES = 100_000
PARTITIONS = 3


@dataclass
class Form:
    """A form of the port, a topic to itself, and how to read what is durable in it."""

    events: Events
    topic: str
    read: Callable[[], Awaitable[Sequence[Sent]]]
    away: Events
    """The same form while its broker is away."""


class EventsSuite:
    """What every form of the port does."""

    async def test_what_was_sent_can_be_read(self, form: Form) -> None:
        headers = [("reason", b"because"), ("empty", b""), ("reason", b"twice")]
        await form.events.send(form.topic, b"key", b"value", headers)
        assert await form.read() == [Sent(form.topic, b"key", b"value", tuple(headers))]

    @pytest.mark.parametrize(
        ("key", "value"), [(None, b"value"), (b"key", None), (None, None), (b"", b""), (b"\xff", b"\0")]
    )
    async def test_keys_and_values_are_kept_as_they_are(
        self, form: Form, key: bytes | None, value: bytes | None
    ) -> None:
        await form.events.send(form.topic, key, value)
        assert [(each.key, each.value) for each in await form.read()] == [(key, value)]

    async def test_many_are_durable_at_once_and_in_order_for_a_key(self, form: Form) -> None:
        events = [(f"user {each % 7}".encode(), str(each).encode()) for each in range(500)]
        await form.events.send_all(form.topic, events)
        read = [(each.key, each.value) for each in await form.read()]
        assert sorted(read, key=lambda event: int(event[1] or b"")) == events
        for user in {key for key, _ in events}:
            of_user = [event for event in read if event[0] == user]
            assert of_user == [event for event in events if event[0] == user]

    async def test_none_are_sent_at_once(self, form: Form) -> None:
        await form.events.send_all(form.topic, [])
        assert await form.read() == []

    async def test_too_large_is_invalid_and_the_next_is_taken(self, form: Form) -> None:
        with pytest.raises(InvalidInput, match=rf"event for {form.topic}: has too many bytes"):
            await form.events.send(form.topic, b"key", b"x" * (MAX_BYTES + 1))
        with pytest.raises(InvalidInput, match="has too many bytes"):
            await form.events.send_all(form.topic, [(b"key", b"x" * (MAX_BYTES + 1))])
        await form.events.send(form.topic, b"key", b"x" * (MAX_BYTES // 2))
        assert [len(each.value or b"") for each in await form.read()] == [MAX_BYTES // 2]

    async def test_a_broker_that_is_away_is_unavailable(self, form: Form) -> None:
        with pytest.raises(Unavailable, match="kafka is not available"):
            await form.away.send(form.topic, b"key", b"value")
        with pytest.raises(Unavailable):
            await form.away.send_all(form.topic, [(b"key", b"value")])

    async def test_closing_twice_is_harmless(self, form: Form) -> None:
        await form.events.send(form.topic, b"key", b"value")
        await form.events.close()
        await form.events.close()


class TestInMemory(EventsSuite):
    @pytest.fixture
    def form(self) -> Form:
        events, away = InMemoryEvents(max_bytes=MAX_BYTES), InMemoryEvents()
        away.outage = Unavailable("kafka", "chosen by the test")

        async def read() -> Sequence[Sent]:
            return events.of("user-enriched")

        return Form(events, "user-enriched", read, away)


class TestOnKafka(EventsSuite):
    @pytest.fixture
    async def form(self, kafka_address: str, kafka_idempotent: bool) -> AsyncIterator[Form]:
        connection = KafkaConnection(kafka_address)
        names = TopicNames(f"{uuid.uuid4().hex}-")
        await create_topics(connection, names, partitions=PARTITIONS)

        async def read() -> Sequence[Sent]:
            records = await read_all(connection, names.enriched, PARTITIONS)
            return [Sent(each.topic, each.key, each.value, tuple(each.headers)) for each in records]

        events = KafkaEvents(connection, idempotent=kafka_idempotent, max_bytes=MAX_BYTES)
        nobody = KafkaConnection(f"127.0.0.1:{free_port()}")
        away = KafkaEvents(nobody, idempotent=kafka_idempotent, timeout=1)
        yield Form(events, names.enriched, read, away)
        await events.close()
        await away.close()
