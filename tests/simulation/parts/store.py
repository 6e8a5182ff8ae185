"""One Redis in memory that holds users, offsets, generations, leases and progress, and the ports of its clients.

The semantics are those of `foretaste.testing`, which the conformance suites hold to the Lua scripts. A row is one step
of the server here as there: a call for several may break off between two, and others' steps may come between them.
"""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from copy import copy
from functools import partial
from typing import Any, TypeVar

from features.redis.server_run import ASK_EVERY
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import Generation, Move, Serving
from foretaste.kernel.running.durability import LastOffsets
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, EnrichedUser, LaterBehaviour, ReenrichedUser, UserFeatures
from foretaste.kernel.values import Partition
from foretaste.testing import (
    InMemoryGenerations,
    InMemoryLastErasure,
    InMemoryLease,
    InMemoryOffsets,
    InMemoryOneStepStore,
    InMemoryProgress,
    LeaseBoard,
)
from tests.simulation.parts.world import Part, World, at_once

T = TypeVar("T")
R = TypeVar("R")

Row = EnrichedUser | ReenrichedUser | BehavedUser | LaterBehaviour

SEEN: ContextVar["defaultdict[str, list[tuple[UserFeatures, ...]]] | None"] = ContextVar("seen", default=None)
"""By user, what both slots held each time that the batch at work read the user, or wrote what the store took. A batch
begins by asking which generations serve."""


class Redis(Part):
    """All that is stored, and what was stored some writes ago. `wrote` hears of each row, `restored` of a loss."""

    def __init__(self, world: World) -> None:
        super().__init__(world, partial(Unavailable, "redis"))
        self.online = InMemoryOneStepStore()
        self.offsets = InMemoryOffsets()
        self.generations = InMemoryGenerations(world.now)
        self.progress = InMemoryProgress()
        self.board = LeaseBoard(world.loop.time)
        self.last_erasure = InMemoryLastErasure()
        self.wrote: Callable[[Row], None] = lambda row: None
        self.erased: Callable[[ErasedUser], None] = lambda user: None
        self.advanced: Callable[[Mapping[Partition, tuple[int, int]]], None] = lambda moves: None
        self.restored: Callable[[], None] = lambda: None
        self.pointed: Callable[[str], None] = lambda what: None
        self.walked: Callable[[int, str], None] = lambda generation, state: None
        self.handled_at = 0.0
        """When somebody heard last that every page of a re-enrichment is handled."""
        self.run = 1
        """Of the server: another one after each start."""
        self.keeps_history = False
        self._nothing = self._copied()
        self._history = [self._nothing]
        self._on_disk = 0

    def keep_history(self) -> None:
        """What is stored now is never lost but with everything, and what is written from now on may be."""
        self.keeps_history = True
        self._history = [self._copied()]
        self._on_disk = 0

    def written(self) -> None:
        """A command has changed something: what was there before is kept, where something is to be lost."""
        if not self.keeps_history:
            return
        self._history.append(self._copied())

    def sync(self) -> None:
        """What was written until now survives a power cut."""
        self._on_disk = len(self._history) - 1

    def lose(self, writes: int, *, power_cut: bool) -> None:
        """The newest writes are gone: after a power cut those that were not on the disk, else whichever."""
        last = len(self._history) - 1
        back = max(last - writes, self._on_disk if power_cut else 0)
        while back < last and not self._history[back]["offsets", "held"]:
            back += 1  # without any word it is an emptied store, which is another fault
        self._restore(self._history[back])
        del self._history[back + 1 :]
        self._on_disk = min(self._on_disk, back)
        self.world.note("lost", last - back, "writes")

    def empty(self, *, restarts: bool) -> None:
        """Everything is gone; a server that does not start anew keeps its connections."""
        self._restore(self._nothing, restarts=restarts)
        self._history = [self._nothing]
        self._on_disk = 0
        self.world.note("emptied")

    def _copied(self) -> dict[tuple[str, str], Any]:
        return {
            (part, name): copy(value)
            for part in ("online", "offsets", "generations", "progress", "board", "last_erasure")
            for name, value in vars(getattr(self, part)).items()
            if name not in ("_now", "clock", "run")
        }

    def _restore(self, state: Mapping[tuple[str, str], Any], *, restarts: bool = True) -> None:
        for (part, name), value in state.items():
            setattr(getattr(self, part), name, copy(value))
        if restarts:
            self.run += 1
            self.break_connections()
        self.restored()


