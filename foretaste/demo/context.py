"""The running system and the data, which the live steps of the demo share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foretaste.kernel.events import Topic
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Report

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.runtime.encoding import Encoding
    from streams.parts import SignUpParts


@dataclass(slots=True)
class StepTimer:
    """Seconds by step, in the order of the steps."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 2)


@dataclass(frozen=True, slots=True)
class DemoContext:
    """The running system, the data, and the first generation that serves."""

    parts: "SignUpParts"
    api: str
    """Address of the ranking service."""
    prefix: str
    """Prefix of topic names."""
    dataset: "Dataset"
    encoding: "Encoding"
    """The encoding of the first generation."""
    generation: Generation
    """The first generation."""
    seed: int
    timer: StepTimer
    report: Report

    def topic(self, topic: Topic) -> str:
        return f"{self.prefix}{topic}"
