"""The online store filled again from what Kafka and the training log hold: `foretaste rebuild`. Only ports."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import CollectorRegistry

from foretaste.kernel.event_order import AttributesVersion
from foretaste.kernel.events import DeadLetter, Message
from foretaste.kernel.ports import Clock, Report, no_report
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import DAY_MS, PASSED_OVER
from streams.behaviours import Behaviours
from streams.decoded_erasures import decoded, erasures_in_turns
from streams.items import Items
from streams.profiles.profile import ReadProfiles
from streams.profiles.rebuild_parts import RebuildConfig, RebuildParts, RebuiltUsers, TopicHistory
from streams.profiles.user_writer import UserWriter, append_all
from streams.shares import each_share, shares_by_user
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class _State:
    step: str
    at: dict[str, int] | None = None
    """By partition, where the topic of the step is read on; None before it was looked at."""
    ends: dict[str, int] = field(default_factory=dict)
    profile_ends: dict[str, int] = field(default_factory=dict)
    """Of `user-profiles`, once it was read."""
    whole_topic: bool = False
    """`user-behaved` holds all that was ever sent there, so that the log holds no more."""
    day: int | None = None
    """Of the log, the one that is read next, in days since the epoch; they go back."""
    first_day: int = 0
    """Before the last one."""
    counts: RebuiltUsers = field(default_factory=RebuiltUsers)

    @classmethod
    def of(cls, text: str) -> "_State":
        found = json.loads(text)
        return cls(**{**found, "counts": RebuiltUsers(**found["counts"])})


class _CountedLetters(DeadLetters):
    """Dead letters that are counted, and not sent: they were, when the events came first."""

    def __init__(self) -> None:
        self.count = 0

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        self.count += len(letters)


class Rebuild:
    """Fills an emptied or partly lost online store. One at a time, which whoever runs it sees to.

    0. `item-registered` is read, by the way of an item itself.
    1. `user-erased` is read, and the store erases once more: it does not take what happened before, nor an older
       registration, whatever comes to it in 2 to 5.
    2. `user-profiles` is read, as it stands when this begins. The newest registration of each user is written, with
       virtual behaviour of the active generation (`UserWriter`). A null value takes the user out of the store, where
       that knows of no erasure of the user: of one that it knows it has done what is due, and the null value's own time
       is that of a worker, maybe long after the erasure.
    3. `user-behaved` is read as far as Kafka has it, by the way of a behaviour itself, in larger batches. Bad events
       are counted, since their dead letters are there.
    4. Where the topic has lost its oldest records, the training log is read, day by day and back in time. What it says
       is told from what is there by item, action and time.
    5. What came to `user-profiles` since 2 began is read too.

    After each batch its place is noted in a checkpoint: whoever is killed goes on from there, and does one batch again.
    Workers may run all the while, and rankings fall back for those who are not there yet. Done again, it changes
    nothing; it writes nothing that an older event would not have written, whoever writes besides. Memory does not grow
    with the number of users. Raises `Unavailable` when a part is away.
    """

    def __init__(self, parts: RebuildParts, config: RebuildConfig | None = None, now: Clock = time.time) -> None:
        self._parts = parts
        self._config = config or RebuildConfig()
        self._now = now
        self._writer = UserWriter(parts.users)
        self._letters, metrics = _CountedLetters(), Metrics(CollectorRegistry())
        limit, registry = self._config.max_event_bytes, parts.users.items
        self._items = (
            None
            if registry is None
            else Items(registry, None, _CountedLetters(), metrics, max_event_bytes=limit, now=now)
        )
        self._behaviours = Behaviours(
            parts.users,
            self._letters,
            metrics,
            unknown_items=self._config.unknown_items,
            max_event_bytes=self._config.max_event_bytes,
            now=now,
            share=self._config.share,
        )

    async def run(self, report: Report = no_report) -> RebuiltUsers:
        """All of it, or the rest where another run was cut short."""
        kept = await self._parts.checkpoint.read()
        state = _State("items") if kept is None else _State.of(kept)
        if state.step == "items":
            if self._parts.items is not None:
                await self._read(state, self._parts.items, self._config.profiles, self._restore_items, report)  # 0
            await self._next(state, "erasures")
        if state.step == "erasures":
            await self._read(state, self._parts.erasures, self._config.profiles, self._erase_again, report)  # 1
            await self._next(state, "profiles")
        if state.step == "profiles":
            await self._read(state, self._parts.profiles, self._config.profiles, self._restore_users, report)  # 2
            state.profile_ends = state.ends
            await self._next(state, "behaviours")
        if state.step == "behaviours":
            await self._read(state, self._parts.behaviours, self._config.behaviours, self._restore_behaviours, report)
            await self._next(state, "log")  # 3
        if state.step == "log":
            await self._read_log(state, report)  # 4
            await self._next(state, "late profiles", state.profile_ends)
        await self._read(state, self._parts.profiles, self._config.profiles, self._restore_users, report)  # 5
        await self._parts.checkpoint.forget()
        return state.counts

    async def _next(self, state: _State, step: str, at: dict[str, int] | None = None) -> None:
        state.step, state.at, state.ends = step, at, {}
        await self._note(state)

    async def _note(self, state: _State) -> None:
        await self._parts.checkpoint.write(json.dumps(asdict(state)))

    async def _read(
        self,
        state: _State,
        history: TopicHistory,
        most: int,
        handle: Callable[[Sequence[Message], RebuiltUsers], Awaitable[None]],
        report: Report,
    ) -> None:
        """The step's topic from where it stands to where it ended when the step began."""
        bounds = await history.bounds()
        first = {str(each): begin for each, (begin, _) in bounds.items()}
        if not state.ends:
            state.at = {**first, **(state.at or {})}
            state.ends = {str(each): end for each, (_, end) in bounds.items()}
            state.whole_topic = bool(first) and not any(first.values())
        last = {str(each): end for each, (_, end) in bounds.items()}  # of a topic that was made anew, less than before
        state.ends = {each: min(end, last[each]) for each, end in state.ends.items() if each in last}
        at = {each: offset for each, offset in (state.at or {}).items() if each in state.ends}
        total = sum(max(end - first.get(each, end), 0) for each, end in state.ends.items())
        async for messages, positions in history.read(_numbered(at), _numbered(state.ends), most):
            if messages:
                await handle(messages, state.counts)
            state.at = {str(each): offset for each, offset in positions.items()}
            await self._note(state)
            left = sum(max(end - state.at.get(each, end), 0) for each, end in state.ends.items())
            report(state.step, total - left, total)
        report(state.step, total, total)

    async def _restore_users(self, messages: Sequence[Message], counts: RebuiltUsers) -> None:
        """2 and 5: null values first, since who registered again after one has a row in `users`."""
        read = ReadProfiles.of(messages)
        await self._erase(read.erased)
        active = (await self._parts.users.generations.serving()).active
        users, share = list(read.users.values()), self._config.share
        shares = [users[start : start + share] for start in range(0, len(users), share)]
        for written in await each_share(partial(self._writer.write, generation=active), shares):
            counts.add(written)
        counts.erased += len(read.erased)
        counts.unreadable += read.unreadable

    async def _erase(self, erased: Mapping[str, int]) -> None:
        """Who came again after the null value keeps what is stored; of nobody else anything older is taken any more."""
        if not erased:
            return
        store = self._parts.users.store
        unknown = [user.user_id for user in await store.read_behaviour(list(erased)) if user.erasure is None]
        if unknown:
            await store.erase([ErasedUser(user_id, AttributesVersion(erased[user_id])) for user_id in unknown])

    async def _erase_again(self, messages: Sequence[Message], _: RebuiltUsers) -> None:
        """1; those that are none have their dead letters."""
        erasures, _bad = decoded(messages, self._now, self._config.max_event_bytes)
        for users in erasures_in_turns(erasures):
            shares = shares_by_user(users, lambda user: user.user_id, self._config.share)
            await each_share(self._parts.users.store.erase, shares)

    async def _restore_items(self, messages: Sequence[Message], counts: RebuiltUsers) -> None:
        if self._items is not None:
            await self._items(messages)
            counts.items += len(messages)

    async def _restore_behaviours(self, messages: Sequence[Message], counts: RebuiltUsers) -> None:
        await self._behaviours(messages)
        counts.behaviours += len(messages)
        counts.bad_behaviours, self._letters.count = counts.bad_behaviours + self._letters.count, 0

    async def _read_log(self, state: _State, report: Report) -> None:
        if state.whole_topic:
            return
        if state.day is None:
            state.day = int(self._now() * 1000) // DAY_MS
            state.first_day = state.day - self._config.log_days
        days = self._config.log_days
        while state.day > state.first_day:
            table = await self._parts.logged(state.day * DAY_MS, (state.day + 1) * DAY_MS)
            await self._restore_logged(table)
            state.counts.logged += len(table)
            state.day -= 1
            await self._note(state)
            report("log", days - (state.day - state.first_day), days)

    async def _restore_logged(self, table: "pa.Table") -> None:
        rows: dict[str, list[tuple[str, str, int]]] = {}
        columns: list[list[Any]] = [table[name].to_pylist() for name in ("user_id", "item_id", "action", "passed_over")]
        for user_id, item, action, passed_over, at_ms in zip(*columns, _milliseconds(table), strict=True):
            own = rows.setdefault(user_id, [])
            own.append((item, action, at_ms))
            own += [(each, PASSED_OVER, at_ms) for each in passed_over or ()]
        of_user = {user_id: Behaviour.of(each) for user_id, each in rows.items()}
        store = self._parts.users.store

        async def write(users: Sequence[str]) -> int:
            return await append_all(store, {user_id: of_user[user_id] for user_id in users})

        await each_share(write, shares_by_user(list(of_user), str, self._config.share))


def _numbered(offsets: Mapping[str, int]) -> dict[int, int]:
    return {int(each): offset for each, offset in offsets.items()}


def _milliseconds(table: "pa.Table") -> list[int]:
    """The column `at`, which is in microseconds, to the millisecond that `to_ms` makes of the same time."""
    at: Any = table["at"]  # its stubs know no name of a type
    micros = at.cast("int64").to_numpy()
    return [int(each) for each in np.rint(micros / 1e6 * 1000)]
