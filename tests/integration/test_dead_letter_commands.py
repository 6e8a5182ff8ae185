"""`foretaste dead-letters`: what died is listed, shown, and sent again once."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from foretaste.cli.main import app
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import DeadLetter, Message, Origin, Reason
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection
from streams.worker.dead_letters import DeadLetters, message_of
from streams.worker.event_counts import CountedTopic, KafkaEventCounts
from streams.worker.metrics import Metrics
from streams.worker.producer import KafkaEvents
from streams.worker.topic_admin import create_topics
from tests.integration.kafka_reading import read_all


async def command(*arguments: str) -> Any:
    return await asyncio.to_thread(CliRunner().invoke, app, ["dead-letters", *arguments])


async def lines(*arguments: str) -> list[dict[str, Any]]:
    made = await command(*arguments, "--json")
    assert made.exit_code == 0, made.output
    return [json.loads(line) for line in made.stdout.splitlines()]


def letter(names: TopicNames, user: str, offset: int, reason: Reason) -> DeadLetter:
    origin = Origin(names.behaved, 0, offset, 1_700_000_000_000 + offset)
    return DeadLetter(Message(user.encode(), b'{"user_id": "%b"}' % user.encode(), origin), reason, "item_id: unknown")


@pytest.fixture
async def connection(kafka_address: str) -> KafkaConnection:
    return KafkaConnection(kafka_address)


@pytest.fixture
async def names(
    connection: KafkaConnection, kafka_idempotent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TopicNames]:
    """Two letters of two reasons, and a record of somebody else's."""
    made = TopicNames(f"{uuid.uuid4().hex}-")
    await create_topics(connection, made, partitions=1)
    settings = {"HOME": str(tmp_path), "KAFKA": connection.bootstrap, "TOPIC_PREFIX": made.prefix}
    settings |= {"REDIS": "redis://127.0.0.1:1", "TRITON": "in-process"}
    for name, value in {**settings, "KAFKA_IDEMPOTENT": str(kafka_idempotent)}.items():
        monkeypatch.setenv(f"FORETASTE_{name}", value)
    events = KafkaEvents(connection, idempotent=kafka_idempotent)
    letters = DeadLetters(events, made.dead_letters, Metrics(CollectorRegistry()))
    await letters.keep([letter(made, "ada", 3, Reason.UNKNOWN_ITEM)])
    await letters.keep([letter(made, "bob", 4, Reason.INVALID)])
    await events.send(made.dead_letters, b"k", b"not ours")
    yield made
    await events.close()


async def test_letters_are_listed_and_shown(names: TopicNames) -> None:
    everything = await lines()
    assert [(each["place"], each["reason"]) for each in everything] == [
        ("0@0", "unknown_item"),
        ("0@1", "invalid"),
        ("0@2", "foreign"),
    ]
    assert await lines("list", "--reason", "invalid") == everything[1:2]
    shown = json.loads((await command("show", "0@0")).stdout)
    assert shown == everything[0]
    assert shown["origin"] == {"topic": names.behaved, "partition": 0, "offset": 3, "timestamp_ms": 1_700_000_000_003}
    assert (shown["key"], shown["event"], shown["attempts"]) == ("ada", '{"user_id": "ada"}', 0)
    assert "0@1" in (await command("list")).stdout
    absent = await command("show", "0@77")
    assert isinstance(absent.exception, InvalidInput)
    assert str(absent.exception) == "place: no dead letter lies there (got '0@77')"


async def test_letters_are_sent_again_once(names: TopicNames, connection: KafkaConnection) -> None:
    assert (await command("replay", "--reason", "unknown_item")).stdout == "1 replayed\n"
    assert (await command("replay")).stdout == "1 replayed\n1 left: replayed before\n1 left: no event of these topics\n"
    assert (await command("replay", "0@0", "0@1")).stdout == "0 replayed\n2 left: replayed before\n"
    assert [(each["place"], each["replayed"]) for each in await lines()] == [
        ("0@0", True),
        ("0@1", True),
        ("0@2", False),
    ]
    sent = await read_all(connection, names.behaved, 1)
    here = Origin(names.behaved, 0, 99, 0)
    again = [message_of(each.key, each.value, each.headers, here) for each in sent]
    assert [(each.key, each.origin.offset, each.attempts) for each in again] == [(b"ada", 3, 1), (b"bob", 4, 1)]


async def test_what_was_sent_again_is_no_letter_itself(
    names: TopicNames, connection: KafkaConnection, kafka_idempotent: bool
) -> None:
    assert (await command("replay")).stdout.startswith("2 replayed\n")
    assert [each["place"] for each in await lines("--limit", "2")] == ["0@1", "0@2"]
    counts = KafkaEventCounts(connection, {"letters": CountedTopic(names.dead_letters, names.group)}, timeout=10)
    try:
        assert (await counts.counts())["letters"].events == 3
    finally:
        await counts.close()


async def test_letters_are_not_sent_again_where_that_could_not_be_noted(
    names: TopicNames, connection: KafkaConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TopicNames, "replays", f"{names.prefix}elsewhere")
    made = await command("replay")
    assert isinstance(made.exception, InvalidInput)
    assert str(made.exception) == f"topic: does not exist: run `foretaste setup` (got '{names.prefix}elsewhere')"
    assert await read_all(connection, names.behaved, 1) == []
