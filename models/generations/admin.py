"""The `GenerationAdmin` port on what publishing works on."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from foretaste.kernel.errors import DamagedArtifact, Unavailable
from foretaste.kernel.service_ports import BehaviourMap, FieldChoices, GenerationChoices
from models.generations import catalogue, publish
from models.generations.placing import read_map
from models.generations.publish import PublishParts
from models.runtime import layout
from models.runtime.encoding import Encoding, FieldEncoder

VALUES, ITEMS = 200, 1000
"""Values of a field, and items, that are offered to choose from, at most."""

Read = TypeVar("Read")


class PublishedGenerations:
    """Generations in Redis, in Triton and in the folder of their files."""

    def __init__(self, parts: PublishParts) -> None:
        self._parts = parts

    async def summaries(self) -> Sequence[Mapping[str, Any]]:
        return [each.to_dict() for each in await catalogue.summaries(self._parts)]

    async def rollback(self, reason: str, expected: int | None = None) -> tuple[int, int]:
        return await publish.rollback(self._parts, reason, expected)

    async def choices(self, number: int) -> GenerationChoices:
        return await asyncio.to_thread(self._of_files, number, _choices)

    async def behaviour_map(self, number: int) -> BehaviourMap | None:
        return await asyncio.to_thread(self._of_files, number, lambda folder: read_map(folder / layout.MAP))

    def _of_files(self, number: int, read: Callable[[Path], Read]) -> Read:
        folder = self._parts.artifact(number)
        try:
            return read(folder)
        except (OSError, DamagedArtifact) as error:
            raise Unavailable(f"the folder of generation {number}", f"{folder}: {error}") from error


def _choices(folder: Path) -> GenerationChoices:
    encoding = Encoding.from_json((folder / layout.ENCODING).read_text(encoding="utf-8"))
    popularity: dict[str, float] = json.loads((folder / layout.POPULARITY).read_text(encoding="utf-8"))
    return GenerationChoices(
        attributes=_of_fields(encoding.attributes),
        context=_of_fields(encoding.context),
        actions=encoding.actions,
        items=sorted(popularity, key=lambda item: -popularity[item])[:ITEMS],
    )


def _of_fields(fields: Mapping[str, FieldEncoder]) -> dict[str, FieldChoices]:
    return {name: FieldChoices(field.kind, field.probes[:VALUES]) for name, field in fields.items()}
