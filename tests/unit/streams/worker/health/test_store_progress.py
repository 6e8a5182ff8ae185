"""A store that lost what it had is noticed, and read again from before it; another writer is left alone."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Origin
from foretaste.kernel.running.readiness import ProcessReadiness
from foretaste.kernel.values import Partition
from foretaste.testing import InMemoryOffsets
from streams.worker.health.store_progress import LostTail, StoreProgress
from streams.worker.metrics import Metrics
from tests.stream_parts import NOW_MS

TOPIC = "user-registered"
ZERO, ONE = (TOPIC, 0), (TOPIC, 1)


class AwayOffsets(InMemoryOffsets):
    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def begin_offsets(self, starts: Mapping[Partition, int]) -> dict[Partition, int | None]:
        self.asked.set()
        raise Unavailable("redis", "chosen by the test")


@dataclass
class Bench:
    store: InMemoryOffsets = field(default_factory=InMemoryOffsets)
    begin_within: float = 60.0
    readiness: ProcessReadiness = field(default_factory=ProcessReadiness)

    def __post_init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.progress = StoreProgress(
            self.store, self.metrics.lost_tails, self.readiness, look_every=0.0, begin_within=self.begin_within
        )

    def lost(self, kind: str) -> float:
        return self.metrics.registry.get_sample_value("foretaste_store_lost_tails_total", {"kind": kind}) or 0.0

    async def note(self, *offsets: int, server_run: str | None = None) -> bool:
        """By a batch that began in that run of the server; in the present one where absent."""
        began = self.store.run if server_run is None else server_run
        return await self.progress.note([Origin(TOPIC, 0, each, NOW_MS) for each in offsets], began)


async def test_a_store_that_keeps_up_is_read_on_from_where_the_group_stands() -> None:
    bench = Bench()
    assert await bench.progress.begin({ZERO: 5, ONE: 0}) == {ZERO: 5, ONE: 0}
    await bench.note(5, 6, 9)
    await bench.note(10)
    assert bench.store.held == {ZERO: 11, ONE: 0}
    assert await bench.progress.begin({ZERO: 11, ONE: 0}) == {ZERO: 11, ONE: 0}


async def test_what_was_not_committed_yet_is_read_again_and_told_again() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 0})
    await bench.note(0, 1, 2)
    assert await bench.progress.begin({ZERO: 1}) == {ZERO: 1}
    await bench.note(1, 2, 3)
    assert bench.store.held == {ZERO: 4}


async def test_a_lost_tail_is_read_again_by_the_worker_that_had_it_written() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 0, ONE: 7})
    await bench.note(0, 1, 2)
    bench.store.held[ZERO] = 1
    with pytest.raises(LostTail, match=r"lost its newest writes.*1 partitions, first user-registered/0@3"):
        await bench.note(3)
    assert bench.store.held[ZERO] == 1
    assert bench.lost("tail") == 1
    assert await bench.progress.begin({ZERO: 3, ONE: 7}) == {ZERO: 1, ONE: 7}
    await bench.note(1, 2, 3)
    assert bench.store.held[ZERO] == 4


async def test_a_lost_tail_is_read_again_by_a_worker_that_was_not_there() -> None:
    store = InMemoryOffsets()
    await Bench(store).progress.begin({ZERO: 12})
    assert await Bench(store).progress.begin({ZERO: 15}) == {ZERO: 12}


async def test_a_partition_that_lies_idle_is_looked_at() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 3, ONE: 4})
    bench.store.held[ONE] = 2
    with pytest.raises(LostTail, match="user-registered/1@4"):
        await bench.progress.run()


async def test_an_emptied_store_is_read_again_from_the_oldest_event() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 3, ONE: 4})
    bench.store.held.clear()
    with pytest.raises(LostTail, match="the store was emptied"):
        await bench.note(3)
    assert bench.lost("all") == 1
    assert await bench.progress.begin({ZERO: 3, ONE: 4}) == {ZERO: 0, ONE: 0}
    assert bench.store.held == {ZERO: 0, ONE: 0}


async def test_an_emptied_store_is_noticed_when_partitions_move_before_anybody_looked() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 3})
    bench.store.held.clear()
    assert await bench.progress.begin({ZERO: 3, ONE: 4}) == {ZERO: 0, ONE: 0}


async def test_a_lost_tail_is_noticed_before_anything_is_written_on_top() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 0, ONE: 4})
    await bench.note(0, 1)
    bench.store.held |= {ZERO: 1}
    assert await bench.progress.confirm() == bench.store.run, "nothing is asked of the server that it knows"
    bench.store.run = "second"
    with pytest.raises(LostTail, match="1 partitions, first user-registered/0@2"):
        await bench.progress.confirm()
    bench.store.held[ZERO] = 9
    assert await bench.progress.confirm() == "second"
    assert bench.store.held == {ZERO: 9, ONE: 4}


async def test_a_try_that_failed_is_no_reason_to_trust_the_server() -> None:
    """The store may have refused the write, since it stands behind: its run alone does not tell."""
    bench = Bench()
    await bench.progress.begin({ZERO: 0})
    await bench.note(0, 1)
    bench.store.held.clear()
    assert await bench.progress.confirm() == bench.store.run
    with pytest.raises(LostTail, match="the store was emptied"):
        await bench.progress.confirm(after_failure=True)


class SlowAnswers(InMemoryOffsets):
    """Its answers to moves arrive when the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.answered, self.arrive = asyncio.Event(), asyncio.Event()
        self.arrive.set()

    async def advance_offsets(self, moves: Mapping[Partition, tuple[int, int]]) -> dict[Partition, int | None]:
        elsewhere = await super().advance_offsets(moves)
        self.answered.set()
        await self.arrive.wait()
        return elsewhere


