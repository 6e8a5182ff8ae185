"""The in-memory form of recorded generations and of the pointer: the same semantics as on Redis, for tests."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from features.generations.records import check_idle, check_slot
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.generations import Generation, Move, Serving, check_same, slot
from foretaste.kernel.ports import Clock
from foretaste.kernel.retrieval import MOST_POPULAR


class InMemoryGenerations:
    """Records, the pointer and its moves in dictionaries of this process."""

    def __init__(self, now: Clock = time.time) -> None:
        self._now = now
        self._records: dict[int, Generation] = {}
        self._popularity: dict[int, dict[str, float]] = {}
        self._highest = 0
        self._retired: set[int] = set()
        self._active: int | None = None
        self._previous: int | None = None
        self._filling: int | None = None
        self._moves: list[Move] = []

    async def record(self, generation: Generation, popularity: Mapping[str, float]) -> None:
        number = generation.number
        if number in self._retired:
            raise InvalidInput("generation", number, "was retired, and its number is not given again")
        if number in self._records:
            check_same(generation, self._records[number])
            return
        self._records[number] = generation
        self._popularity[number] = dict(popularity)
        self._highest = max(self._highest, number)

    async def active(self) -> Generation | None:
        return None if self._active is None else self._records[self._active]

    async def serving(self) -> Serving:
        filling = None if self._filling is None else self._records[self._filling]
        return Serving(await self.active(), filling, self._previous)

    async def activate(self, number: int, expected: int | None, reason: str = "", *, filled: bool = False) -> bool:
        self._check_recorded(number)
        if self._active != expected:
            return False
        if number != expected:
            at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds")
            self._moves.insert(0, Move(number, expected, at, reason, filled))
            self._previous, self._active = expected, number
        if self._filling is not None and slot(self._filling) == slot(number):
            self._filling = None
        return True

    async def fill(self, number: int | None) -> None:
        if number is not None:
            self._check_recorded(number)
            check_slot(number, self._active)
        self._filling = number

    async def numbers(self) -> list[int]:
        return sorted(self._records)

    async def moves(self, limit: int = 20) -> list[Move]:
        return self._moves[:limit]

    async def retire(self, number: int) -> None:
        self._check_recorded(number)
        check_idle(number, self._active, self._filling, self._previous)
        del self._records[number], self._popularity[number]
        self._retired.add(number)

    async def get(self, number: int) -> Generation | None:
        return self._records.get(number)

    async def popular(self, number: int, count: int) -> list[str]:
        shares = self._popularity.get(number, {})
        return sorted(shares, key=lambda item: (-shares[item], item))[: min(max(count, 0), MOST_POPULAR)]

    async def shares(self, number: int, most: int) -> dict[str, float] | None:
        shares = self._popularity.get(number, {})
        return dict(shares) if len(shares) <= most else None

    async def popularity(self, number: int, items: Sequence[str]) -> list[float | None]:
        shares = self._popularity.get(number, {})
        return [shares.get(item) for item in items]

    async def highest(self) -> int:
        return self._highest

    async def close(self) -> None:
        """Nothing is held open."""

    def _check_recorded(self, number: int) -> None:
        if number not in self._records:
            raise InvalidInput("generation", number, "expected a recorded generation")
