"""The way of a sign-up, from Kafka records to virtual behaviour that can be read. Only ports: no Kafka, no Triton."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.event_order import AttributesVersion
from foretaste.kernel.events import DeadLetter, Message, Reason, UserEnriched, event_time_ms
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.durability import OneStepStore
from foretaste.kernel.users import Stage, UserFeatures, VirtualBehaviour
from streams.codec import EVENTS
from streams.decoding import decode_registered
from streams.parts import SignUpParts
from streams.profiles.stored_profiles import ProfilesAfterErasures
from streams.rules import to_ms
from streams.shares import each_share, shares_by_user
from streams.sign_ups.attribute_check import AttributeCheck
from streams.sign_ups.first_registrations import with_first_registrations
from streams.sign_ups.rows import EnrichedSignUp, KnownSignUp, SignUp, StoredShare, in_order, newest
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics
from streams.zero_shot import finite, virtual_behaviour

FILLING_SECONDS = 0.5
"""For which a batch waits for the tower of the generation that is filling."""
ROUNDS = 5
"""Reads and writes of one batch while other workers write for the same users; after them the batch waits and is tried
again as a whole, as the worker's retry policy says."""


class _StoredVersions(NamedTuple):
    """What the store compares of a user, as it was read."""

    attributes_version: AttributesVersion
    virtual_ms: int


