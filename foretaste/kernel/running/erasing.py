"""The erasure of a user: what the parts that hold users do for it, as Protocols beside `foretaste.kernel.ports`.

Whoever is to be erased is named by the event `user-erased`. What remains of a user in the store is a fence: a time,
under the user's key, without attributes. The training log remembers a digest of the id and a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from pydantic import AwareDatetime

from foretaste.kernel.event_order import DIGEST_BYTES, AttributesVersion
from foretaste.kernel.events import Event
from foretaste.kernel.ports import OnlineStore, TrainingLog

ERASED = bytes(DIGEST_BYTES)
"""Stands as the last digest of a user who was erased, in the place of a registration's; no event has it."""

IN_FLIGHT_MS = 10_000
"""Milliseconds in which an answer that was made from what the store held is given, or has failed."""


def user_digest(user_id: str) -> bytes:
    """What stands for a user id where the id itself is not kept: `DIGEST_BYTES` bytes.

    It hides the id from whoever looks, not from whoever has a list of ids to try.
    """
    return blake2b(
        user_id.encode(errors="backslashreplace"), digest_size=DIGEST_BYTES, person=b"foretaste-user"
    ).digest()


class ErasureRecord(Event):
    """`erasure-records`: what stays of an erasure. Nothing in it tells of whom."""

    erasure: str
    """A digest of the sender's `event_id`, else the place of the event in Kafka: `topic/partition@offset`."""
    occurred_at: AwareDatetime
    erased_at: AwareDatetime
    """When all of it was gone from the online store."""
    behaviours: int
    """In the online store, before."""
    had_attributes: bool
    registered_anew: bool
    """A later registration stood there already: it stays, with what the user did since."""


@dataclass(frozen=True, slots=True)
class ErasedUser:
    """A user that is to be erased, and the erasure's place in the order of the user's registrations."""

    user_id: str
    version: AttributesVersion

    @property
    def fence(self) -> AttributesVersion:
        """What stands in the user's place."""
        return AttributesVersion(self.version.at_ms, self.version.place, (*self.version.digests, ERASED))


@dataclass(frozen=True, slots=True)
class LogErasure:
    """A user that is to be erased from the training log."""

    user_id: str
    at_ms: int
    """When the erasure happened (`event_time_ms`): what tells it from an earlier one, and a ranking that was answered
    from what was known before from one that was not."""
    until_ms: int
    """Up to then nothing of the user counts, whatever it tells; not before `at_ms`."""


class ErasingStore(OnlineStore, Protocol):
    """An online store that can erase users."""

    async def erase(self, users: Sequence[ErasedUser]) -> list[str]:
        """Forget attributes, behaviour and virtual behaviour of B users; the ids of those who registered anew since.

        In the place of a user stands a fence: a registration that does not replace the erasure
        (`AttributesVersion.replaces`) changes nothing, nor does any behaviour (`UserFeatures.erasure`), nor a writer
        that had read the user before. A later registration begins anew, and behaviours later than the erasure count
        again. One that stands there already stays, with the behaviours since the erasure.

        Done again, an erasure changes nothing, also under a later time: its digest is remembered among those of the
        registrations, whether it erased the user or came too late to.

        Through Feast's API alone the user's key stays, with empty values, and comparing and writing are two steps, as
        for every other write.
        """
        ...


class LastErasure(Protocol):
    """A word in the store that is another one after each batch of erasures, whoever carried it out.

    It changes behind the erasures and before their null values go to `user-profiles`. Whoever writes users and produces
    their profiles asks before the one and after the other: where the word is the same, no null value came between.
    """

    async def read(self) -> str | None:
        """None before the first one, and in a store that was emptied."""
        ...

    async def change(self) -> None:
        """A word that it never was before."""
        ...

    async def close(self) -> None: ...


class ErasingLog(TrainingLog, Protocol):
    """A training log that can erase users."""

    async def erase(self, erasures: Sequence[LogErasure]) -> None:
        """From now on nothing is read of these users that happened until `until_ms`.

        Of later rankings those count which show that they were answered from what came after `at_ms`: their
        `registered_at` is not before that, and all of their behaviours are later. Later behaviours count beside such a
        ranking. The next compaction removes what happened until `until_ms`, and the rankings that do not count.

        Returns once that is durable. An erasure that the log remembers, or a later one, changes nothing.
        """
        ...

    async def erased(self) -> Mapping[bytes, int]:
        """When users were last erased (epoch milliseconds), by digest (`user_digest`), as far back as the log
        remembers."""
        ...
