"""The way of a behaviour: appended to what the user did before, which warms the user step by step. Only ports."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import DeadLetter, Message, Reason, UserBehaved, event_digest, event_time_ms
from foretaste.kernel.ports import Clock
from foretaste.kernel.users import BehavedUser, Behaviour, UserFeatures
from foretaste.kernel.values import MAX_BEHAVIOUR
from streams.decoding import decode_behaved
from streams.parts import SignUpParts
from streams.rules import to_ms
from streams.shares import each_share, shares_by_user
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics

UnknownItems = Literal["keep", "dead_letter"]

ROUNDS = 5
"""Reads and writes of one batch while other workers write for the same users; after them the batch waits and is tried
again as a whole, as the worker's retry policy says."""


def append(behaviour: Behaviour, item: str, action: str, at_ms: int, *, named: bool = False) -> Behaviour:
    """`behaviour` with one more, in order of time; of equal times the one appended later is newer.

    The same item, action and time again is the same behaviour, and changes nothing (the same object is returned),
    unless the event is `named`: then its id alone tells it from others. Nor does one that is older than the oldest of
    a full behaviour: at most `MAX_BEHAVIOUR` newest are kept.
    """
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


@dataclass(frozen=True, slots=True)
class Act:
    """A decoded behaviour and the message that it came in."""

    message: Message
    event: UserBehaved
    at_ms: int
    """When the user acted (`event_time_ms`)."""

    @property
    def digest(self) -> bytes:
        return event_digest(self.event.event_id, self.message)


class Behaviours:
    """Handles batches of `user-behaved` messages, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter. So does one for an item that the active generation
       does not know, if `unknown_items` says so; by default it is kept, since the next generation will learn the item
       and the towers read it as an unknown one until then.
    2. One read of the users' stored behaviour, its version, and what was applied to it last. A large batch goes on in
       shares, each user in one.
    3. Each user's behaviours are appended, in the order of the batch, but for those that were applied before: by their
       `event_id`, else by their place in Kafka. The last `REMEMBERED_BEHAVIOURS` of a user are remembered; beyond them
       the item, the action and the time tell, and whatever is older than the oldest of a full behaviour stays out. Of
       a user who was erased, what was done until then is dropped, and all until the user registers anew.
    4. What changed is written whole, in one write, in place of what was read, with what is remembered by then. The
       store compares the version in the same step, and refuses a user whom another worker wrote for since: 2 to 4 are
       done again for those refused. Where the parts say so, the store's disk is waited for, once a batch.
    5. The dead letters are produced; on return the messages may be acknowledged.

    The key keeps a user on one partition, and so with one worker, so that a refusal is rare: a worker that lost the
    partition while it stood still (a frozen virtual machine) wakes and writes beside its successor. Neither loses
    anything, and what both were given stands there once, since it is remembered. Raises `Unavailable`
    when a part is away, and when users are still refused after `ROUNDS`.
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
    ) -> None:
        self._parts = parts
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._unknown_items = unknown_items
        self._max_event_bytes = max_event_bytes
        self._now = now

    async def __call__(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 5 for one batch."""
        acts, bad = self._decode(messages)  # 1
        if acts and self._unknown_items == "dead_letter":
            acts, unknown = await self._known(acts)
            bad += unknown
        if acts:
            await each_share(self._store_behaviour, shares_by_user(acts, lambda act: act.event.user_id))  # 2 to 4
            if self._parts.synced is not None:
                await self._parts.synced.synced()  # 4
        await self._dead_letters.keep(bad)  # 5
        self._metrics.behaviours.inc(len(acts))

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
                acts.append(Act(message, event, at_ms))
        return acts, bad

    async def _known(self, acts: Sequence[Act]) -> tuple[list[Act], list[DeadLetter]]:
        """Those whose item the active generation knows, and the others as dead letters; before the first, all."""
        generation = await self._parts.generations.active()
        if generation is None:
            return list(acts), []
        items = list(dict.fromkeys(act.event.item_id for act in acts))
        shares = await self._parts.generations.popularity(generation.number, items)
        unknown = {item for item, share in zip(items, shares, strict=True) if share is None}
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

    async def _store_behaviour(self, acts: Sequence[Act]) -> None:
        of_user: dict[str, list[Act]] = {}
        for act in acts:
            of_user.setdefault(act.event.user_id, []).append(act)
        for _ in range(ROUNDS):
            stored = await self._parts.store.read_behaviour(list(of_user))  # 2
            admitted = [(user, self._admitted(user, of_user[user.user_id])) for user in stored]
            changed = [row for user, those in admitted if (row := _appended(user, those)) is not None]  # 3
            refused = await self._parts.store.write_behaviour(changed) if changed else []  # 4
            if not refused:
                return
            of_user = {user_id: of_user[user_id] for user_id in refused}
        raise Unavailable("behaviours", f"others write for {len(of_user)} users of this batch at the same time")

    def _admitted(self, user: UserFeatures, acts: Sequence[Act]) -> Sequence[Act]:
        """Of a user who was erased, only what was done since, and only once the user registered anew."""
        erasure = user.erasure
        if erasure is None:
            return acts
        admitted = [act for act in acts if erasure.admits(act.at_ms)]
        self._metrics.dropped.labels("behaviour", "erased").inc(len(acts) - len(admitted))
        return admitted


def _appended(user: UserFeatures, acts: Sequence[Act]) -> BehavedUser | None:
    """The user's row with the behaviours appended; None where each was applied before, or stays out."""
    behaviour, applied = user.behaviour, user.applied
    for act in acts:
        event, digest = act.event, act.digest
        if digest in applied:
            continue
        longer = append(behaviour, event.item_id, event.action, act.at_ms, named=event.event_id is not None)
        if longer is not behaviour:
            behaviour, applied = longer, applied.with_applied(digest)
    return None if behaviour is user.behaviour else BehavedUser.after(user, behaviour, applied)
