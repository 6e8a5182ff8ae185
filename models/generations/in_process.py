"""The `Towers` port without Triton: the same published folders, read by the same code, in this process."""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from onnxruntime.capi import onnxruntime_pybind11_state as refusals

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.values import Attributes, FloatArray
from models.generations.repository import RANKING_TOWER, ZERO_SHOT_TOWER
from models.runtime.towers import BadRequest, RankingRequest, ServedRanking, ServedZeroShot

_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    refusals.Fail,
    refusals.InvalidGraph,
    refusals.InvalidProtobuf,
    refusals.NoSuchFile,
    refusals.NotImplemented,
    refusals.RuntimeException,
)
"""What a damaged version raises, be it its encoding or its ONNX; ONNX Runtime's errors have no base of their own."""
KEPT = 4
"""Generations held open at once; the one used longest ago goes first."""


class InProcessTowers:
    """Both towers of any generation published in a model repository, on the CPU, one thread a call."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._zero_shot = lru_cache(maxsize=KEPT)(lambda number: ServedZeroShot(self._version(ZERO_SHOT_TOWER, number)))
        self._ranking = lru_cache(maxsize=KEPT)(lambda number: ServedRanking(self._version(RANKING_TOWER, number)))

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        """Virtual behaviour (B, M, D). Raises `Unavailable` for a generation that is not published."""
        return await asyncio.to_thread(lambda: self._zero_shot(generation).run(attributes))

    async def score(self, request: RankingInput, generation: int) -> FloatArray:
        """Scores (K,), as the port says.

        Raises `InvalidInput` for virtual behaviour of another shape than the generation's."""
        return await asyncio.to_thread(self._score, request, generation)

    async def load(self, generation: int) -> None:
        """Open both towers of a generation, so that the first call finds them ready.

        Raises `Unavailable` for one that is not published, or that cannot be read.
        """
        try:
            await asyncio.to_thread(lambda: (self._zero_shot(generation), self._ranking(generation)))
        except _UNREADABLE as error:
            reason = str(error).partition("\n")[0]
            raise Unavailable("in-process towers", f"generation {generation} was not loaded: {reason}") from error

    async def unload(self, generation: int) -> None:
        """Let go of a generation that was withdrawn from the repository; the others are opened again when called."""
        self._zero_shot.cache_clear()
        self._ranking.cache_clear()

    async def ready(self, generation: int) -> bool:
        """Whether both towers of the generation can answer."""
        return all(self._path(tower, generation).is_dir() for tower in (ZERO_SHOT_TOWER, RANKING_TOWER))

    async def close(self) -> None:
        self._zero_shot.cache_clear()
        self._ranking.cache_clear()

    def _score(self, request: RankingInput, generation: int) -> FloatArray:
        tower = self._ranking(generation)
        raw = RankingRequest(
            attributes=request.attributes,
            context=request.context,
            items=request.behaviour.items,
            actions=request.behaviour.actions,
            virtual=request.virtual,
            candidates=request.items,
        )
        try:
            encoded = tower.encode(raw)
        except BadRequest as error:
            raise InvalidInput("ranking_tower", request.virtual.shape, str(error)) from error
        return tower.run([encoded])[0]

    def _path(self, tower: str, generation: int) -> Path:
        return self._repository / tower / str(generation)

    def _version(self, tower: str, generation: int) -> Path:
        path = self._path(tower, generation)
        if not path.is_dir():
            raise Unavailable("in-process towers", f"generation {generation} of {tower} is not published at {path}")
        return path
