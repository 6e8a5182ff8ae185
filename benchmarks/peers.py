"""The libraries that Foretaste is timed against, and what they are asked to train."""

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from benchmarks.rows import PeerRows
from benchmarks.stopwatch import Stopwatch
from foretaste.kernel.errors import InvalidInput

Model: TypeAlias = Literal["din", "dnn"]

PEERS = {"torch-rechub": "torch_rechub", "deepctr-torch": "deepctr_torch"}
"""By the name of its distribution, the module that it brings."""


@dataclass(frozen=True, slots=True)
class Task:
    """A model of the same widths, trained in the same way."""

    model: Model
    dimension: int
    hidden: tuple[int, ...]
    attention: tuple[int, ...]
    """Widths of DIN's activation unit, before its unit."""
    dropout: float
    batch: int
    rate: float
    """Adam's."""
    seed: int


def chosen(text: str) -> tuple[str, ...]:
    """The peers of "torch-rechub,deepctr-torch", or of "none".

    Raises `InvalidInput` for a name that is neither, or for a peer that is not installed, saying how to install it.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or names == ("none",):
        return ()
    for name in names:
        if name not in PEERS:
            raise InvalidInput("peers", name, f"is none of {', '.join(PEERS)}; or choose none")
        if importlib.util.find_spec(PEERS[name]) is None:
            how = "install it with pip install 'foretaste[train,bench]', or leave it out with --peers"
            raise InvalidInput("peers", name, f"is not installed: {how}")
    return names


def train(library: str, task: Task, rows: PeerRows, watch: Stopwatch) -> None:
    """Train a new model of the library once over the rows, as its documentation does, marking each batch.

    What the library imports is loaded here and no earlier: an adapter `benchmarks.<module>_models` each.
    """
    adapter = importlib.import_module(f"benchmarks.{PEERS[library]}_models")
    with _quiet():
        adapter.train(task, rows, watch)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both libraries print, and draw a bar a batch."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
