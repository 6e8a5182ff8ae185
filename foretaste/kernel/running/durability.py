"""What a store can do besides its port, for its own durability or speed (one that cannot has not these methods)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from foretaste.kernel.users import EnrichedUser, LaterBehaviour, UserFeatures
from foretaste.kernel.values import Partition


@runtime_checkable
class EvictingStore(Protocol):
    """A store that may let go of users by itself, where it is set up so."""

    async def eviction(self) -> str | None:
        """The policy by which it does so when it is full; None where it refuses writes instead."""
        ...


@runtime_checkable
class SyncedStore(Protocol):
    """A store that can be waited for until a power cut takes nothing back."""

    async def synced(self) -> None:
        """Returns once whatever was written before the call lies on the disk.

        Raises `Unavailable` where that takes too long, and where the server keeps no file.
        """
        ...


@runtime_checkable
class OffsetStore(Protocol):
    """A store that keeps, beside the users, how far each partition's events have had their effects in it.

    An offset is written behind the effects that it tells of. So a store that lost the newest of what it held (a power
    cut, a replica that took over) holds an offset that its reader has passed already, and an emptied one holds none.

    What was lost between an effect and its offset leaves the offsets as they were believed to be. That the server was
    started anew, or is another one, tells it.

    A behaviour that names the partitions it was read from (`read_from`) is compared with the offsets in the step of its
    write: where the store stands behind its last answer to this client, `Unavailable` is raised. On top of lost writes
    it would stand before what is then read again, where times are equal. A store of several servers, whose offsets may
    lie on another one than the user, does not compare.
    """

    async def begin_offsets(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int | None]:
        """What was held of each partition, None where nothing was. From now on, `starts` is held where it is less."""
        ...

    async def advance_offsets(self, moves: Mapping[Partition, tuple[int, int]]) -> Mapping[Partition, int | None]:
        """Move each partition from the first number to the second, if it stands there.

        Of those that do not, where they stand: None for nowhere. They stay there.
        """
        ...

    async def holds_users(self) -> bool:
        """Whether it holds attributes of anybody."""
        ...

    async def server_run(self) -> str:
        """Names the run of the server: another one after each start, and of a replica that took over.

        Empty where that is not told.
        """
        ...


@runtime_checkable
class WholeUserStore(Protocol):
    """A store that is filled faster than by writes that compare, where it holds nothing yet."""

    async def write_whole(self, users: Sequence[UserFeatures]) -> list[str]:
        """Users as they once were read, each unless anything is stored of them; the ids of those of whom something is.

        Attributes, their registration, behaviour, `applied` and virtual behaviour are written in the step that looks.
        """
        ...


@runtime_checkable
class OneStepStore(Protocol):
    """An online store that carries the usual case out without a read before it, compared and written in one step.

    Whoever is left out stays as stored: the reads and writes of `OnlineStore` are for those. Raises as they do.
    """

    async def append_behaviour(self, users: Sequence[LaterBehaviour]) -> list[str]:
        """Behaviours of B users behind what is stored of each, who stands there once; the ids of those left out.

        Left out is whoever has a stored behaviour that is as late, whom one was applied to before, who was erased at
        any time, whose full row says what was passed over, which goes first, or whose stored row was left by another
        writer: they are to be read. Else it is as `write_behaviour` writes it.
        """
        ...

    async def write_new(self, users: Sequence[EnrichedUser]) -> list[str]:
        """Attributes and virtual behaviour of B users, each once, of whom nothing is stored, nor that they were erased;
        the ids of all others."""
        ...


class LastOffsets:
    """Where a store stood by its last answer, by partition: one that stands behind it lost writes since."""

    def __init__(self) -> None:
        self._offsets: dict[Partition, int] = {}

    def begun(self, starts: Mapping[Partition, int], found: Mapping[Partition, int | None]) -> None:
        """`begin_offsets(starts)` answered `found`."""
        for each, start in starts.items():
            held = found[each]
            self._offsets[each] = start if held is None else min(start, held)

    def advanced(self, moves: Mapping[Partition, tuple[int, int]], elsewhere: Iterable[Partition]) -> None:
        """`advance_offsets(moves)` answered `elsewhere`. What moves nothing tells nothing: it may be answered late."""
        moved = {each: to for each, (old, to) in moves.items() if to != old and each not in elsewhere}
        self._offsets |= moved

    def of(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Of those that are known."""
        return {each: self._offsets[each] for each in partitions if each in self._offsets}
