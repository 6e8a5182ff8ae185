"""The boundaries of Foretaste as Protocols. The stores and the log have in-memory forms, held to the same suites.

Every method raises `Unavailable` (retriable) when the part behind it does not answer, and nothing else unless stated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Protocol, TypeAlias

from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.generations import Generation, Move, Serving
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import PopularItems
from foretaste.kernel.users import BehavedUser, EnrichedUser, ReenrichedUser, UserFeatures
from foretaste.kernel.values import Attributes, FloatArray

if TYPE_CHECKING:
    import pyarrow as pa

Clock: TypeAlias = Callable[[], float]
"""Seconds since the epoch for what is stored, a monotonic count for ages; always an argument."""
Headers: TypeAlias = Sequence[tuple[str, bytes]]
Report: TypeAlias = Callable[[str, int, int | None], None]
"""`report(step, done, total)` tells how far a long step has come; `total` is None while it is unknown."""


def no_report(_step: str, _done: int, _total: int | None) -> None:
    """A `Report` that tells nobody."""


@contextmanager
def reported(report: Report, step: str) -> Iterator[None]:
    """Report a step of one piece: its beginning, and its end where it does not fail."""
    report(step, 0, 1)
    yield
    report(step, 1, 1)


@dataclass(frozen=True, eq=False, slots=True)
class Logged:
    """A part of the training log, each row once, in order of time.

    `rankings` and `behaviours` are Arrow tables whose columns are the fields of `UserRanked` and of `UserBehaved`:
    `attributes` and `context` as JSON texts (null where none were known), times as timestamps in UTC.
    `skipped` names the files that could not be read.
    """

    rankings: "pa.Table"
    behaviours: "pa.Table"
    skipped: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a re-enrichment came to, as its last walk over all users saw it."""

    users: int
    missing: int
    """Cold and warming users without current virtual behaviour."""
    rounds: int


@dataclass(frozen=True, slots=True)
class CompactedDays:
    """Days of the training log whose rows now lie in one file, and the names of files that could not be read."""

    days: Sequence[date]
    skipped: Sequence[str] = ()