async def look_that_is_answered(progress: StoreProgress, store: SlowAnswers) -> asyncio.Task[None]:
    """A look at every partition, answered by the store, whose answer has not arrived yet."""
    store.arrive.clear()
    store.answered.clear()
    looking = asyncio.create_task(progress._look())
    await store.answered.wait()
    return looking


async def test_an_answer_is_compared_with_what_was_asked_and_not_with_what_was_done_meanwhile() -> None:
    store = SlowAnswers()
    bench = Bench(store)
    await bench.progress.begin({ZERO: 100})
    store.held[ZERO] = 101
    looking = await look_that_is_answered(bench.progress, store)
    store.held[ZERO] = 100
    store.arrive.set()
    await bench.note(148, 149)
    assert store.held == {ZERO: 150}
    await looking
    store.held[ZERO] = 149
    with pytest.raises(LostTail, match="user-registered/0@150"):
        await bench.progress._look()


async def test_a_partition_that_was_given_up_may_be_begun_lower_by_others() -> None:
    """What this worker acknowledged of it last was not committed."""
    store = SlowAnswers()
    bench, other = Bench(store), Bench(store)
    await bench.progress.begin({ZERO: 90, ONE: 3})
    await bench.note(*range(90, 100))
    store.held[ZERO] = 90
    looking = await look_that_is_answered(bench.progress, store)
    bench.progress.give_up()
    store.arrive.set()
    await looking
    assert await other.progress.begin({ZERO: 90}) == {ZERO: 90}
    await bench.progress._look()
    assert await bench.note(100), "a batch that was left over"
    assert store.held == {ZERO: 90, ONE: 3}
    assert await bench.progress.begin({ONE: 3}) == {ONE: 3}
    store.held[ONE] = 2
    with pytest.raises(LostTail, match="user-registered/1@3"):
        await bench.progress._look()


async def test_an_emptied_store_is_noticed_though_all_partitions_were_given_up_meanwhile() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 3})
    bench.progress.give_up()
    bench.store.held.clear()
    assert await bench.progress.begin({ONE: 4}) == {ONE: 0}


async def test_another_writer_is_not_disturbed() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 3})
    bench.store.held[ZERO] = 50
    await bench.note(3, 4)
    assert bench.store.held == {ZERO: 50}


async def test_a_topic_that_begins_anew_is_no_lost_tail() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 50})
    await bench.note(0)
    await bench.note(1)
    assert bench.store.held == {ZERO: 50}
    assert await bench.progress.begin({ZERO: 2}) == {ZERO: 2}
    assert bench.store.held == {ZERO: 2}


async def test_partitions_that_were_not_begun_are_not_told() -> None:
    bench = Bench()
    await bench.progress.begin({ONE: 0})
    await bench.note(3)
    assert bench.store.held == {ONE: 0}


async def test_a_worker_that_stops_does_not_wait_for_a_store_that_is_away() -> None:
    store = AwayOffsets()
    bench = Bench(store)
    beginning = asyncio.create_task(bench.progress.begin({ZERO: 3}))
    await store.asked.wait()
    await asyncio.sleep(0)
    assert "chosen by the test" in str(bench.progress.waits_for)
    bench.progress.close()
    assert await beginning == {ZERO: 3}
    assert bench.progress.waits_for is None


