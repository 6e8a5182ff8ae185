"""How a run is carried out: by which processes, compiled or not, and what is kept of it meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from torch import nn

from models.runtime.encoding import IndexArray
from models.training.checkpoint import Checkpoints

T = TypeVar("T")


class Share(NamedTuple):
    """Elements `begin` to `end`, and what they weigh in a mean over all of them."""

    begin: int
    end: int
    weight: float


class ProcessGroup(Protocol):
    """The processes that train together. Each calls the same methods in the same order."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0; rank 0 alone reports and writes."""
        ...

    @property
    def count(self) -> int:
        """The number of processes."""
        ...

    def share(self, sizes: IndexArray, least: int) -> Share:
        """This process's part of elements with so many rows each, (U,). No part has fewer than `least` rows.

        Where there are too few rows for all, a process that goes without takes the first part, at no weight.
        """
        ...

    def parallel(self, module: nn.Module) -> nn.Module:
        """The same module, whose backward pass leaves each process the mean of all gradients."""
        ...

    def mean(self, values: Mapping[str, float], weight: float) -> dict[str, float]:
        """The sum over all processes of their `values` times their `weight`."""
        ...

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in rank 0, in every process."""
        ...

    def reseed(self, seed: int, step: int) -> None:
        """Draw what no other process and no other step draws from torch's generator."""
        ...

    def settle(self, model: nn.Module) -> None:
        """Replace the running statistics that each process gathered of its own parts by one for all."""
        ...


@dataclass(frozen=True, slots=True)
class SingleProcess:
    """One process; nothing is distributed."""

    rank: int = 0
    count: int = 1

    def share(self, sizes: IndexArray, least: int) -> Share:
        return Share(0, len(sizes), 1.0)

    def parallel(self, module: nn.Module) -> nn.Module:
        return module

    def mean(self, values: Mapping[str, float], weight: float) -> dict[str, float]:
        return dict(values)

    def from_first(self, make: Callable[[], T]) -> T:
        return make()

    def reseed(self, seed: int, step: int) -> None:
        """One generator draws on from step to step."""

    def settle(self, model: nn.Module) -> None:
        """There is one of each already."""


def _nothing(_: str) -> None:
    """Let a notice pass unheard."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How a run is carried out. It changes nothing of what is learned but last bits, and how shares of a batch are
    normalised."""

    compile: bool = False
    """The ranking tower's products by `torch.compile`: it takes a minute to begin, and pays where steps are many."""
    processes: ProcessGroup = field(default_factory=SingleProcess)
    checkpoints: Checkpoints | None = None
    """None: a killed run begins anew."""
    notice: Callable[[str], None] = _nothing
    """Hears what a person should know: a checkpoint passed over, a batch halved."""


def is_one_of_several(environment: Mapping[str, str]) -> bool:
    """Whether torchrun started this process as one of several; then `models.training.process_group` joins them."""
    return int(environment.get("WORLD_SIZE", "1")) > 1
