"""One user as the online store has it, and the wait until it has what was just sent."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import UserBehaved, UserErased, UserRegistered
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock, OnlineStore
from foretaste.kernel.users import UserFeatures
from foretaste.kernel.values import MAX_BEHAVIOUR, utc_time
from serving.active import ActiveGeneration, NoneActive
from serving.bodies import StoredBehaviour, StoredUser, StoredVirtualBehaviour

EventT = TypeVar("EventT", UserRegistered, UserBehaved, UserErased)
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.05
"""Seconds between two looks at the store."""
SENDING_MS = 10_000
"""Between Kafka's time of an event and the look at the store that follows, at most about."""
_ANY = 1
"""The slot that is read where no generation is active: nothing in it is current."""


class StoredUsers:
    """Reads of users. `clock` counts seconds monotonically, `now` since the epoch."""

    def __init__(
        self,
        store: OnlineStore,
        active: ActiveGeneration,
        *,
        clock: Clock = time.monotonic,
        now: Clock = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._active = active
        self._clock = clock
        self._now = now
        self._sleep = sleep

    async def read(self, user_id: str) -> StoredUser | None:
        """All that is stored of a user; None where nothing is. Raises `Unavailable`."""
        generation = await self._generation()
        (features,) = await self._store.read([user_id], _number(generation))
        if features.attributes is None and not len(features.behaviour) and not features.damaged:
            return None
        return _shown(features, generation)

    async def registered(self, events: Sequence[UserRegistered], seconds: float) -> bool:
        """Whether, within so many seconds, the store has these attributes and the virtual behaviour that they need.

        Attributes as new as the event stand for it: a later sign-up of the user replaced them.
        """
        sent_ms = round(self._now() * 1000)

        def readable(event: UserRegistered, user: UserFeatures, generation: Generation | None) -> bool:
            if generation is None:
                return False
            at_ms = sent_ms
            if event.registered_at is not None:
                at_ms = min(at_ms, round(event.registered_at.timestamp() * 1000))
            there = user.attributes == event.attributes or user.attributes_ms >= at_ms
            return user.attributes is not None and there and not generation.lacks(user)

        return await self._within(seconds, events, readable)

    async def behaved(self, events: Sequence[UserBehaved], seconds: float) -> bool:
        """Whether, within so many seconds, the store has these acts, or newer ones in their place.

        An act whose time is ahead of Kafka's is stored as of Kafka's, which is that of the sending, about.
        """
        sent_ms = round(self._now() * 1000)

        def readable(event: UserBehaved, user: UserFeatures, _: Generation | None) -> bool:
            at_ms, behaviour = round(event.at.timestamp() * 1000), user.behaviour
            if len(behaviour) >= MAX_BEHAVIOUR and at_ms < behaviour.times[0]:
                return True
            acts = zip(behaviour.items, behaviour.actions, behaviour.times, strict=True)
            return any(
                (item, action) == (event.item_id, event.action)
                and (time_ms == at_ms or sent_ms - SENDING_MS <= time_ms < at_ms)
                for item, action, time_ms in acts
            )

        return await self._within(seconds, events, readable)

    async def erased(self, event: UserErased, seconds: float) -> bool:
        """Whether, within so many seconds, the store has nothing of the user, or what a later registration brought."""
        sent_ms = round(self._now() * 1000)

        def readable(event: UserErased, user: UserFeatures, _: Generation | None) -> bool:
            return user.is_gone(sent_ms if event.occurred_at is None else round(event.occurred_at.timestamp() * 1000))

        return await self._within(seconds, [event], readable)

    async def _within(
        self,
        seconds: float,
        events: Sequence[EventT],
        readable: Callable[[EventT, UserFeatures, Generation | None], bool],
    ) -> bool:
        """Looks again with growing pauses, at what is not readable yet alone. A store that is away has it not yet."""
        until, pause = self._clock() + seconds, FIRST_PAUSE
        left = list(events)
        while True:
            left = await self._unreadable(left, readable)
            if not left:
                return True
            if self._clock() + pause > until:
                return False
            await self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _unreadable(
        self, events: Sequence[EventT], readable: Callable[[EventT, UserFeatures, Generation | None], bool]
    ) -> list[EventT]:
        try:
            generation = await self._generation()
            users = await self._store.read([event.user_id for event in events], _number(generation))
        except Unavailable:
            return list(events)
        return [event for event, user in zip(events, users, strict=True) if not readable(event, user, generation)]

    async def _generation(self) -> Generation | None:
        try:
            return await self._active.get()
        except NoneActive:
            return None


def _number(generation: Generation | None) -> int:
    return _ANY if generation is None else generation.number


def _shown(features: UserFeatures, generation: Generation | None) -> StoredUser:
    behaviour, virtual = features.behaviour, features.virtual
    acts = zip(behaviour.items, behaviour.actions, behaviour.times, strict=True)
    return StoredUser(
        user_id=features.user_id,
        stage=None if generation is None else generation.stage(len(behaviour.acts)),
        generation=None if generation is None else generation.number,
        attributes=None if features.attributes is None else dict(features.attributes),
        attributes_at=_at(features.attributes_ms),
        behaviour=[StoredBehaviour(item_id=item, action=action, at=_time(at_ms)) for item, action, at_ms in acts],
        virtual_behaviour=None
        if virtual is None
        else StoredVirtualBehaviour(
            generation=virtual.generation,
            current=generation is not None and generation.virtual_of(features) is not None,
            vectors=virtual.vectors.tolist(),
            at=_time(features.virtual_ms),
        ),
        damaged=list(features.damaged),
    )


def _at(at_ms: int) -> datetime | None:
    return utc_time(at_ms) if at_ms else None


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
