"""Erasures as they were read: of which user, and their place in the order of the user's registrations."""

from collections.abc import Sequence
from dataclasses import dataclass

from foretaste.kernel.events import DeadLetter, Message, UserErased, event_digest, event_time_ms
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import AttributesVersion
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


def erased_users(erasures: Sequence[DecodedErasure]) -> list[ErasedUser]:
    """Each user once, as the store takes them: with the latest erasure, which remembers the user's others."""
    latest: dict[str, AttributesVersion] = {}
    for each in erasures:
        held, version = latest.get(each.event.user_id, AttributesVersion()), each.version
        latest[each.event.user_id] = version.after(held) if version.replaces(held) else held.outdoing(version)
    return [ErasedUser(user_id, version) for user_id, version in latest.items()]
