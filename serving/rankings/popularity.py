"""How popular the items of a generation are, kept in memory: what is left to go by while all parts are away."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.ports import Clock, Generations
from foretaste.kernel.retrieval import MOST_POPULAR
from foretaste.kernel.retrying import FailureStreak, until_it_succeeds
from serving.rankings.breaker import PartBreaker

MOST_KEPT = 100_000
"""Items of a generation whose shares are kept; of a larger catalogue, those of the most popular alone."""
GENERATIONS_KEPT = 2
LONGEST_PAUSE = 5.0
"""Seconds between two tries at most, while Redis is away."""


@dataclass(frozen=True, slots=True)
class KnownShares:
    """Shares of the training interactions by item, and the items with the greatest ones, greatest first."""

    shares: Mapping[str, float]
    popular: Sequence[str]
    whole: bool
    """All of the catalogue: an item that is not among them has none."""


class KnownPopularity:
    """Shares of the generations that rankings were answered with lately, brought behind the answers by `run`.

    Until they are here, and for what is not kept of a large catalogue, Redis is asked.
    """

    def __init__(self, generations: Generations, clock: Clock = time.monotonic) -> None:
        self._generations = generations
        self._known: dict[int, KnownShares] = {}
        self._wanted: int | None = None
        self._asked = asyncio.Event()
        self._breaker = PartBreaker("redis", clock)
        self._streak = FailureStreak("popularity", clock)
        self._retrying = until_it_succeeds(longest=LONGEST_PAUSE, note=self._streak.note)

    def of(self, number: int) -> KnownShares | None:
        """What is known of a generation. Where that is nothing yet, it is brought soon, and nobody waits."""
        known = self._known.get(number)
        if known is None and self._wanted != number:
            self._wanted = number
            self._asked.set()
        return known

    async def shares_of(self, items: Sequence[str], number: int, seconds: float) -> list[float | None]:
        """Each item's share, None for one that the generation does not know, or has no kept share while Redis is away.

        Raises `Unavailable` where Redis does not answer within `seconds` and nothing is kept.
        """
        known = self.of(number)
        if known is None or not known.whole:
            try:
                async with self._breaker.within(seconds):
                    return await self._generations.popularity(number, items)
            except Unavailable:
                if known is None:
                    raise
        return [known.shares.get(item) for item in items]

    async def most_popular(self, number: int, seconds: float) -> Sequence[str]:
        """The items with the greatest shares, greatest first, `MOST_POPULAR` at most; raises as `shares_of` does."""
        known = self.of(number)
        if known is not None:
            return known.popular
        async with self._breaker.within(seconds):
            return await self._generations.popular(number, MOST_POPULAR)

    async def run(self) -> None:
        """Bring what is asked for, until cancelled; while Redis is away, again and again."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            number = self._wanted
            if number is not None and number not in self._known:
                await self._retrying(self.bring, number)
                self._streak.over()
            if self._wanted == number:
                self._wanted = None

    async def bring(self, number: int) -> None:
        """Bring the shares of a generation now. Raises `Unavailable`."""
        popular = await self._generations.popular(number, MOST_POPULAR)
        if not popular:
            raise Unavailable("redis", f"it knows of no item of generation {number}")
        shares = await self._generations.shares(number, MOST_KEPT)
        if shares is None:
            found = await self._generations.popularity(number, popular)
            some = {item: share for item, share in zip(popular, found, strict=True) if share is not None}
            self._known[number] = KnownShares(some, popular, whole=False)
        else:
            self._known[number] = KnownShares(shares, popular, whole=True)
        while len(self._known) > GENERATIONS_KEPT:
            del self._known[next(iter(self._known))]