class OnlineStore(Protocol):
    """Features of users for serving (Feast). Writes are idempotent and keyed by user id.

    Every write compares with what is stored, in the same step that writes: a writer that stood still meanwhile changes
    nothing when it goes on. A stored row that cannot be read hurts nobody else: what it holds counts as never written,
    `UserFeatures.damaged` names its view, and the next write replaces it.

    Three forms keep these promises. In memory and in Redis (`RedisStore`) all of them hold to the letter. Through
    Feast's API alone (`FeastStore`), which has no compare-and-set, no list of keys and no columns beside a view's, some
    are weaker:

    - Comparing and writing are two steps: of two writers for one user within the same few milliseconds the later wins.
    - "No newer" is told as exactly as the store keeps event times: in whole seconds on SQLite and MySQL. The place of a
      registration in Kafka is not kept, nor which ones came before. Of rows of one time the last written stays.
    - `users` finds whoever got attributes through this port. Rows of a team's own Feast client are read, not found.
    """

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        """Features of B users, in their order, in one round trip; `virtual` comes from the slot of `generation`.

        `applied` is left empty.
        """
        ...

    async def read_behaviour(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        """Of B users, in their order: the behaviour, its version and `applied`, which are what an append needs."""
        ...

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
        """Attributes of B users, and the virtual behaviour that was made from them; the ids of those that were refused.

        A row whose registration does not replace the stored one (`AttributesVersion.replaces`) is refused: a replay is
        harmless. Nothing changes but that the registration is remembered (`AttributesVersion.outdoing`), so that it
        does not count when it is sent again, and that it is the first one where it was before that. One that does
        replace it is written whole: no virtual behaviour passes for current any more but its own, whatever its slot or
        the other one holds, and as of whatever time.
        """
        ...

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> list[str]:
        """Virtual behaviour of B users alone, each unless its slot is as new, or the attributes are other ones by now
        than those that it was made from; the ids of those that were refused for that."""
        ...

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        """Whole behaviours of B users, each in place of the one that was read; the ids of those that were refused.

        The version and the event time that a row was made from are compared with the stored ones in the same step that
        writes it. Where they differ, somebody else wrote since: nothing changes, and the writer reads again.
        """
        ...

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        """A page of about `count` users who have attributes, and the cursor of the next one; None after the last.

        From the first cursor, "", to None, whoever was there throughout comes at least once. A cursor stays good
        whatever happens to its holder.
        """
        ...

    async def close(self) -> None: ...


class Towers(Protocol):
    """The two towers as served (Triton). Raw values and item ids go in; the vocabulary is the generation's."""

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        """Eq. 8 for B users: (B, M, D) float32. One call, pinned to `generation`."""
        ...

    async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        """Eq. 12 for the K candidates of each request: (K,) float32 probabilities; K may differ, and be 0."""
        ...

    async def unknown(self, items: Sequence[str], generation: int) -> list[str]:
        """Those of the items that the generation was not trained on: all of them score alike."""
        ...

    async def prepare(self, generation: int) -> None:
        """Bring here what asking for a generation needs beside the towers, so that no request waits for it."""
        ...

    async def close(self) -> None: ...


class TowerAdmin(Towers, Protocol):
    """Which generations of the towers answer. Versions are read from the model repository."""

    async def load(self, generation: int) -> None:
        """Make both towers of a published generation answer, beside the others.

        Raises `Unavailable` for one that is not published, or that cannot be read.
        """
        ...

    async def unload(self, generation: int) -> None:
        """Let go of a generation that was withdrawn from the repository; the others answer throughout."""
        ...

    async def ready(self, generation: int) -> bool:
        """Whether both towers of the generation answer."""
        ...


class Generations(PopularItems, Protocol):
    """The records of generations and the one authoritative pointer to the active one (Redis)."""

    async def record(self, generation: Generation, popularity: Mapping[str, float]) -> None:
        """Keep a generation's record and each of its items' share of interactions, both or nothing.

        A number keeps the record that it got first: the same one again changes nothing, another one raises
        `InvalidInput` naming the number (a training elsewhere took it; see `highest`).
        """
        ...

    async def highest(self) -> int:
        """The highest number that was ever recorded, 0 before the first: a new generation's number lies above it."""
        ...

    async def active(self) -> Generation | None:
        """The active generation, or None before the first."""
        ...

    async def activate(self, number: int, expected: int | None, reason: str = "", *, filled: bool = False) -> bool:
        """Move the pointer to `number` if it now stands at `expected` (None: nowhere); False if it does not.

        In the same step `expected` becomes the previous generation, what fills the slot of `number` stops filling (that
        one itself or, after a rollback, another), and the move is kept with its reason and whether it was `filled`.
        Raises `InvalidInput` when `number` was never recorded, or was retired.
        """
        ...

    async def serving(self) -> Serving:
        """The active generation, the one that is filling, and the previous one's number, of one instant."""
        ...

    async def fill(self, number: int | None) -> None:
        """From now on sign-ups get virtual behaviour of `number` too; None: of the active generation alone.

        Raises `InvalidInput` when `number` was never recorded, or when it shares the active generation's slot."""
        ...

    async def numbers(self) -> list[int]:
        """Every number that was recorded and not retired, rising."""
        ...

    async def moves(self, limit: int = 20) -> list[Move]:
        """The newest moves of the pointer, newest first."""
        ...

    async def retire(self, number: int) -> None:
        """Forget a generation's record for good; its number is never given again.

        Raises `InvalidInput` for one that is active, filling, the previous one, or not recorded.
        """
        ...

    async def get(self, number: int) -> Generation | None:
        """A recorded generation by its number."""
        ...

    async def popularity(self, number: int, items: Sequence[str]) -> list[float | None]:
        """Each item's share of the training interactions, None for an item that the generation does not know."""
        ...

    async def shares(self, number: int, most: int) -> Mapping[str, float] | None:
        """The shares of all items of a generation; None where they are more than `most`."""
        ...

    async def close(self) -> None: ...


class Events(Protocol):
    """Where events are produced (Kafka)."""

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Returns once the broker has acknowledged the event as durable.

        Raises `InvalidInput` for an event that the broker will never take (too large).
        """
        ...

    async def send_all(self, topic: str, events: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        """Many events at once; returns once all are durable."""
        ...

    async def close(self) -> None: ...


class TrainingLog(Protocol):
    """What was served and what users did, for training (Feast's offline store)."""

    async def write_rankings(self, rankings: Sequence[UserRanked]) -> None:
        """Returns once all are durable. Written again, a ranking is read once all the same."""
        ...

    async def write_behaviours(self, behaviours: Sequence[UserBehaved]) -> None:
        """Likewise; the same user and `event_id` are the same behaviour, or without one user, item, action and time."""
        ...

    async def read(self, since_ms: int, until_ms: int) -> Logged:
        """What happened from `since_ms` on and before `until_ms` (epoch milliseconds)."""
        ...


class LogUpkeep(Protocol):
    """What a training log needs beside its writers and readers, from one process at a time."""

    async def compact(self, before: date, ended: Callable[[], bool] = lambda: False) -> CompactedDays:
        """One file for each day before `before` (UTC), each row in it once. Anything may write and read meanwhile.

        `ended` is asked before each day, in a thread: once it is true, no other day is begun.
        """
        ...

    async def expire(self, before: date) -> Sequence[date]:
        """From now on, nothing that happened before `before` (UTC) is read; the days that were removed."""
        ...


class Backlog(Protocol):
    """What a consumer group has not handled yet of a topic (Kafka)."""

    async def remaining(self) -> int:
        """About how many events; 0 if and only if there is none."""
        ...


class Progress(Protocol):
    """Where the state of a re-enrichment is kept, by generation (Redis): durable once `write` returns."""

    async def read(self, generation: int) -> str | None: ...
    async def write(self, generation: int, state: str) -> None: ...
    async def forget(self, generation: int) -> None: ...
