"""The way of an erasure: a user is forgotten, in the store and in the training log. Only ports."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from foretaste.kernel.erasing import IN_FLIGHT_MS, ErasedUser, ErasingLog, ErasingStore, LogErasure
from foretaste.kernel.events import (
    DeadLetter,
    ErasureRecord,
    Message,
    UserErased,
    event_digest,
    event_time_ms,
)
from foretaste.kernel.ports import Clock
from foretaste.kernel.users import AttributesVersion, UserFeatures
from streams.codec import EVENTS
from streams.decoding import decode_erased
from streams.parts import SignUpParts
from streams.rules import to_ms
from streams.topics import TopicNames
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics

_ANY = 1
"""The slot that is read, of no matter: what is counted lies in none."""


@dataclass(frozen=True, slots=True)
class DecodedErasure:
    """A decoded erasure and the message that it came in."""

    message: Message
    event: UserErased
    at_ms: int
    """When (`event_time_ms`)."""

    @property
    def version(self) -> AttributesVersion:
        """Its place in the order of the user's registrations."""
        digest = event_digest(self.event.event_id, self.message)
        return AttributesVersion(self.at_ms, self.message.origin.place, (digest,))

    @property
    def name(self) -> str:
        """What its record calls it."""
        if self.event.event_id is not None:
            return event_digest(self.event.event_id, self.message).hex()
        origin = self.message.origin
        return f"{origin.topic}/{origin.partition}@{origin.offset}"


class Erasures:
    """Handles batches of `user-erased` messages, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter.
    2. One read tells how much the store holds of the users, for the records.
    3. The store forgets them, but for who registered anew since; where the parts say so, its disk is waited for.
    4. `user-profiles` gets null for each, but for who registered anew.
    5. A record of each erasure that does not tell of whom, and the dead letters, are produced; on return the messages
       may be acknowledged.

    Done again it erases nothing more: its records then tell of a user of whom nothing was there. Raises `Unavailable`
    when a part is away.
    """

    def __init__(
        self,
        parts: SignUpParts,
        dead_letters: DeadLetters,
        metrics: Metrics,
        topics: TopicNames,
        *,
        max_event_bytes: int,
        now: Clock,
    ) -> None:
        self._parts = parts
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._topics = topics
        self._max_event_bytes = max_event_bytes
        self._now = now

    async def __call__(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 5 for one batch."""
        erasures, bad = decoded(messages, self._now, self._max_event_bytes)  # 1
        if erasures:
            await self._erase(erasures)  # 2 to 5
        await self._dead_letters.keep(bad)  # 5

    async def _erase(self, erasures: Sequence[DecodedErasure]) -> None:
        latest = latest_of_each(erasures)
        found = {each.user_id: each for each in await self._parts.store.read(list(latest), _ANY)}  # 2
        anew = set(await self._parts.store.erase(erased_users(latest.values())))  # 3
        if self._parts.synced is not None:
            await self._parts.synced.synced()
        gone = [user_id for user_id in latest if user_id not in anew]
        await self._parts.events.send_all(self._topics.profiles, [(user.encode(), None) for user in gone])  # 4
        records = [self._record(each, found[each.event.user_id], anew=each.event.user_id in anew) for each in erasures]
        await self._parts.events.send_all(
            self._topics.erasure_records, [(None, EVENTS.encode(record)) for record in records]
        )
        self._metrics.erasures.labels("erased").inc(len(gone))
        self._metrics.erasures.labels("registered_anew").inc(len(anew))

    def _record(self, erasure: DecodedErasure, found: UserFeatures, *, anew: bool) -> ErasureRecord:
        return ErasureRecord(
            erasure=erasure.name,
            occurred_at=datetime.fromtimestamp(erasure.at_ms / 1000, UTC),
            erased_at=datetime.fromtimestamp(self._now(), UTC),
            behaviours=len(found.behaviour),
            had_attributes=found.attributes is not None,
            registered_anew=anew,
        )


class LogErasures:
    """Handles batches of `user-erased` messages for the training log; a bad one is kept by the way above, not here.

    1. Every message is decoded.
    2. The store forgets the users, where that is not done yet: from then on no ranking is made from what it held.
    3. The log forgets what happened until an answer that was in flight at that moment is given; of who registered anew
       by then, what happened until that. On return the messages may be acknowledged.

    Raises `Unavailable` when a part is away.
    """

    def __init__(self, log: ErasingLog, store: ErasingStore, *, max_event_bytes: int, now: Clock) -> None:
        self._log = log
        self._store = store
        self._max_event_bytes = max_event_bytes
        self._now = now

    async def __call__(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 3 for one batch."""
        erasures, _ = decoded(messages, self._now, self._max_event_bytes)  # 1
        if not erasures:
            return
        latest = latest_of_each(erasures)
        anew = await self._store.erase(erased_users(latest.values()))  # 2
        registered_ms = {each.user_id: each.attributes_ms for each in await self._store.read(anew, _ANY)}
        answered_ms = round(self._now() * 1000) + IN_FLIGHT_MS
        await self._log.erase(  # 3
            [
                LogErasure(user_id, each.at_ms, max(each.at_ms, registered_ms.get(user_id, answered_ms)))
                for user_id, each in latest.items()
            ]
        )

    async def refuse(self, letters: Sequence[DeadLetter]) -> None:
        """Nothing: the users' way reads the same messages."""


def decoded(messages: Sequence[Message], now: Clock, max_bytes: int) -> tuple[list[DecodedErasure], list[DeadLetter]]:
    """The erasures, and what is none."""
    now_ms = round(now() * 1000)
    erasures: list[DecodedErasure] = []
    bad: list[DeadLetter] = []
    for message in messages:
        event = decode_erased(message, now_ms=now_ms, max_bytes=max_bytes)
        if isinstance(event, DeadLetter):
            bad.append(event)
        else:
            claimed_ms = None if event.occurred_at is None else to_ms(event.occurred_at)
            erasures.append(DecodedErasure(message, event, event_time_ms(claimed_ms, message.origin, now_ms)))
    return erasures, bad


def latest_of_each(erasures: Sequence[DecodedErasure]) -> dict[str, DecodedErasure]:
    """By user."""
    latest: dict[str, DecodedErasure] = {}
    for each in erasures:
        held = latest.get(each.event.user_id)
        if held is None or each.version.replaces(held.version):
            latest[each.event.user_id] = each
    return latest


def erased_users(erasures: Iterable[DecodedErasure]) -> list[ErasedUser]:
    """As the store takes them."""
    return [ErasedUser(each.event.user_id, each.version) for each in erasures]
