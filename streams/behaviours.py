"""The way of a behaviour: appended to what the user did before, which warms the user step by step. Only ports."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import (
    DeadLetter,
    Message,
    Reason,
    UserBehaved,
    claimed_digest,
    event_digest,
    event_time_ms,
)
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.durability import OneStepStore
from foretaste.kernel.users import BehavedUser, Behaviour, LaterBehaviour, UserFeatures
from foretaste.kernel.values import FIRST_ACTS, MAX_BEHAVIOUR, MAX_PASSED_OVER, PASSED_OVER, Partition
from streams.decoding import decode_behaved
from streams.parts import SignUpParts
from streams.rules import to_ms
from streams.shares import SHARE, each_share, shares_by_user
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics

UnknownItems = Literal["keep", "dead_letter"]

REPEATED, TOO_OLD, ERASED = "repeated", "too_old", "erased"
"""Why a behaviour has no effect: it was applied before; it is older than the oldest of a full behaviour; its user was
erased since, or was erased and did not register anew."""
ROUNDS = 5
"""Reads and writes of one batch while other workers write for the same users; after them the batch waits and is tried
again as a whole, as the worker's retry policy says."""


def append(behaviour: Behaviour, item: str, action: str, at_ms: int, *, named: bool = False) -> Behaviour:
    """`behaviour` with one more, in order of time; of equal times the one appended later is newer.

    The same item, action and time again is the same behaviour, and changes nothing (the same object is returned),
    unless the event is `named`: then its id alone tells it from others. Nor does one that is older than the oldest of
    a full behaviour: at most `MAX_BEHAVIOUR` newest are kept. What was passed over makes room first.
    """
    if len(behaviour) >= MAX_BEHAVIOUR and PASSED_OVER in behaviour.actions:
        longer = append(_without_oldest_passed_over(behaviour), item, action, at_ms, named=named)
        return longer if len(longer) == len(behaviour) else behaviour
    if not behaviour.times or at_ms > behaviour.times[-1]:  # newer than all, so none of them
        return behaviour.then(item, action, at_ms)
    if len(behaviour) >= MAX_BEHAVIOUR and at_ms < behaviour.times[0]:
        return behaviour
    if not named and (item, action, at_ms) in zip(behaviour.items, behaviour.actions, behaviour.times, strict=True):
        return behaviour
    place = bisect_right(behaviour.times, at_ms)
    items, actions, times = list(behaviour.items), list(behaviour.actions), list(behaviour.times)
    items.insert(place, item)
    actions.insert(place, action)
    times.insert(place, at_ms)
    return Behaviour(items[-MAX_BEHAVIOUR:], actions[-MAX_BEHAVIOUR:], times[-MAX_BEHAVIOUR:])


def with_passed_over(behaviour: Behaviour, passed_over: Iterable[tuple[str, int]]) -> Behaviour:
    """`behaviour`, and which items were shown and not chosen, each with its time, beside all acts and answers.

    Of items that were passed over the newest `MAX_PASSED_OVER` are kept, each as of the last time, fewer where the
    behaviour is full, and none once there are `FIRST_ACTS` acts. The same object where nothing changes.
    """
    is_read = len(behaviour.acts) < FIRST_ACTS
    if not is_read and PASSED_OVER not in behaviour.actions:
        return behaviour
    others = [row for row in behaviour.rows if row[1] != PASSED_OVER]
    known = [row for row in behaviour.rows if row[1] == PASSED_OVER]
    room = min(MAX_PASSED_OVER, MAX_BEHAVIOUR - len(others)) if is_read else 0
    newest_of: dict[str, int] = {}
    for item, at_ms in [*((item, at_ms) for item, _, at_ms in known), *passed_over]:
        newest_of[item] = max(at_ms, newest_of.pop(item, at_ms))
    every = sorted(((item, PASSED_OVER, at_ms) for item, at_ms in newest_of.items()), key=_time)
    newest = every[max(len(every) - room, 0) :]
    return behaviour if newest == known else Behaviour.of(sorted([*others, *newest], key=_time))


def _without_oldest_passed_over(behaviour: Behaviour) -> Behaviour:
    rows = list(behaviour.rows)
    del rows[behaviour.actions.index(PASSED_OVER)]
    return Behaviour.of(rows)


def _time(row: tuple[str, str, int]) -> int:
    return row[2]


@dataclass(frozen=True, slots=True)
class Act:
    """A decoded behaviour and the message that it came in."""

    message: Message
    event: UserBehaved
    at_ms: int
    """When the user acted (`event_time_ms`)."""
    claimed_ms: int
    """When, as its sender claims."""

    @property
    def digest(self) -> bytes:
        event = self.event
        if event.event_id is None:
            return claimed_digest(event.item_id, event.action, self.claimed_ms)
        return event_digest(event.event_id, self.message)


