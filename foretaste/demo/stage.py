"""What the live steps of the demo share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foretaste.console import Report
from foretaste.kernel.events import Topic
from foretaste.kernel.generations import Generation

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.runtime.encoding import Encoding
    from streams.parts import SignUpParts


@dataclass(slots=True)
class Timer:
    """Seconds by step, in the order of the steps."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 2)


@dataclass(frozen=True, slots=True)
class Stage:
    """The running system, the data, and the first generation that serves."""

    parts: "SignUpParts"
    api: str
    """Address of the ranking service."""
    prefix: str
    """Of topics."""
    dataset: "Dataset"
    encoding: "Encoding"
    """Of the first generation."""
    generation: Generation
    """The first one."""
    seed: int
    timer: Timer
    report: Report

    def topic(self, topic: Topic) -> str:
        return f"{self.prefix}{topic}"