class SimulatedStore:
    """The `OnlineStore` and the `OffsetStore` of one process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._last = LastOffsets()
        self._connected = self._known = 0
        """The run of the server that answered last, and the one that it named when it was asked."""
        self._asked_at = 0.0

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        def effect(user_id: str) -> UserFeatures:
            self._seen(user_id)
            return at_once(self._redis.online.read([user_id], generation))[0]

        return await self._each(user_ids, effect, "read")

    async def read_behaviour(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        return await self._each(user_ids, lambda each: at_once(self._redis.online.read_behaviour([each]))[0], "read")

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
        refused = await self._each(users, partial(self._written, "attributes", self._redis.online.write_enriched))
        return [user_id for each in refused for user_id in each]

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> list[str]:
        refused = await self._each(users, partial(self._written, "virtual", self._redis.online.write_virtual))
        return [user_id for each in refused for user_id in each]

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        return await self._appended("behaviour", self._redis.online.write_behaviour, users)

    async def erase(self, users: Sequence[ErasedUser]) -> list[str]:
        anew = await self._each(users, self._erased)
        return [user_id for each in anew for user_id in each]

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        return await self._call(lambda: at_once(self._redis.online.users(cursor, count)))

    async def begin_offsets(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int | None]:
        def effect() -> Mapping[Partition, int | None]:
            found = at_once(self._redis.offsets.begin_offsets(starts))
            self._redis.world.note("begin", _shown(starts), "found", _shown(found))
            return self._changed(found)

        found = await self._call(effect)
        self._last.begun(starts, found)
        return found

    async def advance_offsets(self, moves: Mapping[Partition, tuple[int, int]]) -> Mapping[Partition, int | None]:
        def effect() -> Mapping[Partition, int | None]:
            elsewhere = at_once(self._redis.offsets.advance_offsets(moves))
            self._redis.world.note("advance", _shown(moves), "elsewhere", _shown(elsewhere))
            self._redis.advanced({each: move for each, move in moves.items() if each not in elsewhere})
            return self._changed(elsewhere) if any(old != new for old, new in moves.values()) else elsewhere

        elsewhere = await self._call(effect, "advance")
        self._last.advanced(moves, elsewhere)
        return elsewhere

    async def server_run(self) -> str:
        """As `ServerRun` has it: asked for where another run answered since, and each second."""
        now = self._redis.world.loop.time()
        if self._known != self._connected or now - self._asked_at >= ASK_EVERY:
            self._known, self._asked_at = await self._call(lambda: self._redis.run), now
        return str(self._known)

    async def holds_users(self) -> bool:
        users, _ = await self.users(count=1)
        return bool(users)

    async def synced(self) -> None:
        """The append-only file is waited for."""
        await self._call(self._redis.sync)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _call(self, effect: Callable[[], T], name: str = "") -> T:
        def connected() -> T:
            self._connected = self._redis.run
            return effect()

        return await self._redis.call(connected, name)

    async def _appended(
        self, view: str, write: Callable[[Sequence[Any]], Any], users: Sequence[BehavedUser] | Sequence[LaterBehaviour]
    ) -> list[str]:
        """As `_written`, where the store stands where it stood in the partitions that each row was read from."""
        stood = {user.user_id: self._last.of(user.read_from) for user in users}

        def effect(row: Any) -> list[str]:
            for each, least in stood[row.user_id].items():
                if self._redis.offsets.held.get(each, -1) < least:
                    raise Unavailable("redis", f"{each} stood at {least}")
            answer: list[str] = self._written(view, write, row)
            return answer

        refused = await self._each(users, effect)
        return [user_id for each in refused for user_id in each]

    def _written(self, view: str, write: Callable[[Sequence[Any]], Any], row: Any) -> Any:
        answer = at_once(write([row]))
        if not answer:
            self._seen(row.user_id)
        self._redis.world.note("write", view, row.user_id, "refused" if answer else "")
        self._redis.wrote(row)
        return self._changed(answer)

    def _seen(self, user_id: str) -> None:
        seen = SEEN.get()
        if seen is not None:
            seen[user_id].append(tuple(self._redis.online._features(user_id, parity) for parity in (1, 2)))

    def _erased(self, user: ErasedUser) -> list[str]:
        anew = at_once(self._redis.online.erase([user]))
        self._redis.world.note("erase", user.user_id, "registered anew" if anew else "")
        self._redis.erased(user)
        return self._changed(anew)

    def _changed(self, answer: T) -> T:
        self._redis.written()
        return answer

    async def _each(self, rows: Sequence[T], effect: Callable[[T], R], name: str = "write") -> list[R]:
        """One effect a row, in one round trip; now and then others come between two of them."""
        rng = self._redis.world.rng
        if not rows:
            return []
        cut = rng.randrange(1, len(rows)) if len(rows) > 1 and rng.random() < 0.3 else len(rows)
        first = await self._call(lambda: [effect(row) for row in rows[:cut]], name)
        if cut == len(rows):
            return first
        return [*first, *await self._call(lambda: [effect(row) for row in rows[cut:]], name)]


class SimulatedOneStepStore(SimulatedStore):
    """With the `OneStepStore` beside it, as the form on Redis has it; that of any Feast store has not."""

    async def append_behaviour(self, users: Sequence[LaterBehaviour]) -> list[str]:
        return await self._appended("later", self._redis.online.append_behaviour, users)

    async def write_new(self, users: Sequence[EnrichedUser]) -> list[str]:
        left_out = await self._each(users, partial(self._written, "new", self._redis.online.write_new))
        return [user_id for each in left_out for user_id in each]


class SimulatedGenerations:
    """The `Generations` port of one process. Whoever changes something is noted with what it is."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._held = redis.generations

    async def record(self, generation: Generation, popularity: Mapping[str, float]) -> None:
        await self._changes(f"record {generation.number}", lambda: self._held.record(generation, popularity))

    async def activate(self, number: int, expected: int | None, reason: str = "", *, filled: bool = False) -> bool:
        return await self._changes(
            f"activate {number}", lambda: self._held.activate(number, expected, reason, filled=filled)
        )

    async def fill(self, number: int | None) -> None:
        await self._changes(f"fill {number}", lambda: self._held.fill(number))

    async def retire(self, number: int) -> None:
        await self._changes(f"retire {number}", lambda: self._held.retire(number))

    async def highest(self) -> int:
        return await self._asks(self._held.highest)

    async def active(self) -> Generation | None:
        return await self._asks(self._held.active)

    async def serving(self) -> Serving:
        SEEN.set(defaultdict(list))
        return await self._asks(self._held.serving)

    async def numbers(self) -> list[int]:
        return await self._asks(self._held.numbers)

    async def moves(self, limit: int = 20) -> list[Move]:
        return await self._asks(lambda: self._held.moves(limit))

    async def get(self, number: int) -> Generation | None:
        return await self._asks(lambda: self._held.get(number))

    async def popular(self, number: int, count: int) -> list[str]:
        return await self._asks(lambda: self._held.popular(number, count))

    async def popularity(self, number: int, items: Sequence[str]) -> list[float | None]:
        return await self._asks(lambda: self._held.popularity(number, items))

    async def shares(self, number: int, most: int) -> Mapping[str, float] | None:
        return await self._asks(lambda: self._held.shares(number, most))

    async def close(self) -> None:
        """Nothing is held open."""

    async def _asks(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._redis.call(lambda: at_once(work()))

    async def _changes(self, what: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        def effect() -> T:
            answer = at_once(work())
            self._redis.world.note(what, answer)
            self._redis.written()
            self._redis.pointed(what)
            return answer

        return await self._redis.call(effect, what)


class SimulatedLease:
    """The `Lease` port of one process."""

    def __init__(self, redis: Redis, name: str, seconds: float) -> None:
        self._redis = redis
        self._held = InMemoryLease(redis.board, name, seconds=seconds)

    async def take(self) -> bool:
        return await self._changes("take", self._held.take)

    async def renew(self) -> bool:
        return await self._changes("renew", self._held.renew)

    async def give_back(self) -> None:
        await self._changes("give back", self._held.give_back)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _changes(self, what: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        def effect() -> T:
            answer = at_once(work())
            self._redis.world.note("lease", what, answer)
            self._redis.written()
            self._redis.pointed(f"lease {what}")
            return answer

        return await self._redis.call(effect)


class SimulatedLastErasure:
    """The `LastErasure` port of one process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self) -> str | None:
        return await self._redis.call(lambda: at_once(self._redis.last_erasure.read()))

    async def change(self) -> None:
        def effect() -> None:
            at_once(self._redis.last_erasure.change())
            self._redis.written()

        await self._redis.call(effect)

    async def close(self) -> None:
        """Nothing is held open."""


class SimulatedProgress:
    """The `Progress` port of one process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self, generation: int) -> str | None:
        return await self._redis.call(lambda: at_once(self._redis.progress.read(generation)))

    async def write(self, generation: int, state: str) -> None:
        await self._changes(lambda: self._redis.progress.write(generation, state))
        self._redis.walked(generation, state)

    async def forget(self, generation: int) -> None:
        await self._changes(lambda: self._redis.progress.forget(generation))

    async def _changes(self, work: Callable[[], Any]) -> None:
        def effect() -> None:
            at_once(work())
            self._redis.written()

        await self._redis.call(effect, "progress")

    async def close(self) -> None:
        """Nothing is held open."""


def _shown(words: Mapping[Partition, object]) -> str:
    return " ".join(f"{topic}/{number}={value}" for (topic, number), value in words.items())
