"""The way of a sign-up, from Kafka records to virtual behaviour that can be read. Only ports: no Kafka, no Triton."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from foretaste.contracts import (
    Attributes,
    DeadLetter,
    EnrichedUser,
    FloatArray,
    Generation,
    Message,
    Reason,
    ReenrichedUser,
    UserEnriched,
    UserFeatures,
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


@dataclass(frozen=True, slots=True)
class Known:
    """A sign-up beside what is stored of its user, with the slot of `generation`."""

    sign_up: SignUp
    stored: UserFeatures
    generation: Generation

    @property
    def newer(self) -> bool:
        """Its attributes replace the stored ones. A replay's, or an older one's, do not: the store would drop them."""
        return self.stored.attributes is None or self.sign_up.at_ms > self.stored.attributes_ms

    @property
    def attributes(self) -> Attributes:
        """The user's from now on: virtual behaviour is made from these, so that it belongs to what is stored."""
        return self.sign_up.event.attributes if self.newer else self.stored.attributes or {}

    @property
    def state(self) -> str:
        """cold, warming or warm."""
        seen = len(self.stored.behaviour)
        return "warm" if seen >= self.generation.warm_after else "warming" if seen else "cold"

    @property
    def needs_virtual(self) -> bool:
        """No virtual behaviour is stored that this generation can read and that belongs to the attributes."""
        held = None if self.newer else self.stored.current_virtual(self.generation)
        return self.state != "warm" and held is None


@dataclass(frozen=True, slots=True)
class Enriched:
    """What a sign-up comes to; `virtual` is None where none is to be written."""

    known: Known
    virtual: VirtualBehaviour | None

    @property
    def user_id(self) -> str:
        return self.known.stored.user_id

    @property
    def late(self) -> ReenrichedUser | None:
        """The virtual behaviour as of just after what is stored, if the sign-up's own time would have it dropped."""
        as_of_ms = self.known.stored.as_of_ms
        if self.virtual is None or self.known.sign_up.at_ms > as_of_ms:
            return None
        return ReenrichedUser(self.user_id, self.virtual, as_of_ms + 1)

    @property
    def row(self) -> EnrichedUser | None:
        """The attributes, if they replace the stored ones, with the virtual behaviour unless it is late."""
        if not self.known.newer:
            return None
        virtual = self.virtual if self.late is None else None
        return EnrichedUser(self.user_id, self.known.attributes, virtual, self.known.sign_up.at_ms)


class SignUps:
    """Handles batches of `user-registered` messages, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter.
    2. One read of the users' behaviour tells cold, warming and warm. A warm user needs no virtual behaviour; nor does
       one whose stored one the active generation can read, if the sign-up brings no newer attributes (a replay).
    3. The others of the batch go on together (`Collector` closed it on size or age).
    4. One call of the zero-shot tower, pinned to the active generation, turns attributes into virtual behaviour: the
       sign-up's if they are newer than the stored ones, the stored ones otherwise.
    5. The answer is checked: another shape than the generation's stops the batch, what is not finite becomes a dead
       letter. Attributes and virtual behaviour are written with their generation, in one write. Virtual behaviour that
       the store would drop there, since it keeps one as new (of an earlier generation in the same slot, for a sign-up
       that is sent again), is written just before, as of one millisecond after what is stored.
    6. `user-enriched` and the dead letters are produced; on return the messages may be acknowledged.

    Raising at any step leaves nothing acknowledged, and all steps may be repeated: what is written is keyed by user
    and ordered by `SignUp.at_ms`. Late virtual behaviour goes before the attributes that it belongs to, since it would
    pass for current if they alone were there. Dead letters are produced last, so that waiting for a part repeats none.

    Of several sign-ups of a user in a batch the newest is written. `user-enriched` is produced once for each user whose
    virtual behaviour can now be read, written just now or before, and not for a warm one, of whom it would not be true.

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
        known = await self._known(sign_ups, generation)  # 2
        needing = [each for each in known if each.needs_virtual]  # 3
        vectors = await self._virtual_behaviour(needing, generation)  # 4
        finite = [bool(np.isfinite(each).all()) for each in vectors]  # 5
        made = [
            Enriched(each, VirtualBehaviour(generation.number, virtual))
            for each, virtual, good in zip(needing, vectors, finite, strict=True)
            if good
        ]
        enriched = _newest([*made, *(Enriched(each, None) for each in known if not each.needs_virtual)])
        await self._write(enriched)  # 5
        await self._announce(enriched, generation)  # 6
        for each in enriched:
            self._metrics.sign_ups.labels(each.known.state).inc()
        return [_not_finite(each) for each, good in zip(needing, finite, strict=True) if not good]

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

    async def _known(self, sign_ups: Sequence[SignUp], generation: Generation) -> list[Known]:
        users = list(dict.fromkeys(each.event.user_id for each in sign_ups))
        features = await self._parts.store.read(users, generation.number)
        stored = {each.user_id: each for each in features}
        return [Known(each, stored[each.event.user_id], generation) for each in sign_ups]

    async def _virtual_behaviour(self, needing: Sequence[Known], generation: Generation) -> Sequence[FloatArray]:
        """Virtual behaviour (M, D) for each; raises `Unavailable` when the generation's tower answers another shape."""
        if not needing:
            return []
        expected = (len(needing), *generation.virtual_shape)
        attributes = [each.attributes for each in needing]
        try:
            answer = await self._parts.towers.virtual_behaviour(attributes, generation.number)
        except BadTowerOutput as error:
            raise Unavailable(f"generation {generation.number}", str(error)) from error
        if answer.shape != expected:
            problem = f"the zero-shot tower answered {answer.shape}, its record says {expected}"
            raise Unavailable(f"generation {generation.number}", problem)
        return list(answer)

    async def _write(self, enriched: Sequence[Enriched]) -> None:
        late = [each.late for each in enriched if each.late is not None]
        if late:
            await self._parts.store.write_virtual(late)
        rows = [each.row for each in enriched if each.row is not None]
        if rows:
            await self._parts.store.write_enriched(rows)

    async def _announce(self, enriched: Sequence[Enriched], generation: Generation) -> None:
        at = datetime.fromtimestamp(self._now(), UTC)
        events = [
            UserEnriched(user_id=each.user_id, generation=generation.number, enriched_at=at)
            for each in enriched
            if each.known.state != "warm"
        ]
        await self._parts.events.send_all(
            self._enriched_topic, [(each.user_id.encode(), each.model_dump_json().encode()) for each in events]
        )
        self._metrics.enriched.inc(len(events))


def _at_ms(message: Message, event: UserRegistered, now_ms: int) -> int:
    if event.registered_at is not None:
        return min(to_ms(event.registered_at), now_ms)
    return min(message.origin.timestamp_ms, now_ms) if message.origin.timestamp_ms > 0 else now_ms


def _newest(enriched: Sequence[Enriched]) -> list[Enriched]:
    """One a user: the newest, and of equally new ones the later."""
    newest: dict[str, Enriched] = {}
    for each in enriched:
        held = newest.get(each.user_id)
        if held is None or each.known.sign_up.at_ms >= held.known.sign_up.at_ms:
            newest[each.user_id] = each
    return list(newest.values())


def _not_finite(known: Known) -> DeadLetter:
    problem = f"virtual behaviour of generation {known.generation.number} is not finite"
    detail = str(InvalidInput("attributes", dict(known.attributes), problem))
    return DeadLetter(known.sign_up.message, Reason.NON_FINITE, detail)
