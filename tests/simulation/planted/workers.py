"""Planted faults of what reads Kafka: acknowledgements, commits, and the store's word of how far it has come."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.running.durability import LastOffsets
from foretaste.kernel.values import Partition
from foretaste.testing import InMemoryOffsets
from streams.worker import aiokafka_consumer
from streams.worker.aiokafka_consumer import AiokafkaConsumer
from streams.worker.collector import Collector
from streams.worker.consumer import hand_over
from streams.worker.dead_letters import DeadLetters
from streams.worker.health.store_progress import StoreProgress
from tests.simulation.planted.fault import planted

_settle, _put = Collector._settle, Collector.put_nowait
_begin, _note = StoreProgress.begin, StoreProgress.note


async def _acknowledge_first(self: Any, batch: Any) -> None:
    for entry in batch:
        entry.acknowledge()
    await _settle(self, [entry._replace(acknowledge=lambda: None) for entry in batch])


async def _acknowledge_last(self: Any, batch: Any) -> None:
    await _settle(self, [*(each._replace(acknowledge=lambda: None) for each in batch[:-1]), batch[-1]])


async def _settle_once(self: Any, batch: Any) -> None:
    async def once(work: Any, *arguments: Any) -> bool:
        with suppress(ForetasteError):
            await work(*arguments)
        return True

    retrying, self._retrying = self._retrying, once
    try:
        await _settle(self, batch)
    finally:
        self._retrying = retrying


async def _note_first(self: Any, batch: Any) -> None:
    if self._progress is not None:
        read_at = [entry.read_at for entry in batch]
        await self._retrying(self._progress.note, read_at, self._progress.server_run)
    await _settle(self, batch)


def _drop_when_full(self: Any, *arguments: Any) -> None:
    if not self.full:
        _put(self, *arguments)


def _settled_when_read(partition: Any, records: Sequence[Any], collector: Collector, settled: Any) -> None:
    hand_over(partition, records, collector, settled)
    settled[partition] = records[-1].offset + 1


def _shifted(by: int) -> Any:
    class Shifted(dict[Any, int]):
        def __init__(self, settled: Any) -> None:
            super().__init__()
            self.settled = settled

        def __setitem__(self, partition: Any, offset: int) -> None:
            self.settled[partition] = offset + by

    def hand_over_shifted(partition: Any, records: Sequence[Any], collector: Collector, settled: Any) -> None:
        hand_over(partition, records, collector, Shifted(settled))

    return hand_over_shifted


async def _keep_none(self: Any, letters: Any) -> None:
    """They are lost."""


async def _commit_positions(self: Any) -> None:
    held = self._client.assignment()
    offsets = {each: at for each, at in self._client._positions.items() if each in held}
    if offsets:
        await self._client.commit(offsets)


async def _begin_as_committed(self: Any, committed: Any) -> Any:
    await _begin(self, committed)
    return dict(committed)


async def _begin_later(self: Any, committed: Mapping[Any, int]) -> Any:
    held = await self._store.begin_offsets({(each[0], each[1]): at for each, at in committed.items()})
    starts = {each: max(held[each] or 0, at) for each, at in committed.items()}
    self._stands = {(each[0], each[1]): start for each, start in starts.items()}
    return starts


async def _begin_though_emptied(self: Any, committed: Mapping[Any, int]) -> Any:
    held = await self._store.begin_offsets({(each[0], each[1]): at for each, at in committed.items()})
    starts = {each: at if held[each] is None else min(held[each], at) for each, at in committed.items()}
    self._stands = {(each[0], each[1]): start for each, start in starts.items()}
    return starts


async def _no_seek(self: Any, progress: StoreProgress, assigned: Sequence[Any]) -> None:
    offsets = {each: await self._client.committed(each) or 0 for each in assigned}
    await progress.begin(offsets)


async def _advance_blindly(self: Any, moves: Mapping[Partition, tuple[int, int]]) -> dict[Partition, int | None]:
    self.held |= {each: new for each, (_, new) in moves.items()}
    return {}


async def _note_whatever(self: Any, read_at: Any, server_run: str) -> bool:
    await _note(self, read_at, server_run)
    return True


async def _look_never(self: Any) -> None:
    """Nobody looks at an idle partition."""


WORKERS = (
    planted(
        "acknowledge_first", "a batch is acknowledged before its effects", (Collector, "_settle", _acknowledge_first)
    ),
    planted(
        "acknowledge_last",
        "the last member of a batch alone is acknowledged",
        (Collector, "_settle", _acknowledge_last),
    ),
    planted("no_second_try", "a batch that fails once counts as handled", (Collector, "_settle", _settle_once)),
    planted("word_before_effects", "the store is told before the effects", (Collector, "_settle", _note_first)),
    planted(
        "full_collector_drops", "a full collector drops what it is given", (Collector, "put_nowait", _drop_when_full)
    ),
    planted(
        "read_is_handled",
        "a record counts as handled once it is read",
        (aiokafka_consumer, "hand_over", _settled_when_read),
    ),
    planted(
        "commits_one_more", "one more than was handled is committed", (aiokafka_consumer, "hand_over", _shifted(1))
    ),
    planted(
        "commits_one_less", "one less than was handled is committed", (aiokafka_consumer, "hand_over", _shifted(-1))
    ),
    planted("commits_positions", "what was fetched is committed", (AiokafkaConsumer, "_commit", _commit_positions)),
    planted("no_dead_letters", "dead letters are kept nowhere", (DeadLetters, "keep", _keep_none)),
    planted(
        "begins_as_committed",
        "the store's word is asked and not followed",
        (StoreProgress, "begin", _begin_as_committed),
    ),
    planted(
        "begins_where_later",
        "the later of the store's word and the commit is taken",
        (StoreProgress, "_begin", _begin_later),
    ),
    planted("emptied_unseen", "an emptied store is gone on with", (StoreProgress, "_begin", _begin_though_emptied)),
    planted("no_seek", "partitions are not sought back", (AiokafkaConsumer, "_begin", _no_seek)),
    planted(
        "lost_tail_unseen",
        "a store that stands behind is gone on with",
        (StoreProgress, "_check", lambda self, sent, elsewhere: None),
    ),
    planted(
        "word_without_compare",
        "the store's word moves from wherever it stands",
        (InMemoryOffsets, "advance_offsets", _advance_blindly),
    ),
    planted(
        "restart_unseen",
        "effects that a restarted server lost are acknowledged",
        (StoreProgress, "note", _note_whatever),
    ),
    planted(
        "written_on_a_lost_tail",
        "no write compares where the store stands",
        (LastOffsets, "of", lambda self, partitions: {}),
    ),
    planted("idle_tail_unseen", "an idle partition is not looked at", (StoreProgress, "_look", _look_never)),
)
