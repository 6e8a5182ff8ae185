"""The topics at a broker: their explicit creation, and whether there is one that answers."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import DAY_MS
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection, kafka_unavailable

log = logging.getLogger(__name__)

KNOWN_SECONDS = 10.0
"""How long a topic that was created may take to be known to the broker that is asked."""


@dataclass(frozen=True, slots=True)
class TopicFound:
    """A topic as it stands after `create_topics`."""

    name: str
    partitions: int
    created: bool


@dataclass(frozen=True, slots=True)
class DeadLetterTopic:
    """How the topic of dead letters is created, and that of their replays, which is kept for as long."""

    days: float = 14.0
    """That a letter is kept."""
    max_bytes: int = 4 * 1024 * 1024
    """Of a letter: the whole event and its headers, whatever other topics allow."""

    @property
    def config(self) -> dict[str, str]:
        return {"max.message.bytes": str(self.max_bytes), **self.replays_config}

    @property
    def replays_config(self) -> dict[str, str]:
        return _kept_for(self.days)


def _kept_for(days: float) -> dict[str, str]:
    """Records go so many days later, and within another one: Kafka lets go of whole segments that are closed."""
    return {"retention.ms": str(round(days * DAY_MS)), "segment.ms": str(DAY_MS)}


PROFILES = {"cleanup.policy": "compact", "delete.retention.ms": str(366 * DAY_MS)}
"""Of `user-profiles`: each user's newest record is kept for good, and a null value for longer than any behaviour is."""

ITEMS = {"cleanup.policy": "compact"}
"""Of `item-registered`: each item's newest registration is kept for good."""


async def create_topics(
    connection: KafkaConnection,
    names: TopicNames,
    *,
    partitions: int,
    replication: int = 1,
    dead_letters: DeadLetterTopic | None = None,
    erased_days: float = 30.0,
) -> list[TopicFound]:
    """Create the topics, before anything asks for one: a broker makes a topic that is asked for, of one partition.

    Topics that exist are left as they are; one with fewer partitions than asked for is reported in a warning and in
    the answer, since more workers than partitions stay idle. `dead-letters` takes larger records than the others, so
    that an event of any size that arrived fits in it with its headers; `user-erased` keeps events for `erased_days`;
    `user-profiles` and `item-registered` are compacted.

    Raises `Unavailable` when no broker answers, `InvalidInput` when the broker refuses a topic.
    """
    letters = dead_letters or DeadLetterTopic()
    configs: Mapping[str, Mapping[str, str]] = {
        names.dead_letters: letters.config,
        names.replays: letters.replays_config,
        names.erased: _kept_for(erased_days),
        names.profiles: PROFILES,
        names.item_registered: ITEMS,
        names.erasure_records: {"retention.ms": "-1"},
    }
    wanted = [NewTopic(name, partitions, replication, topic_configs=configs.get(name, {})) for name in names.all()]
    admin = AIOKafkaAdminClient(**connection.client_arguments())
    try:
        await admin.start()
        answer = await admin.create_topics(wanted)
        existed = _check(answer.topic_errors)
        partitions_of = await _partitions_of(admin, names.all())
    except (KafkaError, TimeoutError) as error:
        raise await kafka_unavailable(connection, error, f"topics at {connection.bootstrap}") from error
    finally:
        await admin.close()
    found = [TopicFound(name, count, name not in existed) for name, count in partitions_of.items()]
    _report(found, partitions)
    return found


async def check_answers(connection: KafkaConnection) -> None:
    """Raises `Unavailable` when no broker answers."""
    admin = AIOKafkaAdminClient(**connection.client_arguments())
    try:
        await admin.start()
    except KafkaError as error:
        raise await kafka_unavailable(connection, error) from error
    finally:
        await admin.close()


async def _partitions_of(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """How many partitions each topic has, once all have some: what was just created comes to be known a bit later."""
    async with asyncio.timeout(KNOWN_SECONDS):
        while True:
            described = await admin.describe_topics(list(names))
            found = {each["topic"]: len(each["partitions"]) for each in described}
            if all(found.get(name) for name in names):
                return found
            await asyncio.sleep(0.02)


def _check(errors: Sequence[Sequence[object]]) -> set[str]:
    """Names of the topics that existed already; raises for one that the broker refused."""
    existed: set[str] = set()
    for name, code, *message in errors:
        kind = for_code(code)
        if kind is TopicAlreadyExistsError:
            existed.add(str(name))
        elif kind is not NoError:
            if kind.retriable:
                raise kind(f"{name}: {message}")
            raise InvalidInput("topic", name, f"cannot be created: {kind.__name__} {message}")
    return existed


def _report(found: Sequence[TopicFound], partitions: int) -> None:
    for topic in found:
        if topic.partitions < partitions:
            log.warning(
                "topic %s has %d partitions, fewer than the %d asked for: no more workers than that can share it",
                topic.name,
                topic.partitions,
                partitions,
            )
