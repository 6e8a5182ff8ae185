"""A planted fault: a small patch of the real modules that the simulation must find."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch


@dataclass(frozen=True, slots=True)
class PlantedFault:
    """`patches` are owners, the names of what they own, and what takes its place."""

    name: str
    what: str
    patches: tuple[tuple[Any, str, Any], ...]

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, value in self.patches:
                stack.enter_context(patch.object(owner, name, value))
            yield


def planted(name: str, what: str, *patches: tuple[Any, str, Any]) -> PlantedFault:
    return PlantedFault(name, what, patches)
