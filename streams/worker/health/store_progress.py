"""How far the store has come in each partition, by what it says itself: a lost tail is read again."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence, Set
from typing import TypeVar

from prometheus_client import Counter

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Origin
from foretaste.kernel.retrying import FailureStreak, until_it_succeeds
from foretaste.kernel.running.durability import OffsetStore
from foretaste.kernel.running.readiness import ProcessReadiness
from foretaste.kernel.running.supervision import cancel_and_wait
from foretaste.kernel.values import Partition

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks of a worker that handles nothing."""
LONGEST_PAUSE = 3.0
"""Seconds between two tries at most, while the store is away."""
BEGIN_SECONDS = 30.0
"""For which `begin` waits for the store: Faust gives it 90, and after that never reads again without a word."""

EMPTIED = "store"
"""The subject of a store that was emptied while no worker ran."""

Key = TypeVar("Key", bound=Partition)


def _least(offset: int, held: int | None) -> int:
    return offset if held is None else min(offset, held)


class LostTail(Exception):
    """The store lost writes that were acknowledged: the worker starts anew, and reads again from before them."""


class StoreProgress:
    """Compares what the store says of its progress with what a worker had it write.

    1. `begin`: a worker that gets partitions starts where Kafka says, or where the store says if that is earlier.
    2. `confirm`: before each try of a batch, a server that is not the one of before, or that failed the last try, still
       stands where its partitions had come.
    3. `note`: behind the effects of a batch, the store is told how far its partitions have come by it. Where the server
       is another one since the batch began, what it lost may be the effects of this batch alone, of which no offset
       tells: they are made once more, which is harmless.
    4. Where it stands behind what it was told before, it lost a tail, and where it stands nowhere, it was emptied.
       Nothing more is acknowledged then: `LostTail` ends the reading, and the next `begin` does 1. An emptied store is
       read again from the oldest event that Kafka has: each partition that this worker stood in, whoever has it by now
       and began it in the emptied store where the group stands.
       A word is compared with what the store was asked by, which this worker may have moved on meanwhile, and only of
       partitions that it has: `give_up` says that others may begin them, lower than they stood here.
    5. `run` looks each `LOOK_EVERY` seconds, since a partition may lie idle.
    6. A store that knows nothing of partitions that the group has come far in, and holds no user either, was emptied
       while no worker ran. Nobody but a person knows that it is not a new one: the process is not ready, and says why.

    A store that is ahead has another writer by now (this worker stood still meanwhile), who is not disturbed.
    """

    def __init__(
        self,
        store: OffsetStore,
        lost: Counter,
        readiness: ProcessReadiness | None = None,
        *,
        look_every: float = LOOK_EVERY,
        begin_within: float = BEGIN_SECONDS,
    ) -> None:
        """`lost` counts tails by `kind`: `tail`, `all`, or `unseen` for a store emptied while no worker ran."""
        self._store = store
        self._lost = lost
        self._readiness = readiness or ProcessReadiness()
        self._look_every = look_every
        self._begin_within = begin_within
        self._stands: dict[Partition, int] = {}
        """By partition that this worker began, where the store stands by its word."""
        self._held: set[Partition] = set()
        """Those of them that nobody else may have begun since."""
        self._ever: set[Partition] = set()
        """Partitions that this worker began at any time: of an emptied store, each is read anew, whoever has it."""
        self._emptied = False
        self._unseen: dict[Partition, int] = {}
        """Partitions of which the store held no word, and where the group stood in them: nobody looked yet why."""
        self.server_run = ""
        """The run of the store's server where this worker began."""
        self._streak = FailureStreak("where the store stands", time.monotonic)
        self._retrying = until_it_succeeds(longest=LONGEST_PAUSE, note=self._streak.note)
        self._busy = asyncio.Lock()
        self._closed = asyncio.Event()

    @property
    def waits_for(self) -> str | None:
        """Why partitions are not begun yet; None while none waits."""
        return self._streak.reason

    def open(self) -> None:
        """The worker starts: from now on `begin` waits for the store."""
        self._closed.clear()

    def close(self) -> None:
        """The worker stops, and reads nothing more: `begin` waits for nothing."""
        self._closed.set()

    async def begin(self, committed: Mapping[Key, int]) -> dict[Key, int]:
        """Where to start: `committed`, the group's offsets, or before them.

        Waits while the store is away, for `begin_within` seconds; raises `Unavailable` after that.
        """
        reason: str | None = None
        try:
            async with asyncio.timeout(self._begin_within), self._busy:
                beginning: asyncio.Task[dict[Key, int]] = asyncio.create_task(self._retrying(self._begin, committed))
                closing = asyncio.create_task(self._closed.wait())
                try:
                    await asyncio.wait({beginning, closing}, return_when=asyncio.FIRST_COMPLETED)
                    return beginning.result() if beginning.done() else dict(committed)
                finally:
                    reason = self._streak.reason
                    await cancel_and_wait(beginning, closing)
                    self._streak.over()
        except TimeoutError as error:
            detail = f"did not tell for {self._begin_within:g} s where it stands: {reason or 'no answer'}"
            raise Unavailable("store", detail) from error

    def give_up(self) -> None:
        """The worker has no partition any more, until it begins some."""
        self._held.clear()

    async def confirm(self, *, after_failure: bool = False) -> str:
        """The store has what came before, as far as its server's run tells; the run. Raises as `note` does.

        What is carried out on top of a lost tail would stand before what is then read again, where times are equal. The
        store compares too, in the step of a write: one that it refused is a failure, and after that it is asked.
        """
        server_run = await self._store.server_run()
        if after_failure or server_run != self.server_run:
            await self._look()
            self.server_run = server_run
        return server_run

    async def note(self, read_at: Sequence[Origin], server_run: str) -> bool:
        """The effects of the records that lay there were made, and `server_run` was the server's run before.

        False where it is another one by now: the effects are to be made again, and noted again, and the store's word
        stands as before. Whoever lost one tail may lose another behind the same word, and with it the effects. Raises
        `LostTail`; `Unavailable` if the store is away.

        A replayed record counts where it lies now, not where it was read first.
        """
        reached: dict[Partition, int] = {}
        for each in read_at:
            place = (each.topic, each.partition)
            reached[place] = max(reached.get(place, 0), each.offset + 1)
        stands = {place: self._stands[place] for place in reached if place in self._held}
        # never back: a broker that lost its topics counts from 0 again, which is no fault of the store
        moves = {place: (at, max(at, reached[place])) for place, at in stands.items()}
        if not moves:
            return True
        self._check(stands, await self._store.advance_offsets(moves))
        if await self._store.server_run() != server_run:
            await self._store.begin_offsets({place: before for place, (before, _) in moves.items()})
            return False
        for place, (before, to) in moves.items():
            if self._stands.get(place) == before:
                self._stands[place] = to
        return True

    async def run(self) -> None:
        """Look until cancelled; raises `LostTail`."""
        while True:
            await asyncio.sleep(self._look_every)
            async with self._busy:
                try:
                    await self._look()
                except Unavailable:
                    continue  # whoever handles events says so

    async def _look(self) -> None:
        stands = {each: at for each, at in self._stands.items() if each in self._held}
        if stands:
            self._check(stands, await self._store.advance_offsets({each: (at, at) for each, at in stands.items()}))

    async def _begin(self, committed: Mapping[Key, int]) -> dict[Key, int]:
        self.server_run = await self._store.server_run()
        stood = self._stands
        sent = {(each[0], each[1]): at for each, at in committed.items()} | stood
        elsewhere = await self._store.advance_offsets({each: (at, at) for each, at in sent.items()})  # moves nothing
        held = {each: elsewhere.get(each, at) for each, at in sent.items()}
        gone = {(each[0], each[1]) for each, at in committed.items() if at and held[each] is None}
        anew: Set[Partition] = set()
        if self._emptied or (stood and gone) or any(held[each] is None for each in stood):
            anew = gone | self._ever
        starts = {each: 0 if each in anew else _least(at, held[each]) for each, at in committed.items()}
        # at once what it is to be: a word that is too high for a moment may be what a lost tail leaves
        words = dict.fromkeys(anew, 0) | {(each[0], each[1]): at for each, at in starts.items()}
        found = await self._store.begin_offsets(words)
        starts = {each: _least(at, found[each]) for each, at in starts.items()}
        unseen = {(each[0], each[1]): at for each, at in committed.items() if at > 0 and held[each] is None}
        self._unseen |= {each: at for each, at in unseen.items() if each not in anew}
        if self._unseen:
            await self._check_users(self._unseen)
            self._unseen = {}
        for each, start in starts.items():
            if start < committed[each]:
                log.warning("%s/%d is read again from %d, where the store stands", *each, start)
        self._stands = {(each[0], each[1]): start for each, start in starts.items()}
        self._held = set(self._stands)
        self._ever |= self._held
        self._emptied = False
        return starts

    async def _check_users(self, far: Mapping[Partition, int]) -> None:
        """Of a store that holds no word of partitions in which the group has come so far."""
        if await self._store.holds_users():
            log.info("the store held no offsets of %d partitions yet: it was written by an earlier version", len(far))
            return
        reason = (
            f"the store holds no users, though the group has handled {sum(far.values())} events: it was emptied while "
            "no worker ran, or is a new one; docs/operations.md says what to do"
        )
        (topic, number), offset = min(far.items())
        log.error(
            "%s: `foretaste rebuild` fills it again; then, or where it is meant to be empty, start the workers anew "
            "(it knows nothing of %d partitions, first %s/%d@%d)",
            *(reason, len(far), topic, number, offset),
        )
        self._lost.labels("unseen").inc()
        self._readiness.unready(EMPTIED, reason)

    def _check(self, sent: Mapping[Partition, int], elsewhere: Mapping[Partition, int | None]) -> None:
        """Raises `LostTail` where the store stands behind what it was asked by, or nowhere."""
        stands = {each: sent[each] for each in elsewhere if each in self._held}
        gone = {each for each in stands if elsewhere[each] is None}
        behind = {each for each, at in stands.items() if (held := elsewhere[each]) is not None and held < at}
        if gone:
            self._emptied = True
            what = "the store was emptied: users and behaviours are read again as far as Kafka has them"
            self._raise("all", {each: stands[each] for each in gone}, what)
        if behind:
            what = "the store lost its newest writes: they are read again from Kafka"
            self._raise("tail", {each: stands[each] for each in behind}, what)

    def _raise(self, kind: str, stood: Mapping[Partition, int], what: str) -> None:
        self._lost.labels(kind).inc()
        (topic, number), offset = min(stood.items())
        error = LostTail(f"{what} (in {len(stood)} partitions, first {topic}/{number}@{offset})")
        log.error("%s", error)
        raise error
