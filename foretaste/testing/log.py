"""The in-memory form of the training log."""

from collections.abc import Callable, Sequence
from datetime import date

from features.log.erasures import ErasedFromLog, LogFence
from features.log.rows import BEHAVIOUR_ROWS, RANKING_ROWS, behaviours_table, each_once, rankings_table, within
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.ports import CompactedDays, Logged
from foretaste.kernel.running.erasing import LogErasure, user_digest


class InMemoryTrainingLog:
    """Rows in lists of this process, each as often as it was written, and read once."""

    def __init__(self) -> None:
        self._rankings: list[UserRanked] = []
        self._behaviours: list[UserBehaved] = []
        self._fences: dict[bytes, LogFence] = {}

    async def write_rankings(self, rankings: Sequence[UserRanked]) -> None:
        self._rankings += rankings

    async def write_behaviours(self, behaviours: Sequence[UserBehaved]) -> None:
        self._behaviours += behaviours

    async def read(self, since_ms: int, until_ms: int) -> Logged:
        erased = ErasedFromLog(self._fences)
        rankings = erased.left_of(rankings_table(self._rankings), "at")
        behaviours = erased.left_of(behaviours_table(self._behaviours), "at")
        return Logged(
            *erased.of_known(
                each_once(within(rankings, since_ms, until_ms), RANKING_ROWS),
                each_once(within(behaviours, since_ms, until_ms), BEHAVIOUR_ROWS),
            )
        )

    async def erase(self, erasures: Sequence[LogErasure]) -> None:
        for each in erasures:
            if not ErasedFromLog(self._fences).knows(each):
                digest = user_digest(each.user_id)
                self._fences[digest] = LogFence.of(each).beside(self._fences.get(digest))

    async def erased(self) -> dict[bytes, int]:
        return ErasedFromLog(self._fences).times()

    async def compact(self, before: date, ended: Callable[[], bool] = lambda: False) -> CompactedDays:
        """There are no files: the days are those that have rows, as long as `ended` does not say so."""
        days = sorted({each.at.date() for each in self._logged()})
        return CompactedDays([day for day in days if day < before and not ended()])

    async def expire(self, before: date) -> Sequence[date]:
        logged = self._logged()
        self._rankings = [each for each in self._rankings if each.at.date() >= before]
        self._behaviours = [each for each in self._behaviours if each.at.date() >= before]
        return sorted({each.at.date() for each in logged if each.at.date() < before})

    def _logged(self) -> list[UserRanked | UserBehaved]:
        return [*self._rankings, *self._behaviours]
