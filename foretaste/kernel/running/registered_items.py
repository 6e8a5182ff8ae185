"""Items that were registered since the active generation learned, and the towers of a process that take them in."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from foretaste.kernel.events import Event, EventTime, Id, Text, WireValue
from foretaste.kernel.ports import Clock
from foretaste.kernel.retrying import FailureStreak, until_it_succeeds
from foretaste.kernel.values import Attributes, Scalar, is_several

PAGE = 1000
"""Items that are read at once."""
LOOK_EVERY, LONGEST_PAUSE = 0.25, 2.0
"""Seconds between two looks, and between two tries at most while the registry is away."""
PAUSE = 0.05
"""Seconds between two looks whether an item was taken in."""


class ItemRegistered(Event):
    """`item-registered`: an item is new, or has other attributes. Attributes are raw values, as of a user."""

    item_id: Id
    attributes: Mapping[Text, WireValue]
    registered_at: EventTime | None = None
    """When, by the sender's clock; the Kafka timestamp where absent. See `event_time_ms`."""


@dataclass(frozen=True, slots=True)
class RegisteredItem:
    """An item with raw attributes, as of `at_ms` (epoch milliseconds); None: it was taken out."""

    item_id: str
    attributes: Attributes | None
    at_ms: int


class ItemRegistry(Protocol):
    """The items that were registered (Redis). Every method raises `Unavailable` where it is away."""

    async def register(self, items: Sequence[RegisteredItem]) -> None:
        """Keep each item, in place of what was registered of it before; unless that was later."""
        ...

    async def since(self, cursor: int, count: int = PAGE) -> tuple[list[RegisteredItem], int]:
        """The items that changed after a cursor, `count` at most, in that order, and the cursor behind them.

        From 0 on, all items come. A cursor stays good whatever happens to its holder.
        """
        ...

    async def known(self, item_ids: Sequence[str]) -> list[bool]:
        """Whether each was registered, and not taken out since."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class TakesNewItems(Protocol):
    """Towers that can say something of items that were registered after they had learned."""

    async def add_items(self, items: Mapping[str, Attributes | None]) -> None:
        """Take in items with their raw attributes, each in place of what was known of it; None takes an item out.

        Those that a generation learned of are as it knows them; of others it knows what items of their kind are like.
        """
        ...


async def every_item(registry: ItemRegistry) -> list[RegisteredItem]:
    """All items that were registered and not taken out since. Raises `Unavailable`."""
    found, cursor = list[RegisteredItem](), 0
    while True:
        page, cursor = await registry.since(cursor)
        found += page
        if len(page) < PAGE:
            return [each for each in found if each.attributes is not None]


class RegisteredItems:
    """Brings what is registered to the towers of this process, behind their answers. `clock` counts monotonically."""

    def __init__(
        self,
        registry: ItemRegistry,
        towers: TakesNewItems,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._registry = registry
        self._towers = towers
        self._clock = clock
        self._sleep = sleep
        self._cursor = 0
        self._known: dict[str, Attributes | None] = {}
        self._streak = FailureStreak("registered items", clock)
        self._retrying = until_it_succeeds(longest=LONGEST_PAUSE, note=self._streak.note, sleep=sleep)

    async def run(self) -> None:
        """Look for ever; while the registry is away, again and again."""
        while True:
            await self._retrying(self.look)
            self._streak.over()
            await self._sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Bring all that was registered since the last look. Raises `Unavailable`."""
        while True:
            page, cursor = await self._registry.since(self._cursor)
            if page:
                items = {each.item_id: each.attributes for each in page}
                await self._towers.add_items(items)
                self._known.update(items)
            self._cursor = cursor
            if len(page) < PAGE:
                return

    async def taken_in(self, items: Mapping[str, Attributes | None], seconds: float) -> bool:
        """Whether, within so many seconds, the towers have taken in all these items with these attributes, or out."""
        until, left = self._clock() + seconds, dict(items)
        while True:
            left = {item: own for item, own in left.items() if not self._has(item, own)}
            if not left:
                return True
            if self._clock() + PAUSE > until:
                return False
            await self._sleep(PAUSE)

    def _has(self, item_id: str, attributes: Attributes | None) -> bool:
        held = self._known.get(item_id)
        if held is None or attributes is None:
            return held is attributes
        return _plain(held) == _plain(attributes)


def _plain(attributes: Attributes) -> dict[str, Scalar | list[Scalar]]:
    """A tuple is the list that it comes back as."""
    return {name: list(value) if is_several(value) else value for name, value in attributes.items()}  # type: ignore[misc]
