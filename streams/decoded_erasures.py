"""Erasures as they were read: of which user, and their place in the order of the user's registrations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from foretaste.kernel.event_order import AttributesVersion
from foretaste.kernel.events import DeadLetter, Message, UserErased, event_digest, event_time_ms
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.erasing import ErasedUser, ErasingStore
from streams.decoding import decode_erased
from streams.rules import to_ms

ANY_SLOT = 1
"""The slot that is read with a user, of no matter: what is looked at lies in none."""


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


def erasures_in_turns(erasures: Sequence[DecodedErasure]) -> list[list[ErasedUser]]:
    """As the store takes them, each user once in a turn, and a user's erasures in their order.

    The store tells of each whether it was carried out before: of one that stood for the others of its user, which is a
    copy maybe, it would tell that of all.
    """
    turns: list[list[ErasedUser]] = []
    taken: Counter[str] = Counter()
    for each in erasures:
        user_id = each.event.user_id
        if taken[user_id] == len(turns):
            turns.append([])
        turns[taken[user_id]].append(ErasedUser(user_id, each.version))
        taken[user_id] += 1
    return turns


async def erase_in_turns(store: ErasingStore, erasures: Sequence[DecodedErasure]) -> list[str]:
    """Carry them out; the users who registered anew since."""
    anew: dict[str, bool] = {}
    for users in erasures_in_turns(erasures):
        known = set(await store.erase(users))
        anew |= {user.user_id: user.user_id in known for user in users}
    return [user_id for user_id, is_back in anew.items() if is_back]
