"""The `Towers` port without Triton: the same published folders, read by the same code, in this process."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from weakref import WeakSet

from onnxruntime.capi import onnxruntime_pybind11_state as refusals

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.values import Attributes, FloatArray
from models.generations.repository import FILES
from models.runtime.candidates import Wished, matching
from models.runtime.local import LocalTowers
from models.runtime.refusals import BadRequest

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
    """The index and both towers of any generation in a model repository, on the CPU, one thread a call."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._towers = lru_cache(maxsize=KEPT)(self._opened)
        self._registered: dict[str, Attributes | None] = {}
        self._open = WeakSet[LocalTowers]()
        self._adding = threading.Lock()

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        """Virtual behaviour (B, M, D). Raises `Unavailable` for a generation that is not published."""
        return await asyncio.to_thread(lambda: self._towers(generation).virtual_behaviour(attributes))

    async def counted_virtual_behaviour(
        self, attributes: Sequence[Attributes], generation: int
    ) -> tuple[FloatArray, dict[str, int]]:
        """The same of at least one user, and `unknown_values` of them; they are encoded once."""
        return await asyncio.to_thread(lambda: self._towers(generation).counted_virtual_behaviour(attributes))

    async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        """Scores (K,) of each request, as the port says."""
        return await asyncio.to_thread(self._score, requests, generation)

    async def candidates(self, requests: Sequence[CandidateRequest], generation: int) -> list[list[str]]:
        """The candidates of each request, as the port `Retrieval` says."""
        return await asyncio.to_thread(self._candidates, requests, generation)

    async def matching(self, items: Sequence[str], attributes: Wished, generation: int) -> list[str]:
        """Those of the items that have these attributes, as the port says."""
        return await asyncio.to_thread(lambda: matching(self._towers(generation).encoding, items, attributes))

    async def questions(self, generation: int) -> Sequence[str]:
        """The items that the generation asks new users about, best first."""
        return await asyncio.to_thread(lambda: self._towers(generation).encoding.questions.items)

    async def unknown_values(self, attributes: Sequence[Attributes], generation: int) -> dict[str, int]:
        """By attribute, how many users have a value that is not in the generation's vocabulary."""
        return await asyncio.to_thread(lambda: self._towers(generation).encoding.unknown_values(attributes))

    async def unknown(self, items: Sequence[str], generation: int) -> list[str]:
        """Those of the items that are not in the generation's vocabulary."""
        return self._towers(generation).unknown(items)

    async def add_items(self, items: Mapping[str, Attributes | None]) -> None:
        """Take in items that were registered, as the port says."""
        await asyncio.to_thread(self._add, items)

    async def prepare(self, generation: int) -> None:
        """Open both towers of a generation. Raises `Unavailable` for one that is not published."""
        await asyncio.to_thread(self._towers, generation)

    async def load(self, generation: int) -> None:
        """Open both towers of a generation, so that the first call finds them ready.

        Raises `Unavailable` for one that is not published, or that cannot be read.
        """
        try:
            await self.prepare(generation)
        except _UNREADABLE as error:
            reason = str(error).partition("\n")[0]
            raise Unavailable("in-process towers", f"generation {generation} was not loaded: {reason}") from error

    async def unload(self, generation: int) -> None:
        """Let go of a generation that was withdrawn from the repository; the others are opened again when called."""
        self._towers.cache_clear()

    async def ready(self, generation: int) -> bool:
        """Whether both towers of the generation can answer."""
        return all((self._repository / model / str(generation)).is_dir() for model in FILES)

    async def close(self) -> None:
        self._towers.cache_clear()

    def _score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        try:
            return self._towers(generation).score(requests)
        except BadRequest as error:
            raise InvalidInput("virtual_behaviour", generation, str(error)) from error

    def _candidates(self, requests: Sequence[CandidateRequest], generation: int) -> list[list[str]]:
        try:
            return self._towers(generation).candidates(requests)
        except BadRequest as error:
            raise InvalidInput("virtual_behaviour", generation, str(error)) from error

    def _opened(self, generation: int) -> LocalTowers:
        folders = {model: self._repository / model / str(generation) for model in FILES}
        for model, folder in folders.items():
            if not folder.is_dir():
                problem = f"generation {generation} of {model} is not published at {folder}"
                raise Unavailable("in-process towers", problem)
        towers = LocalTowers(*folders.values())
        with self._adding:
            towers.encoding.add_items(self._registered)
            self._open.add(towers)
        return towers

    def _add(self, items: Mapping[str, Attributes | None]) -> None:
        with self._adding:
            self._registered.update(items)
            for towers in self._open:
                towers.encoding.add_items(items)
