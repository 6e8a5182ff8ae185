"""The in-memory form of the registry of items."""

from collections.abc import Sequence

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.registered_items import PAGE, RegisteredItem


class InMemoryItemRegistry:
    """Keeps what is registered. While `outage` is set, every call raises it."""

    def __init__(self) -> None:
        self.outage: Unavailable | None = None
        self._items: dict[str, tuple[int, RegisteredItem]] = {}
        self._last = 0

    async def register(self, items: Sequence[RegisteredItem]) -> None:
        self._check()
        for item in items:
            _, held = self._items.get(item.item_id, (0, None))
            if held is None or (held != item and held.at_ms <= item.at_ms):
                self._last += 1
                self._items[item.item_id] = self._last, item

    async def since(self, cursor: int, count: int = PAGE) -> tuple[list[RegisteredItem], int]:
        self._check()
        changed = sorted((held for held in self._items.values() if held[0] > cursor), key=lambda held: held[0])[:count]
        return [item for _, item in changed], changed[-1][0] if changed else cursor

    async def known(self, item_ids: Sequence[str]) -> list[bool]:
        self._check()
        held = (self._items.get(each) for each in item_ids)
        return [each is not None and each[1].attributes is not None for each in held]

    async def close(self) -> None:
        """Nothing is held open."""

    def _check(self) -> None:
        if self.outage is not None:
            raise self.outage
