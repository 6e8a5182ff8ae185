"""`foretaste erase`: a user is forgotten; a report of where the user was, what goes at once, and what goes when."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from foretaste import compose
from foretaste.cli.user import send, service_of
from foretaste.console import console
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Topic, UserErased
from foretaste.kernel.generations import SLOTS
from foretaste.settings import Settings

if TYPE_CHECKING:
    from foretaste.kernel.users import UserFeatures

WAIT_SECONDS, LOOK_SECONDS = 10.0, 0.05
"""For which `--wait` waits at most, and between two looks at the store."""


@dataclass(frozen=True, slots=True)
class ErasurePlace:
    """A place where something of a user may lie."""

    place: str
    found: str
    """What lies there; empty where nobody can tell."""
    goes: str
    """When it is gone."""


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What is known of an erasure once it is durable in Kafka."""

    gone: bool | None
    """Whether the online store has nothing of the user any more; None where it was not waited for."""
    places: Sequence[ErasurePlace]


def erase(
    user: str,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the online store has forgotten the user.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Erase a user everywhere, and report where the user was; exit status 75 where `--wait` waited in vain."""
    event = UserErased(user_id=user)
    settings = Settings()
    if settings.url is not None:
        with service_of(settings, settings.url) as service:
            gone = service.erase(user, wait=WAIT_SECONDS if wait else 0.0).gone
        report = ErasureReport(gone, _elsewhere(settings))
    else:
        report = asyncio.run(_erased(compose.resolve(settings), event, wait=wait))
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        _print(report)
    if report.gone is False:
        raise Unavailable("worker", f"the online store still has the user after {WAIT_SECONDS:g} s")


async def _erased(settings: Settings, event: UserErased, *, wait: bool) -> ErasureReport:
    """1. A look at where the user is; 2. the event is sent; 3. where wanted, the store is waited for."""
    store = compose.store(settings)
    try:
        slots = [(await store.read([event.user_id], generation))[0] for generation in range(len(SLOTS))]
        places = [  # 1
            _of_store(slots, settings),
            *await _of_log(event.user_id, settings),
            await _of_dead_letters(event.user_id, settings),
            _of_generations(event.user_id, settings),
            *_elsewhere(settings),
        ]
        sent_ms = round(time.time() * 1000)
        await send(settings, Topic.ERASED, [event])  # 2
        if not wait:
            return ErasureReport(None, places)
        until = time.monotonic() + WAIT_SECONDS
        while True:  # 3
            (found,) = await store.read([event.user_id], 0)
            gone = found.is_gone(sent_ms)
            if gone or time.monotonic() > until:
                return ErasureReport(gone, places)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await store.close()


def _of_store(slots: "Sequence[UserFeatures]", settings: Settings) -> ErasurePlace:
    held = slots[0]
    parts = ["attributes"] if held.attributes is not None else []
    parts += [f"{len(held.behaviour)} behaviours"] if len(held.behaviour) else []
    parts += [
        f"virtual behaviour of generation {each.virtual.generation}" for each in slots if each.virtual is not None
    ]
    goes = f"within a second; a time under the user's key stays for {settings.erased_days:g} days"
    return ErasurePlace("online store", ", ".join(parts) or "nothing", goes)


async def _of_log(user_id: str, settings: Settings) -> list[ErasurePlace]:
    rows = await compose.training_log(settings).rows_of(user_id)
    compaction = f"{settings.log_compact_hours:g} h"
    goes = f"not read from now on; out of the files within {compaction}, off the disk a day later"
    if not rows:
        return [ErasurePlace("training log", "", "another offline store keeps it, which must erase the user itself")]
    return [ErasurePlace(f"training log, {kind}", f"{count} rows", goes) for kind, count in rows.items()]


async def _of_dead_letters(user_id: str, settings: Settings) -> ErasurePlace:
    from streams.topics import TopicNames
    from streams.worker.dead_letter_reader import kept_letters, users_of

    names, connection = TopicNames(settings.topic_prefix), compose.kafka_connection(settings)
    letters = await kept_letters(connection, names.dead_letters, names.replays)
    count = sum(user_id in users_of(each.letter.message) for each in letters)
    goes = f"neither shown nor replayed from now on; off the topic within {settings.dead_letter_days + 1:g} days"
    return ErasurePlace("dead letters", f"{count} letters", goes)


def _of_generations(user_id: str, settings: Settings) -> ErasurePlace:
    from foretaste.kernel.running.erasing import user_digest
    from models.generations.counted import CountedUsers, holds_some

    digest, numbers, unknown = frozenset([user_digest(user_id)]), [], []
    folders = settings.generations.iterdir() if settings.generations.is_dir() else ()
    for folder in sorted((each for each in folders if each.name.isdecimal()), key=lambda each: int(each.name)):
        counted = CountedUsers.read(folder)
        if counted is None:
            unknown.append(folder.name)
        elif holds_some(counted.all, digest):
            numbers.append(folder.name)
    found = f"counted in {', '.join(numbers)}" if numbers else "counted in none"
    found += f"; {', '.join(unknown)} do not tell" if unknown else ""
    goes = "not in the next generation's counts; these files go with `generations retire --delete`"
    return ErasurePlace("generations", found, goes)


def _elsewhere(settings: Settings) -> list[ErasurePlace]:
    """Where nobody looks up a single user."""
    prefix = settings.topic_prefix
    topics = ", ".join(f"{prefix}{each}" for each in (Topic.REGISTERED, Topic.BEHAVED, Topic.RANKED, Topic.ENRICHED))
    seconds = settings.api_idempotency_seconds
    return [
        ErasurePlace(f"topics {topics}", "", "with their retention.ms in Kafka; read again, it has no effect"),
        ErasurePlace(f"topic {prefix}{Topic.PROFILES}", "", "null in its place; with Kafka's next compaction"),
        ErasurePlace(
            f"topic {prefix}{Topic.ERASED}", "the id, in this event", f"within {settings.erased_days + 1:g} days"
        ),
        ErasurePlace(
            "a refresh under way", "", "with its checkpoints; a candidate that has read the log is not redone"
        ),
        ErasurePlace("idempotency keys", "hashes of requests", f"within {seconds} s"),
        ErasurePlace("memory of watch and service", "", "within seconds"),
        ErasurePlace("access log", "a keyed hash of the id", "as you rotate it"),
    ]


def _print(report: ErasureReport) -> None:
    rows = Table("where", "found", "goes")
    for each in report.places:
        rows.add_row(each.place, each.found, each.goes)
    console.print(rows)
    said = {None: "1 sent to user-erased", True: "gone from the online store", False: "still in the online store"}
    console.print(said[report.gone])
