"""The way of a sign-up, from Kafka records to virtual behaviour that can be read. Only ports: no Kafka, no Triton."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from foretaste.contracts import (
    DeadLetter,
    EnrichedUser,
    FloatArray,
    Generation,
    Message,
    Reason,
    UserEnriched,
    UserRegistered,
    VirtualBehaviour,
)
from foretaste.errors import BadTowerOutput, InvalidInput, Unavailable
from foretaste.ports import Clock
from streams.dead_letters import DeadLetters
from streams.decoding import decode_registered, to_ms
from streams.metrics import Metrics
from streams.parts import Parts


@dataclass(frozen=True, slots=True)
class SignUp:
    """A decoded sign-up and the message that it came in."""

    message: Message
    event: UserRegistered
    at_ms: int
    """The time of what it writes: when the user registered, or the Kafka timestamp; never ahead of the clock."""


class SignUps:
    """Handles batches of `user-registered` messages, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter.
    2. One read of the users' behaviour tells cold, warming and warm. A warm user needs no virtual behaviour.
    3. The cold and the warming ones of the batch go on together (`Collector` closed it on size or age).
    4. One call of the zero-shot tower, pinned to the active generation, turns attributes into virtual behaviour.
       What is not finite becomes a dead letter.
    5. Attributes and virtual behaviour are written with their generation, in one write.
    6. `user-enriched` and the dead letters are produced; on return the messages may be acknowledged.

    Raising at any step leaves nothing acknowledged, and all steps may be repeated: what is written is keyed by user
    and ordered by `SignUp.at_ms`. Dead letters are produced last, so that waiting for a part repeats none of them.

    Of several sign-ups of a user in a batch the newest is written. `user-enriched` is produced once for each user whose
    virtual behaviour was written, and not for a warm one, of whom it would not be true.

    Raises `Unavailable` when a part is away, when no generation is active yet, and when the active one answers with
    the wrong shape: the sign-ups are good, so they wait until a person moves the pointer.
    """

    def __init__(
        self,
        parts: Parts,
        dead_letters: DeadLetters,
        metrics: Metrics,
        *,
        enriched_topic: str,
        max_event_bytes: int,
        now: Clock,
    ) -> None:
        self._parts = parts
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._enriched_topic = enriched_topic
        self._max_event_bytes = max_event_bytes
        self._now = now

    async def __call__(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 6 for one batch."""
        sign_ups, bad = self._decode(messages)  # 1
        if sign_ups:
            bad += await self._enrich(sign_ups)  # 2 to 6
        await self._dead_letters.keep(bad)  # 6

    async def _enrich(self, sign_ups: Sequence[SignUp]) -> list[DeadLetter]:
        generation = await self._active_generation()
        seen = await self._behaviour_seen(sign_ups, generation)  # 2
        needing = [each for each in sign_ups if seen[each.event.user_id] < generation.warm_after]  # 3
        warm = [each for each in sign_ups if seen[each.event.user_id] >= generation.warm_after]
        vectors = await self._virtual_behaviour(needing, generation)  # 4
        finite = [bool(np.isfinite(each).all()) for each in vectors]
        rows = [
            _row(each, VirtualBehaviour(generation.number, virtual))
            for each, virtual, good in zip(needing, vectors, finite, strict=True)
            if good
        ]
        written = _newest([*rows, *(_row(each, None) for each in warm)])
        if written:
            await self._parts.store.write_enriched(written)  # 5
        await self._announce(written, generation)  # 6
        self._count(written, seen)
        return [_not_finite(each, generation) for each, good in zip(needing, finite, strict=True) if not good]

    def _decode(self, messages: Sequence[Message]) -> tuple[list[SignUp], list[DeadLetter]]:
        now_ms = round(self._now() * 1000)
        sign_ups: list[SignUp] = []
        bad: list[DeadLetter] = []
        for message in messages:
            event = decode_registered(message, now_ms=now_ms, max_bytes=self._max_event_bytes)
            if isinstance(event, DeadLetter):
                bad.append(event)
            else:
                sign_ups.append(SignUp(message, event, _at_ms(message, event, now_ms)))
        return sign_ups, bad

    async def _active_generation(self) -> Generation:
        generation = await self._parts.generations.active()
        if generation is None:
            raise Unavailable("generation", "none is active yet")
        return generation

    async def _behaviour_seen(self, sign_ups: Sequence[SignUp], generation: Generation) -> dict[str, int]:
        """How many behaviours are stored of each user."""
        users = list(dict.fromkeys(each.event.user_id for each in sign_ups))
        features = await self._parts.store.read(users, generation.number)
        return {each.user_id: len(each.behaviour) for each in features}

    async def _virtual_behaviour(self, sign_ups: Sequence[SignUp], generation: Generation) -> Sequence[FloatArray]:
        """Virtual behaviour (M, D) of each sign-up."""
        if not sign_ups:
            return []
        attributes = [each.event.attributes for each in sign_ups]
        try:
            answer = await self._parts.towers.virtual_behaviour(attributes, generation.number)
        except BadTowerOutput as error:
            raise Unavailable(f"generation {generation.number}", str(error)) from error
        return list(answer)

    async def _announce(self, written: Sequence[EnrichedUser], generation: Generation) -> None:
        at = datetime.fromtimestamp(self._now(), UTC)
        events = [
            UserEnriched(user_id=row.user_id, generation=generation.number, enriched_at=at)
            for row in written
            if row.virtual is not None
        ]
        await self._parts.events.send_all(
            self._enriched_topic, [(each.user_id.encode(), each.model_dump_json().encode()) for each in events]
        )
        self._metrics.enriched.inc(len(events))

    def _count(self, written: Sequence[EnrichedUser], seen: dict[str, int]) -> None:
        for row in written:
            state = "warm" if row.virtual is None else "warming" if seen[row.user_id] else "cold"
            self._metrics.sign_ups.labels(state).inc()


def _at_ms(message: Message, event: UserRegistered, now_ms: int) -> int:
    if event.registered_at is not None:
        return min(to_ms(event.registered_at), now_ms)
    return min(message.origin.timestamp_ms, now_ms) if message.origin.timestamp_ms > 0 else now_ms


def _row(sign_up: SignUp, virtual: VirtualBehaviour | None) -> EnrichedUser:
    return EnrichedUser(sign_up.event.user_id, sign_up.event.attributes, virtual, sign_up.at_ms)


def _newest(rows: Sequence[EnrichedUser]) -> list[EnrichedUser]:
    """One row a user: the newest, and of equally new ones the later."""
    newest: dict[str, EnrichedUser] = {}
    for row in rows:
        held = newest.get(row.user_id)
        if held is None or row.at_ms >= held.at_ms:
            newest[row.user_id] = row
    return list(newest.values())


def _not_finite(sign_up: SignUp, generation: Generation) -> DeadLetter:
    problem = f"virtual behaviour of generation {generation.number} is not finite"
    detail = str(InvalidInput("attributes", dict(sign_up.event.attributes), problem))
    return DeadLetter(sign_up.message, Reason.NON_FINITE, detail)
