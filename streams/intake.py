"""Events that come from outside by another door than their topics: checked like those of a topic, then produced."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import UserBehaved, UserErased, UserRegistered, oversized_integer
from foretaste.kernel.ports import Clock, Events
from foretaste.kernel.running.registered_items import ItemRegistered
from streams.codec import EVENTS, EventT
from streams.rules import wrong_act, wrong_time
from streams.topics import TopicNames

RegisteredT = TypeVar("RegisteredT", UserRegistered, ItemRegistered)


class TopicIntake:
    """The `EventIntake` port on the topics, keyed by user or item: a worker reads what is taken here as an event.

    `max_event_bytes` is the workers' own limit; `now` is in seconds since the epoch.
    """

    def __init__(self, events: Events, topics: TopicNames, *, max_event_bytes: int, now: Clock = time.time) -> None:
        self._events = events
        self._topics = topics
        self._max_event_bytes = max_event_bytes
        self._now = now

    async def register(self, events: Sequence[UserRegistered]) -> None:
        keyed = [(each.user_id.encode(), value) for each, value in self._registrations(events)]
        await self._events.send_all(self._topics.registered, keyed)

    async def register_items(self, events: Sequence[ItemRegistered]) -> None:
        keyed = [(each.item_id.encode(), value) for each, value in self._registrations(events)]
        await self._events.send_all(self._topics.item_registered, keyed)

    async def remove_item(self, item_id: str) -> None:
        await self._events.send(self._topics.item_registered, item_id.encode(), None)

    async def behave(self, events: Sequence[UserBehaved]) -> None:
        now_ms = round(self._now() * 1000)

        def broken(event: UserBehaved) -> InvalidInput | None:
            return wrong_act(event, now_ms)

        keyed = [(each.user_id.encode(), self._checked(place, each, broken)) for place, each in enumerate(events)]
        await self._events.send_all(self._topics.behaved, keyed)

    async def erase(self, event: UserErased) -> None:
        now_ms = round(self._now() * 1000)

        def broken(event: UserErased) -> InvalidInput | None:
            return wrong_time("occurred_at", event.occurred_at, now_ms)

        await self._events.send(self._topics.erased, event.user_id.encode(), self._checked(0, event, broken))

    def _registrations(self, events: Sequence[RegisteredT]) -> list[tuple[RegisteredT, bytes]]:
        """Each registration with its value on the topic."""
        now_ms = round(self._now() * 1000)

        def broken(event: RegisteredT) -> InvalidInput | None:
            return wrong_time("registered_at", event.registered_at, now_ms) or oversized_integer(
                "attributes", event.attributes
            )

        return [(each, self._checked(place, each, broken)) for place, each in enumerate(events)]

    def _checked(self, place: int, event: EventT, broken: Callable[[EventT], InvalidInput | None]) -> bytes:
        """The event's value on the topic."""
        wrong = broken(event)
        if wrong is not None:
            raise InvalidInput(f"{place}.{wrong.field}", wrong.value, wrong.problem)
        value = EVENTS.encode(event)
        if len(value) > self._max_event_bytes:
            raise InvalidInput(str(place), f"{len(value)} bytes", f"expected at most {self._max_event_bytes} bytes")
        return value
