"""The training log in memory, and who has what in it."""

from collections.abc import Sequence

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.running.erasing import LogErasure, user_digest
from foretaste.testing import InMemoryTrainingLog
from streams.codec import EVENTS
from streams.topics import TopicNames
from tests.simulation.parts.broker import Record
from tests.simulation.parts.world import Part, World, at_once

NAMES = TopicNames()


class Logged(Part):
    """What is durable in the training log, by what tells one row from another."""

    def __init__(self, world: World, *, exact: bool) -> None:
        super().__init__(world, lambda detail: Unavailable("training log", detail))
        self.exact = exact
        """The time of a behaviour is the same whoever reads it."""
        self.held = InMemoryTrainingLog()
        self.rankings: set[str] = set()
        self.behaviours: set[tuple[str, str, str, int]] = set()
        self.erased: dict[str, tuple[int, int]] = {}
        """By user, the latest erasure, and until when nothing counts (epoch milliseconds)."""
        self.ignored: set[tuple[str, int, int]] = set()
        """Records that are no events, and have no row."""

    def has(self, record: Record) -> bool:
        if (record.topic, record.partition, record.offset) in self.ignored:
            return True
        if record.topic == NAMES.ranked:
            return EVENTS.decode(record.value, UserRanked).ranking_id in self.rankings
        event = EVENTS.decode(record.value, UserBehaved)
        at_ms = min(round(1000 * event.at.timestamp()), record.timestamp)
        return self.row(event, at_ms) in self.behaviours

    def row(self, event: UserBehaved, at_ms: int) -> tuple[str, str, str, int]:
        return event.user_id, event.item_id, event.action, at_ms if self.exact else 0


class SimulatedLog:
    """The `TrainingLog` port of one process, as far as it is written."""

    def __init__(self, logged: Logged) -> None:
        self._logged = logged

    async def write_rankings(self, rankings: Sequence[UserRanked]) -> None:
        def effect() -> None:
            at_once(self._logged.held.write_rankings(rankings))
            self._logged.rankings.update(each.ranking_id for each in rankings)

        await self._logged.call(effect)

    async def write_behaviours(self, behaviours: Sequence[UserBehaved]) -> None:
        def effect() -> None:
            at_once(self._logged.held.write_behaviours(behaviours))
            self._logged.behaviours.update(
                self._logged.row(each, round(1000 * each.at.timestamp())) for each in behaviours
            )

        await self._logged.call(effect)

    async def erase(self, erasures: Sequence[LogErasure]) -> None:
        def effect() -> None:
            at_once(self._logged.held.erase(erasures))
            erased = at_once(self._logged.held.erased())
            for each in erasures:
                self._logged.world.note("log erases", each.user_id, each.at_ms, each.until_ms)
                _, until_ms = self._logged.erased.get(each.user_id, (0, 0))
                at_ms = erased[user_digest(each.user_id)]
                self._logged.erased[each.user_id] = (at_ms, max(until_ms, each.until_ms))

        await self._logged.call(effect)

    async def read(self, since_ms: int, until_ms: int) -> object:
        return await self._logged.held.read(since_ms, until_ms)
