"""The libraries that Foretaste is timed against, and the model that each of them trains."""

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from benchmarks.timing import Stopwatch
from benchmarks.training.peer_rows import PeerRows
from foretaste.kernel.errors import InvalidInput

PeerModel: TypeAlias = Literal["din", "dnn"]

PEERS = {"torch-rechub": "torch_rechub", "deepctr-torch": "deepctr_torch"}
"""The module of each library, by the name of its distribution."""


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """The model that a peer trains, of the same widths as Foretaste's and trained in the same way."""

    model: PeerModel
    dimension: int
    hidden: tuple[int, ...]
    attention: tuple[int, ...]
    """Widths of DIN's activation unit, before its unit."""
    dropout: float
    batch: int
    rate: float
    """Learning rate of Adam."""
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
            how = "install it with pip install -e '.[train,bench]', or leave it out with --peers"
            raise InvalidInput("peers", name, f"is not installed: {how}")
    return names


def train(library: str, settings: PeerSettings, rows: PeerRows, watch: Stopwatch) -> None:
    """Train a new model of the library once over the rows, as its documentation does, marking each batch.

    The library is imported here and no earlier, by its adapter `benchmarks.training.<module>_models`.
    """
    adapter = importlib.import_module(f"benchmarks.training.{PEERS[library]}_models")
    with _quiet():
        adapter.train(settings, rows, watch)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence standard output and standard error: both libraries print a progress bar for each batch."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
