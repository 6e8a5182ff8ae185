"""The way of an erasure in the store: a user is forgotten, and a record stays that does not tell of whom."""

from collections.abc import Sequence
from datetime import UTC, datetime

from foretaste.kernel.events import Message
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.erasing import ErasureRecord
from foretaste.kernel.users import UserFeatures
from streams.codec import EVENTS
from streams.decoded_erasures import ANY_SLOT, DecodedErasure, decoded, erase_in_turns
from streams.parts import SignUpParts
from streams.profiles.stored_profiles import settle_profiles
from streams.topics import TopicNames
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics


class Erasures:
    """Handles batches of `user-erased` messages, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter.
    2. One read tells how much the store holds of the users, for the records.
    3. The store forgets them, but for who registered anew since, and says that somebody was erased; where the parts say
       so, its disk is waited for.
    4. `user-profiles` gets null for each, and of who registered anew what stands, with no first registration of before,
       until that does not change meanwhile: whoever signs a user up at the same time may have produced the profile just
       before the null value.
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
        user_ids = list(dict.fromkeys(each.event.user_id for each in erasures))
        found = {each.user_id: each for each in await self._parts.store.read(user_ids, ANY_SLOT)}  # 2
        anew = set(await erase_in_turns(self._parts.store, erasures))  # 3
        if self._parts.last_erasure is not None:
            await self._parts.last_erasure.change()
        if self._parts.synced is not None:
            await self._parts.synced.synced()
        await settle_profiles(self._parts, self._topics.profiles, user_ids, user_ids)  # 4
        records = [self._record(each, found[each.event.user_id], anew=each.event.user_id in anew) for each in erasures]
        await self._parts.events.send_all(
            self._topics.erasure_records, [(None, EVENTS.encode(record)) for record in records]
        )
        self._metrics.erasures.labels("erased").inc(len(user_ids) - len(anew))
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