async def test_a_store_that_stays_away_is_given_up_with_its_reason() -> None:
    bench = Bench(AwayOffsets(), begin_within=0.01)
    with pytest.raises(Unavailable, match=r"store is not available: did not tell for 0\.01 s .* chosen by the test"):
        await bench.progress.begin({ZERO: 3})
    assert bench.progress.waits_for is None


class AwayUsers(InMemoryOffsets):
    """It is away for the first look at its users."""

    looks = 0

    async def holds_users(self) -> bool:
        self.looks += 1
        if self.looks == 1:
            raise Unavailable("redis", "chosen by the test")
        return await super().holds_users()


@pytest.mark.parametrize("store", [InMemoryOffsets, AwayUsers])
async def test_a_store_that_was_emptied_while_no_worker_ran_is_told_with_what_to_do(
    store: type[InMemoryOffsets], caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(store())
    assert await bench.progress.begin({ZERO: 3, ONE: 4}) == {ZERO: 3, ONE: 4}
    reason = bench.readiness.reasons["store"]
    assert reason.startswith(
        "the store holds no users, though the group has handled 7 events: it was emptied while no worker"
    )
    assert len(reason) < 190, "status shows it whole"
    (line,) = [message for message in caplog.messages if message.startswith(reason)]
    assert "`foretaste rebuild` fills it again" in line
    assert bench.lost("unseen") == 1
    await bench.progress.begin({ZERO: 3, ONE: 4})
    assert bench.lost("unseen") == 1


@pytest.mark.parametrize(("users", "committed"), [(True, 5), (False, 0)], ids=["earlier version", "new deployment"])
async def test_a_store_without_offsets_that_was_not_emptied_is_no_matter(users: bool, committed: int) -> None:
    bench = Bench(InMemoryOffsets(users=users))
    await bench.progress.begin({ZERO: committed})
    assert bench.readiness.reasons == {}
    assert bench.lost("unseen") == 0


async def test_of_a_server_that_started_anew_since_the_batch_began_the_effects_are_made_again() -> None:
    """What it lost may be just these effects: the offset stands where it was believed to be."""
    bench = Bench()
    await bench.progress.begin({ZERO: 0})
    began = await bench.progress.confirm()
    bench.store.run = "second"
    assert not await bench.note(0, 1, server_run=began)
    assert await bench.note(0, 1), "made again in the run that was seen then"
    assert bench.store.held == {ZERO: 2}
    assert not await bench.note(2, server_run=began), "of another way, whose batch began before as well"


async def test_whoever_began_a_partition_in_an_emptied_store_reads_it_again_once_its_last_reader_knows() -> None:
    """Another worker takes a partition over, and begins it where the group stands, before anybody sees what is gone."""
    bench, other = Bench(), Bench()
    other.store = bench.store
    other.progress = StoreProgress(bench.store, other.metrics.lost_tails)
    await bench.progress.begin({ZERO: 0, ONE: 0})
    await bench.note(0, 1, 2)
    bench.store.held.clear()
    assert await other.progress.begin({ZERO: 3}) == {ZERO: 3}, "alone, it cannot tell it from a new deployment"
    assert await bench.progress.begin({ONE: 0}) == {ONE: 0}
    with pytest.raises(LostTail, match="lost its newest writes"):
        await other.note(3)
    assert await other.progress.begin({ZERO: 3}) == {ZERO: 0}


async def test_a_partition_that_the_store_never_heard_of_was_emptied_for_who_stood_in_others() -> None:
    bench = Bench()
    await bench.progress.begin({ZERO: 4})
    bench.store.held = {ZERO: 4}
    assert await bench.progress.begin({ZERO: 4, ONE: 7}) == {ZERO: 0, ONE: 0}


async def test_effects_that_a_second_lost_tail_took_behind_the_same_word_are_read_again() -> None:
    """The worker had begun where a first one had left the store, and ends before it makes them again."""
    bench = Bench()
    await bench.progress.begin({ZERO: 6})
    began = bench.store.run
    bench.store.run = "another"
    assert not await bench.note(6, 7, server_run=began)
    assert bench.store.held == {ZERO: 6}
    assert await Bench(bench.store).progress.begin({ZERO: 7}) == {ZERO: 6}