class Behaviours:
    """Handles batches of `user-behaved` messages, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter. So does one for an item that the active generation
       does not know, if `unknown_items` says so; by default it is kept, since the next generation will learn the item
       and the towers read it as an unknown one until then.
    2. A large batch goes on in shares, each user in one. Where the store can (`OneStepStore`), behaviours that rise in
       time and name nothing that was passed over are put behind what is stored, unread, in one step, which says of whom
       it left out; 3 to 5 are for those.
    3. One read of the users' stored behaviour, its version, and what was applied to it last.
    4. Each user's behaviours are appended, in the order of the batch, but for those that were applied before: by their
       `event_id`, else by their item, their action and the time that their sender claims. The last
       `REMEMBERED_BEHAVIOURS` of a user are remembered; beyond them the item, the action and the time tell, and
       whatever is older than the oldest of a full behaviour stays out. Of a user who was erased, what was done until
       then is dropped, and all until the user registers anew. What was passed over is kept beside the first acts.
    5. What changed is written whole, in one write, in place of what was read, with what is remembered by then. The
       store compares the version in the same step, and refuses a user whom another worker wrote for since: 3 to 5 are
       done again for those refused. Where the parts say so, the store's disk is waited for, once a batch.
    6. The dead letters are produced, and what had no effect is counted; on return the messages may be acknowledged.

    The key keeps a user on one partition, and so with one worker, so that a refusal is rare: a worker that lost the
    partition while it stood still (a frozen virtual machine) wakes and writes beside its successor. Neither loses
    anything, and what both were given stands there once, since it is remembered. Raises `Unavailable` when a part is
    away, when users are still refused after `ROUNDS`, and when the store lost writes of the partitions that the
    behaviours were read from: what is written on top would stand before what is read again.
    """

    def __init__(
        self,
        parts: SignUpParts,
        dead_letters: DeadLetters,
        metrics: Metrics,
        *,
        unknown_items: UnknownItems,
        max_event_bytes: int,
        now: Clock,
        share: int = SHARE,
    ) -> None:
        """`share`: users of a read and a write, about."""
        self._parts = parts
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._unknown_items = unknown_items
        self._max_event_bytes = max_event_bytes
        self._now = now
        self._share = share
        self._one_step = parts.store if isinstance(parts.store, OneStepStore) else None

    async def __call__(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 6 for one batch."""
        acts, bad = self._decode(messages)  # 1
        if acts and self._unknown_items == "dead_letter":
            acts, unknown = await self._known(acts)
            bad += unknown
        dropped: list[Counter[str]] = []
        if acts:
            shares = shares_by_user(acts, lambda act: act.event.user_id, self._share)
            dropped = await each_share(self._store_behaviour, shares)  # 2 to 5
            if self._parts.synced is not None:
                await self._parts.synced.synced()  # 5
        await self._dead_letters.keep(bad)  # 6
        self._metrics.behaviours.inc(len(acts))
        for why, count in sum(dropped, Counter[str]()).items():
            self._metrics.dropped.labels("behaviour", why).inc(count)

    def _decode(self, messages: Sequence[Message]) -> tuple[list[Act], list[DeadLetter]]:
        now_ms = round(self._now() * 1000)
        acts: list[Act] = []
        bad: list[DeadLetter] = []
        for message in messages:
            event = decode_behaved(message, now_ms=now_ms, max_bytes=self._max_event_bytes)
            if isinstance(event, DeadLetter):
                bad.append(event)
            else:
                claimed_ms = to_ms(event.at)
                at_ms = event_time_ms(claimed_ms, message.origin, now_ms)
                self._metrics.count_ahead("behaviour", claimed_ms, at_ms)
                acts.append(Act(message, event, at_ms, claimed_ms))
        return acts, bad

    async def _known(self, acts: Sequence[Act]) -> tuple[list[Act], list[DeadLetter]]:
        """Those whose item the active generation knows or that was registered since, and the others as dead letters;
        before the first generation, all."""
        generation = await self._parts.generations.active()
        if generation is None:
            return list(acts), []
        items = list(dict.fromkeys(act.event.item_id for act in acts))
        shares = await self._parts.generations.popularity(generation.number, items)
        unknown = {item for item, share in zip(items, shares, strict=True) if share is None}
        if unknown and self._parts.items is not None:
            rest = sorted(unknown)
            new = zip(rest, await self._parts.items.known(rest), strict=True)
            unknown -= {item for item, is_registered in new if is_registered}
        return (
            [act for act in acts if act.event.item_id not in unknown],
            [
                DeadLetter(
                    act.message,
                    Reason.UNKNOWN_ITEM,
                    f"item_id: generation {generation.number} does not know it (got {act.event.item_id[:80]!r})",
                )
                for act in acts
                if act.event.item_id in unknown
            ],
        )

    async def _store_behaviour(self, acts: Sequence[Act]) -> Counter[str]:
        """Steps 2 to 5 for a share of the batch; how many behaviours had no effect, by why."""
        of_each: defaultdict[str, list[Act]] = defaultdict(list)
        for act in acts:
            of_each[act.event.user_id].append(act)
        of_user: Mapping[str, Sequence[Act]] = of_each
        dropped: Counter[str] = Counter()
        if self._one_step is not None:
            of_user = await self._not_appended(of_user, self._one_step)  # 2
        for _ in range(ROUNDS):
            if not of_user:
                return dropped
            refused, without_effect = await self._read_and_written(of_user)  # 3 to 5
            dropped.update(without_effect)
            of_user = {user_id: of_user[user_id] for user_id in refused}
        if of_user:
            raise Unavailable("behaviours", f"others write for {len(of_user)} users of this batch at the same time")
        return dropped

    async def _read_and_written(self, of_user: Mapping[str, Sequence[Act]]) -> tuple[list[str], Counter[str]]:
        """The users whom the store refused, and of the others, how many behaviours had no effect, by why."""
        changed: list[BehavedUser] = []
        without_effect: dict[str, list[str]] = {}
        stored = await self._parts.store.read_behaviour(list(of_user))  # 3
        for user in stored:
            row, reasons = _appended(user, of_user[user.user_id])  # 4
            if row is not None:
                changed.append(row)
            if reasons:
                without_effect[user.user_id] = reasons
        refused = await self._parts.store.write_behaviour(changed) if changed else []  # 5
        counted = without_effect.keys() - set(refused)
        return refused, Counter(why for user_id in counted for why in without_effect[user_id])

    @staticmethod
    async def _not_appended(of_user: Mapping[str, Sequence[Act]], store: OneStepStore) -> dict[str, Sequence[Act]]:
        """The users, with their behaviours, who are to be read."""
        later = {user_id: row for user_id, acts in of_user.items() if (row := _later(user_id, acts)) is not None}
        appended = later.keys() - await store.append_behaviour(list(later.values())) if later else set[str]()
        return {user_id: acts for user_id, acts in of_user.items() if user_id not in appended}


def _later(user_id: str, acts: Sequence[Act]) -> LaterBehaviour | None:
    """The behaviours as they can stand behind others unread; None where they do not rise, one comes twice, or one says
    what was passed over, which depends on what is stored."""
    times, digests = [act.at_ms for act in acts], [act.digest for act in acts]
    rises = times[0] > 0 and all(before < at_ms for before, at_ms in pairwise(times))
    passed_over = any(act.event.passed_over for act in acts)
    if passed_over or not rises or len(acts) > MAX_BEHAVIOUR or len(set(digests)) < len(digests):
        return None
    items, actions = [act.event.item_id for act in acts], [act.event.action for act in acts]
    return LaterBehaviour(user_id, Behaviour(items, actions, times), b"".join(digests), _read_from(acts))


def _read_from(acts: Sequence[Act]) -> tuple[Partition, ...]:
    """The partitions that the behaviours were read from: one, but for events that were sent without their key. Of what
    was a dead letter and is replayed, the origin says where it was read first, and is not taken."""
    origins = [act.message.origin for act in acts if not act.message.attempts]
    return tuple(dict.fromkeys((origin.topic, origin.partition) for origin in origins))


def _appended(user: UserFeatures, acts: Sequence[Act]) -> tuple[BehavedUser | None, list[str]]:
    """The user's row with the behaviours appended, None where it stays as it is; and why others have no effect."""
    behaviour, applied, erasure = user.behaviour, user.applied, user.erasure
    dropped: list[str] = []
    for act in acts:
        if erasure is not None and not erasure.admits(act.at_ms):
            dropped.append(ERASED)
            continue
        event, digest = act.event, act.digest
        if digest in applied:
            dropped.append(REPEATED)
            continue
        longer = append(behaviour, event.item_id, event.action, act.at_ms, named=event.event_id is not None)
        if longer is not behaviour:
            passed_over = [(item, act.at_ms) for item in event.passed_over]
            behaviour = with_passed_over(longer, passed_over) if passed_over else longer
            applied = applied.with_applied(digest)
        else:
            dropped.append(TOO_OLD if act.at_ms < behaviour.times[0] else REPEATED)
    if behaviour is user.behaviour:
        return None, dropped
    read_version, read_us = user.behaviour_version, user.behaviour_us
    return BehavedUser(user.user_id, behaviour, read_version, read_us, applied, _read_from(acts)), dropped
