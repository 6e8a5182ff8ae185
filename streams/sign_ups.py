"""The way of a sign-up, from Kafka records to virtual behaviour that can be read. Only ports: no Kafka, no Triton."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.events import (
    DeadLetter,
    Message,
    Reason,
    UserEnriched,
    UserRegistered,
    event_digest,
    event_time_ms,
)
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock
from foretaste.kernel.users import (
    AttributesVersion,
    EnrichedUser,
    ReenrichedUser,
    Stage,
    UserFeatures,
    VirtualBehaviour,
)
from foretaste.kernel.values import Attributes
from streams.attribute_check import AttributeCheck
from streams.codec import EVENTS
from streams.decoding import decode_registered
from streams.parts import SignUpParts
from streams.rules import to_ms
from streams.shares import each_share, shares_by_user
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics
from streams.zero_shot import finite, virtual_behaviour

FILLING_SECONDS = 0.5
"""For which a batch waits for the tower of the generation that is filling."""


@dataclass(frozen=True, slots=True)
class SignUp:
    """A decoded sign-up and the message that it came in."""

    message: Message
    event: UserRegistered
    at_ms: int
    """When the user registered (`event_time_ms`)."""

    @property
    def version(self) -> AttributesVersion:
        """By which it replaces what is stored, or does not."""
        digest = event_digest(self.event.event_id, self.message)
        return AttributesVersion(self.at_ms, self.message.origin.place, (digest,))


@dataclass(frozen=True, slots=True)
class KnownSignUp:
    """A sign-up beside what is stored of its user, with the slot of `generation`."""

    sign_up: SignUp
    stored: UserFeatures
    generation: Generation

    @property
    def newer(self) -> bool:
        """Its attributes replace the stored ones, or an erasure. A replay does not, nor an older one: the store
        would drop them."""
        return self.sign_up.version.replaces(self.stored.attributes_version)

    @property
    def attributes(self) -> Attributes:
        """The user's from now on: virtual behaviour is made from these, so that it belongs to what is stored."""
        return self.sign_up.event.attributes if self.newer else self.stored.attributes or {}

    @property
    def stage(self) -> Stage:
        return self.generation.stage(len(self.stored.behaviour))

    @property
    def needs_virtual(self) -> bool:
        """No virtual behaviour is stored that this generation can read and that belongs to the attributes."""
        return self.stage is not Stage.WARM if self.newer else self.generation.lacks(self.stored)


@dataclass(frozen=True, slots=True)
class EnrichedSignUp:
    """What is to be written for a sign-up; `virtual` is None where none is."""

    known: KnownSignUp
    virtual: VirtualBehaviour | None
    before: tuple[bytes, ...] = ()
    """Digests of the user's other sign-ups in the batch, which this one was chosen before."""

    @property
    def user_id(self) -> str:
        return self.known.stored.user_id

    @property
    def row(self) -> EnrichedUser | ReenrichedUser | None:
        """Attributes and virtual behaviour, where the attributes replace the stored ones; else virtual behaviour alone,
        made from those that are stored; None where nothing is missing."""
        known = self.known
        if known.newer:
            version = known.sign_up.version
            digests = (*self.before, *version.digests)
            attributes = known.sign_up.event.attributes
            return EnrichedUser(self.user_id, attributes, self.virtual, version.at_ms, version.place, digests)
        return None if self.virtual is None else ReenrichedUser.after(known.stored, self.virtual)

    def beside(self, written: EnrichedUser | ReenrichedUser | None) -> ReenrichedUser | None:
        """The virtual behaviour of another generation, for the attributes that stand once `written` does."""
        if self.virtual is None:
            return None
        stored = self.known.stored
        if not isinstance(written, EnrichedUser):
            return ReenrichedUser.after(stored, self.virtual)
        at_ms = max(written.at_ms, stored.virtual_ms + 1)
        return ReenrichedUser(self.user_id, self.virtual, at_ms, written.version)