class SignUps:
    """Handles batches of `user-registered` messages, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter.
    2. Of users of whom nothing is stored, no read would tell anything: while most are, and the store can
       (`OneStepStore`), virtual behaviour is made for all, and written with the attributes if nothing is stored, in one
       step, which says of whom something is. Those go on as all others, and so do all while a generation is filling.
    3. One read of the users' behaviour tells cold, warming and warm. A warm user needs no virtual behaviour; nor does
       one whose stored one the active generation can read, if the sign-up brings no newer attributes (a replay).
       A large batch does 2 to 5 in shares, each user in one.
    4. One call of the zero-shot tower, pinned to the active generation, turns attributes into virtual behaviour: the
       sign-up's if they are newer than the stored ones, the stored ones otherwise. While another generation is filling,
       3 and 4 are done for it too, with its own `warm_after`, its slot and a call pinned to it.
    5. The answer is checked: another shape than the generation's stops the batch, what is not finite becomes a dead
       letter. Attributes and virtual behaviour are written with their generation, in one write. Virtual behaviour made
       from attributes that are stored already (for a sign-up that is sent again, of another generation than what the
       slot holds) is written alone; so is that of the filling generation, behind the attributes that it belongs to.
       The store compares in the same step, and refuses what does not belong to what stands by now: 3 to 5 are done
       again for the users of whom another came between. A sign-up that is outdone is remembered in the same step, so
       that it does not count when it is sent again. One from before the first registration is stored as that, and what
       the store holds of it by then is read for `user-profiles`. Where the parts say so, the store's disk is waited
       for, once a batch.
    6. `user-enriched`, `user-profiles` and the dead letters are produced; on return the messages may be acknowledged.

    Raising at any step leaves nothing acknowledged, and all steps may be repeated: what is written is keyed by user,
    and the store decides in one step whether it takes the place of what is stored by then, whoever else writes and
    however long this worker stood still. Dead letters are produced last, so that waiting for a part repeats none.

    Of several sign-ups of a user the latest stays, in one batch as in several: by `event_time_ms`, and of those of one
    time the later in the topic. Sign-ups without a key lie in any partition, so that time alone orders them, and where
    it is one, Kafka's timestamp. `user-enriched` is produced once for each user whose
    virtual behaviour can now be read, written just now or before, and not for a warm user, where it would not be true.
    It tells of the active generation alone, which is the one that readers use. `user-profiles` is produced for each
    user whose registration is stored, warm or not: an emptied store is filled again from it. Who was erased meanwhile,
    or is known as erased when the sign-up comes again, has a null value behind it (`ProfilesAfterErasures`).

    The filling generation holds no sign-up up: if its tower is away, does not answer within `FILLING_SECONDS` or
    answers badly, that is counted, and re-enrichment or a read repair makes what is missing.

    Raises `Unavailable` when a part is away, when no generation is active yet, when others still write for the same
    users after `ROUNDS`, and when the active generation answers with the wrong shape: the sign-ups are good, so they
    wait until a person moves the pointer.
    """

    def __init__(
        self,
        parts: SignUpParts,
        dead_letters: DeadLetters,
        metrics: Metrics,
        *,
        enriched_topic: str,
        profiles_topic: str,
        max_event_bytes: int,
        now: Clock,
        check: AttributeCheck | None = None,
    ) -> None:
        self._parts = parts
        self._check = check or AttributeCheck(metrics, None)
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._enriched_topic = enriched_topic
        self._profiles_topic = profiles_topic
        self._after_erasures = ProfilesAfterErasures(parts, profiles_topic)
        self._max_event_bytes = max_event_bytes
        self._now = now
        self._one_step = parts.store if isinstance(parts.store, OneStepStore) else None
        self._mostly_new = True
        """Of the last share's users: of most of them nothing was stored."""

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
        last_erasure = await self._after_erasures.last()
        store = partial(self._stored, active=serving.active, filling=serving.filling)
        stored = await each_share(store, shares_by_user(sign_ups, lambda each: each.event.user_id))  # 2 to 5
        enriched = [each for share in stored for each in share.enriched]
        not_finite = [each for share in stored for each in share.not_finite]
        if self._parts.synced is not None:
            await self._parts.synced.synced()  # 5
        await self._announce(enriched, serving.active)  # 6
        await self._after_erasures.look(last_erasure, {each.user_id: each.recorded_times_ms for each in enriched})
        await self._after_erasures.settle([user_id for share in stored for user_id in share.forgotten])
        for stage, count in Counter(each.known.stage for each in enriched).items():
            self._metrics.sign_ups.labels(stage).inc(count)
        dropped = len(sign_ups) - len(not_finite) - sum(each.known.newer for each in enriched)
        self._metrics.dropped.labels("sign-up", "not_newer").inc(dropped)
        unlooked = [attributes for share in stored for attributes in share.unlooked]
        unknown = sum((share.unknown for share in stored), Counter[str]())
        await self._check.note([each.event.attributes for each in sign_ups], serving.active, unknown, unlooked)
        return [_not_finite(each) for each in not_finite]

    async def _stored(self, sign_ups: Sequence[SignUp], active: Generation, filling: Generation | None) -> StoredShare:
        """Steps 2 to 5 for a share of the batch."""
        share, left = StoredShare(), sign_ups
        if self._one_step is not None and self._mostly_new and filling is None:
            share, left = await self._new(sign_ups, active, self._one_step)  # 2
        previous_reads: dict[str, _StoredVersions] = {}
        for _ in range(ROUNDS):
            if not left:
                break
            left = await self._read_and_written(left, active, filling, share, previous_reads)  # 3 to 5
        if left:
            users = len({each.event.user_id for each in left})
            raise Unavailable("sign-ups", f"others write for {users} users of this batch at the same time")
        self._mostly_new = 2 * share.unseen >= len(sign_ups)
        return share

    async def _read_and_written(
        self,
        sign_ups: Sequence[SignUp],
        active: Generation,
        filling: Generation | None,
        share: StoredShare,
        previous_reads: dict[str, _StoredVersions],
    ) -> list[SignUp]:
        """Steps 3 to 5 once, added to `share`; the sign-ups of users of whom another came between.

        `previous_reads` holds what of them was read in the last round, and then what is read now: where that is the
        same, the store has told the same row twice that it is out of place, and what was stored stays.
        """
        known = await self._known(sign_ups, active)  # 3
        share.unseen += sum(each.stored.attributes is None for each in known) if not previous_reads else 0
        needing = [each for each in known if each.needs_virtual]
        made, not_finite = await self._made(needing, active, share.unknown)  # 4, 5
        share.not_finite += not_finite
        enriched = newest(in_order(known, made, not_finite))
        again = await self._write(enriched, await self._filled(enriched, filling))  # 5
        done = [each for each in enriched if each.user_id not in again and not each.known.forgotten]
        share.enriched += await with_first_registrations(self._parts.store, done, active)  # 5
        share.forgotten |= {each.user_id for each in enriched if each.known.forgotten}
        share.unlooked += [each.known.attributes for each in done if each.virtual is None and each.known.newer]
        if not again:
            return []
        refused_users = [each.stored for each in known if each.stored.user_id in again]
        reads = {user.user_id: _StoredVersions(user.attributes_version, user.virtual_ms) for user in refused_users}
        again = {user_id for user_id in again if previous_reads.get(user_id) != reads[user_id]}
        previous_reads |= reads
        bad = {id(each.sign_up) for each in not_finite}
        return [each for each in sign_ups if each.event.user_id in again and id(each) not in bad]

    async def _new(
        self, sign_ups: Sequence[SignUp], generation: Generation, store: OneStepStore
    ) -> tuple[StoredShare, list[SignUp]]:
        """Those of users of whom nothing was stored, written; and the others, whose users are to be read."""
        nothing = [KnownSignUp(each, UserFeatures(each.event.user_id), generation) for each in sign_ups]
        share = StoredShare()
        try:
            made, not_finite = await self._made(nothing, generation, share.unknown)
        except Unavailable:  # whoever needs no virtual behaviour goes on without the tower
            return StoredShare(), list(sign_ups)
        left_out = {each.stored.user_id for each in not_finite}
        enriched = newest([each for each in made if each.user_id not in left_out])
        rows = [row for each in enriched if (row := each.registration) is not None]
        left_out.update(await store.write_new(rows) if rows else ())
        share.enriched = [each for each in enriched if each.user_id not in left_out]
        share.unseen = len(share.enriched)
        if left_out:  # what was counted is of theirs too
            share.unknown.clear()
            share.unlooked = [each.known.attributes for each in share.enriched]
        return share, [each for each in sign_ups if each.event.user_id in left_out]

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
        stored = {each.user_id: each for each in await self._parts.store.read(users, generation.number)}
        return [KnownSignUp(each, stored[each.event.user_id], generation) for each in sign_ups]

    async def _made(
        self, needing: Sequence[KnownSignUp], generation: Generation, unknown: Counter[str] | None = None
    ) -> tuple[list[EnrichedSignUp], list[KnownSignUp]]:
        """The sign-ups whose virtual behaviour was made, and those for which it is not finite; adds to `unknown`."""
        attributes = [each.attributes for each in needing]
        if unknown is None:
            vectors = await virtual_behaviour(self._parts.towers, attributes, generation)
        else:
            vectors, found = await self._check.virtual_behaviour(self._parts.towers, attributes, generation)
            unknown.update(found)
        made: list[EnrichedSignUp] = []
        not_finite: list[KnownSignUp] = []
        for each, virtual, good in zip(needing, vectors, finite(vectors), strict=True):
            if good:
                made.append(EnrichedSignUp(each, VirtualBehaviour(generation.number, virtual)))
            else:
                not_finite.append(each)
        return made, not_finite

    async def _write(self, enriched: Sequence[EnrichedSignUp], filled: Sequence[EnrichedSignUp]) -> set[str]:
        """The users whose rows the store refused, or took, otherwise than what was read of them told."""
        store = self._parts.store
        kept = [each for each in enriched if not each.known.newer]
        newer = {each.user_id: row for each in enriched if each.known.newer and (row := each.registration) is not None}
        outdone = {each.user_id: row for each in kept if (row := each.registration) is not None}
        again = set[str]()
        if newer or outdone:
            again.update(await store.write_enriched([*newer.values(), *outdone.values()]))
            again ^= outdone.keys()
        repairs = [made for each in kept if each.user_id not in again and (made := each.repair) is not None]
        if repairs:
            again.update(await store.write_virtual(repairs))
        rows = [each.beside(newer.get(each.user_id)) for each in filled if each.user_id not in again]
        beside = [row for row in rows if row is not None]
        if beside:
            refused = await store.write_virtual(beside)
            self._metrics.filled.inc(len(beside) - len(refused))
        return again

    async def _announce(self, enriched: Sequence[EnrichedSignUp], generation: Generation) -> None:
        at = datetime.fromtimestamp(self._now(), UTC)
        events = [
            UserEnriched(user_id=each.user_id, generation=generation.number, enriched_at=at)
            for each in enriched
            if each.known.stage is not Stage.WARM
        ]
        announced = [(each.user_id.encode(), EVENTS.encode(each)) for each in events]
        profiles = [profile for each in enriched if (profile := each.profile) is not None]
        await asyncio.gather(
            self._parts.events.send_all(self._enriched_topic, announced),
            self._parts.events.send_all(self._profiles_topic, profiles),
        )
        self._metrics.enriched.inc(len(events))


def _not_finite(known: KnownSignUp) -> DeadLetter:
    problem = f"virtual behaviour of generation {known.generation.number} is not finite"
    detail = str(InvalidInput("attributes", dict(known.attributes), problem))
    return DeadLetter(known.sign_up.message, Reason.NON_FINITE, detail)
