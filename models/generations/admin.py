"""The `GenerationAdmin` port on what publishing works on."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.generations import catalogue, publish
from models.generations.publish import PublishParts


class PublishedGenerations:
    """Generations in Redis, in Triton and in the folder of their files."""

    def __init__(self, parts: PublishParts) -> None:
        self._parts = parts

    async def summaries(self) -> Sequence[Mapping[str, Any]]:
        return [each.to_dict() for each in await catalogue.summaries(self._parts)]

    async def rollback(self, reason: str, expected: int | None = None) -> tuple[int, int]:
        return await publish.rollback(self._parts, reason, expected)
