"""The way of a new item: from `item-registered` to the registry, where every process finds it."""

from collections.abc import Sequence

from foretaste.kernel.events import MAX_ID, DeadLetter, Message, event_time_ms
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.durability import SyncedStore
from foretaste.kernel.running.registered_items import ItemRegistry, RegisteredItem
from streams.decoding import decode_item
from streams.rules import to_ms
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics


class Items:
    """Handles batches of `item-registered` messages, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter. A null value takes the item of its key out.
    2. The registry keeps the items, each unless something later of it is there; its disk is waited for where the
       parts say so. The services look there several times a second.
    3. The dead letters are produced; on return the messages may be acknowledged.

    Done again it changes nothing. Raises `Unavailable` when a part is away.
    """

    def __init__(
        self,
        registry: ItemRegistry,
        synced: SyncedStore | None,
        dead_letters: DeadLetters,
        metrics: Metrics,
        *,
        max_event_bytes: int,
        now: Clock,
    ) -> None:
        self._registry = registry
        self._synced = synced
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._max_event_bytes = max_event_bytes
        self._now = now

    async def __call__(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 3 for one batch."""
        now_ms, items, bad = round(self._now() * 1000), list[RegisteredItem](), list[DeadLetter]()
        for message in messages:  # 1
            removed = _removed_item(message)
            if removed is not None:
                items.append(RegisteredItem(removed, None, event_time_ms(None, message.origin, now_ms)))
                continue
            event = decode_item(message, now_ms=now_ms, max_bytes=self._max_event_bytes)
            if isinstance(event, DeadLetter):
                bad.append(event)
                continue
            claimed_ms = None if event.registered_at is None else to_ms(event.registered_at)
            at_ms = event_time_ms(claimed_ms, message.origin, now_ms)
            items.append(RegisteredItem(event.item_id, event.attributes, at_ms))
        await self._registry.register(items)  # 2
        if items and self._synced is not None:
            await self._synced.synced()
        self._metrics.items.inc(len(items))
        await self._dead_letters.keep(bad)  # 3


def _removed_item(message: Message) -> str | None:
    """The item that a null value takes out; None for any other message."""
    if message.value is not None or not message.key:
        return None
    try:
        item = message.key.decode()
    except UnicodeDecodeError:
        return None
    return item if len(item) <= MAX_ID else None