class SignUps:
    """Handles batches of `user-registered` messages, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter.
    2. One read of the users' behaviour tells cold, warming and warm. A warm user needs no virtual behaviour; nor does
       one whose stored one the active generation can read, if the sign-up brings no newer attributes (a replay).
    3. The others go on together (`Collector` closed the batch). A large batch does 2 to 5 in shares, each user in one.
    4. One call of the zero-shot tower, pinned to the active generation, turns attributes into virtual behaviour: the
       sign-up's if they are newer than the stored ones, the stored ones otherwise. While another generation is filling,
       2 to 4 are done for it too, with its own `warm_after`, its slot and a call pinned to it.
    5. The answer is checked: another shape than the generation's stops the batch, what is not finite becomes a dead
       letter. Attributes and virtual behaviour are written with their generation, in one write. Virtual behaviour made
       from attributes that are stored already (for a sign-up that is sent again, of another generation than what the
       slot holds) is written alone; so is that of the filling generation, behind the attributes that it belongs to.
       Where the parts say so, the store's disk is waited for, once a batch.
    6. `user-enriched` and the dead letters are produced; on return the messages may be acknowledged.

    Raising at any step leaves nothing acknowledged, and all steps may be repeated: what is written is keyed by user,
    and the store decides in one step whether it takes the place of what is stored by then, whoever else writes and
    however long this worker stood still. Dead letters are produced last, so that waiting for a part repeats none.

    Of several sign-ups of a user the latest stays, in one batch as in several: by `event_time_ms`, and of those of one
    time the later in the topic. Sign-ups without a key lie in any partition, so that time alone orders them, and where
    it is one, Kafka's timestamp. `user-enriched` is produced once for each user whose
    virtual behaviour can now be read, written just now or before, and not for a warm user, where it would not be true.
    It tells of the active generation alone, which is the one that readers use.

    The filling generation holds no sign-up up: if its tower is away, does not answer within `FILLING_SECONDS` or
    answers badly, that is counted, and re-enrichment or a read repair makes what is missing.

    Raises `Unavailable` when a part is away, when no generation is active yet, and when the active one answers with
    the wrong shape: the sign-ups are good, so they wait until a person moves the pointer.
    """

    def __init__(
        self,
        parts: SignUpParts,
        dead_letters: DeadLetters,
        metrics: Metrics,
        *,
        enriched_topic: str,
        max_event_bytes: int,
        now: Clock,
        check: AttributeCheck | None = None,
    ) -> None:
        self._parts = parts
        self._check = check
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
        serving = await self._parts.generations.serving()
        if serving.active is None:
            raise Unavailable("generation", "none is active yet")
        store = partial(self._stored, active=serving.active, filling=serving.filling)
        stored = await each_share(store, shares_by_user(sign_ups, lambda each: each.event.user_id))  # 2 to 5
        enriched = [each for share, _ in stored for each in share]
        if self._parts.synced is not None:
            await self._parts.synced.synced()  # 5
        await self._announce(enriched, serving.active)  # 6
        for stage, count in Counter(each.known.stage for each in enriched).items():
            self._metrics.sign_ups.labels(stage).inc(count)
        await self._note(sign_ups, enriched, sum(len(not_finite) for _, not_finite in stored), serving.active)
        return [_not_finite(each) for _, not_finite in stored for each in not_finite]

    async def _note(
        self, sign_ups: Sequence[SignUp], enriched: Sequence[EnrichedSignUp], bad: int, generation: Generation
    ) -> None:
        """Count what had no effect: sign-ups that were not the newest, names and values that nobody knows."""
        self._metrics.dropped.labels("sign-up", "not_newer").inc(
            len(sign_ups) - bad - sum(each.known.newer for each in enriched)
        )
        if self._check is not None:
            await self._check.note([each.event.attributes for each in sign_ups], generation)

    async def _stored(
        self, sign_ups: Sequence[SignUp], active: Generation, filling: Generation | None
    ) -> tuple[list[EnrichedSignUp], list[KnownSignUp]]:
        """Steps 2 to 5 for a share of the batch: what is durable now, and what is not finite."""
        known = [each for each in await self._known(sign_ups, active) if each.newer or not each.stored.is_erased]  # 2
        needing = [each for each in known if each.needs_virtual]  # 3
        made, not_finite = await self._made(needing, active)  # 4, 5
        enriched = _newest([*made, *(EnrichedSignUp(each, None) for each in known if not each.needs_virtual)])
        await self._write(enriched, await self._filled(enriched, filling))  # 5
        return enriched, not_finite

    async def _filled(self, enriched: Sequence[EnrichedSignUp], filling: Generation | None) -> list[EnrichedSignUp]:
        """Virtual behaviour of the filling generation for the users that need it. A failure of its tower is not raised.

        1. read of its slot; 2. its tower; 3. the answer is checked.
        """
        if filling is None or not enriched:
            return []
        known = await self._known([each.known.sign_up for each in enriched], filling)
        needing = [each for each in known if each.needs_virtual]
        try:
            async with asyncio.timeout(FILLING_SECONDS):
                made, not_finite = await self._made(needing, filling)
        except (ForetasteError, TimeoutError):
            self._metrics.unfilled.labels("tower").inc(len(needing))
            return []
        self._metrics.unfilled.labels("non_finite").inc(len(not_finite))
        return made

    def _decode(self, messages: Sequence[Message]) -> tuple[list[SignUp], list[DeadLetter]]:
        now_ms = round(self._now() * 1000)
        sign_ups: list[SignUp] = []
        bad: list[DeadLetter] = []
        for message in messages:
            event = decode_registered(message, now_ms=now_ms, max_bytes=self._max_event_bytes)
            if isinstance(event, DeadLetter):
                bad.append(event)
            else:
                claimed_ms = None if event.registered_at is None else to_ms(event.registered_at)
                at_ms = event_time_ms(claimed_ms, message.origin, now_ms)
                self._metrics.count_ahead("sign-up", claimed_ms, at_ms)
                sign_ups.append(SignUp(message, event, at_ms))
        return sign_ups, bad

    async def _known(self, sign_ups: Sequence[SignUp], generation: Generation) -> list[KnownSignUp]:
        users = list(dict.fromkeys(each.event.user_id for each in sign_ups))
        features = await self._parts.store.read(users, generation.number)
        stored = {each.user_id: each for each in features}
        return [KnownSignUp(each, stored[each.event.user_id], generation) for each in sign_ups]

    async def _made(
        self, needing: Sequence[KnownSignUp], generation: Generation
    ) -> tuple[list[EnrichedSignUp], list[KnownSignUp]]:
        """The sign-ups whose virtual behaviour was made, and those for which it is not finite."""
        vectors = await virtual_behaviour(self._parts.towers, [each.attributes for each in needing], generation)
        made: list[EnrichedSignUp] = []
        not_finite: list[KnownSignUp] = []
        for each, virtual, good in zip(needing, vectors, finite(vectors), strict=True):
            if good:
                made.append(EnrichedSignUp(each, VirtualBehaviour(generation.number, virtual)))
            else:
                not_finite.append(each)
        return made, not_finite

    async def _write(self, enriched: Sequence[EnrichedSignUp], filled: Sequence[EnrichedSignUp]) -> None:
        rows = {each.user_id: each.row for each in enriched}
        attributes = [row for row in rows.values() if isinstance(row, EnrichedUser)]
        beside = [each.beside(rows[each.user_id]) for each in filled]
        alone = [row for row in (*rows.values(), *beside) if isinstance(row, ReenrichedUser)]
        if attributes:
            await self._parts.store.write_enriched(attributes)
        if alone:
            await self._parts.store.write_virtual(alone)
        self._metrics.filled.inc(len(filled))

    async def _announce(self, enriched: Sequence[EnrichedSignUp], generation: Generation) -> None:
        at = datetime.fromtimestamp(self._now(), UTC)
        events = [
            UserEnriched(user_id=each.user_id, generation=generation.number, enriched_at=at)
            for each in enriched
            if each.known.stage is not Stage.WARM
        ]
        await self._parts.events.send_all(
            self._enriched_topic, [(each.user_id.encode(), EVENTS.encode(each)) for each in events]
        )
        self._metrics.enriched.inc(len(events))


def _newest(enriched: Sequence[EnrichedSignUp]) -> list[EnrichedSignUp]:
    """One a user: the latest of those that replace what is stored, which remembers the others. One that comes again
    under its id counts the first time."""
    newest: dict[str, EnrichedSignUp] = {}
    for each in enriched:
        held = newest.get(each.user_id)
        if held is None:
            newest[each.user_id] = each
            continue
        version, other = each.known.sign_up.version, held.known.sign_up.version
        known = AttributesVersion(other.at_ms, other.place, (*held.before, *other.digests))
        if version.replaces(known) if each.known.newer == held.known.newer else each.known.newer:
            newest[each.user_id] = replace(each, before=known.digests)
        else:
            newest[each.user_id] = replace(held, before=(*held.before, *version.digests))
    return list(newest.values())


def _not_finite(known: KnownSignUp) -> DeadLetter:
    problem = f"virtual behaviour of generation {known.generation.number} is not finite"
    detail = str(InvalidInput("attributes", dict(known.attributes), problem))
    return DeadLetter(known.sign_up.message, Reason.NON_FINITE, detail)
