"""Towers in memory whose answers tell what they were made from, and may be no numbers; they may be away, or hang."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.values import Attributes, FloatArray
from tests.simulation.parts.world import Part, World

SHAPE = (1, 2)
"""(M, D)."""
POISON = "poison"
"""The attribute of a user for whom no tower answers a number."""
ITEMS = tuple(f"i{number}" for number in range(6))
"""That a generation knows."""


def made_of(attributes: Attributes, generation: int) -> FloatArray:
    """(M, D): the virtual behaviour of a user with these attributes, which says so."""
    if POISON in attributes:
        return np.full(SHAPE, np.nan, np.float32)
    number = attributes.get("n", 0)
    return np.array([[number, generation]], np.float32)


def mean_of(generation: int) -> FloatArray:
    """(M, D): the mean virtual behaviour of a generation."""
    return np.array([[-1, generation]], np.float32)


def generation_of(number: int, trained_by: str = "first", warm_after: int = 3) -> Generation:
    """The record of a generation; another training has another one."""
    return Generation(number, warm_after, {"n": "numeric"}, {}, mean_of(number), trained_by)


def is_bad(seed: int, number: int, share: float) -> bool:
    """Whether the ranking tower of a generation answers what is no number: decided by the seed, for good."""
    drawn = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=4).digest()
    return number > 1 and int.from_bytes(drawn) / 2**32 < share


class Triton(Part):
    """The server of all towers. `loaded` are the generations that answer."""

    def __init__(self, world: World, bad_share: float) -> None:
        super().__init__(world, partial(Unavailable, "triton"))
        self.prepares = 0.0
        """Seconds until a client has what it needs to ask another generation's towers."""
        self.seconds = 0.0
        """That a zero-shot tower takes."""
        self.loaded: set[int] = set()
        self.published: dict[int, str] = {}
        """The model repository: by number, the training."""
        self.unloading: Callable[[int], None] = lambda generation: None
        self._bad_share = bad_share

    def is_bad(self, number: int) -> bool:
        return is_bad(self.world.seed, number, self._bad_share)

    def check_loaded(self, generation: int) -> None:
        if generation not in self.loaded:
            raise self.error(f"generation {generation} is not loaded")


class SimulatedTowers:
    """The `TowerAdmin` port of one process."""

    def __init__(self, triton: Triton) -> None:
        self._triton = triton

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        def answer() -> FloatArray:
            self._triton.check_loaded(generation)
            return np.stack([made_of(each, generation) for each in attributes])

        await asyncio.sleep(self._triton.seconds)
        return await self._triton.call(answer)

    async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        def answer() -> list[FloatArray]:
            self._triton.check_loaded(generation)
            for each in requests:
                self._check_input(each, generation)
            score = np.nan if self._triton.is_bad(generation) else 0.5
            return [np.full(len(each.items), score, np.float32) for each in requests]

        return await self._triton.call(answer)

    async def unknown(self, items: Sequence[str], generation: int) -> list[str]:
        return [item for item in items if item not in ITEMS]

    async def prepare(self, generation: int) -> None:
        await self._triton.call(lambda: self._triton.check_loaded(generation))
        await asyncio.sleep(self._triton.prepares)

    async def load(self, generation: int) -> None:
        def effect() -> None:
            if generation not in self._triton.published:
                raise self._triton.error(f"generation {generation} is not published")
            self._triton.loaded.add(generation)

        await self._triton.call(effect)

    async def unload(self, generation: int) -> None:
        def effect() -> None:
            self._triton.unloading(generation)
            self._triton.loaded.discard(generation)

        await self._triton.call(effect)

    async def ready(self, generation: int) -> bool:
        return await self._triton.call(lambda: generation in self._triton.loaded)

    async def close(self) -> None:
        """Nothing is held open."""

    def _check_input(self, request: RankingInput, generation: int) -> None:
        """What the ranking tower reads belongs together: the user's own, or the mean, of the generation that scores."""
        own, mean = made_of(request.attributes, generation), mean_of(generation)
        self._triton.world.expect(
            np.array_equal(request.virtual, own) or np.array_equal(request.virtual, mean),
            "a tower read virtual behaviour that belongs to other attributes or to another generation",
            request.virtual.tolist(),
            dict(request.attributes),
            generation,
        )
