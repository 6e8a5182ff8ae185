"""What MetaEmb and CMCLRec share: a small network from attributes to behaviour, and the loop that trains one."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.rivals.base import Base, ImputingRanker, WarmUsers
from models.rivals.methods import Material
from models.runtime.encoding import IndexArray
from models.training.loop import NonFiniteLoss

ALIKE = 1e-6
"""A deviation below which a column says nothing."""


class Generator(nn.Module):
    """v̂ = m + s * (W₂ LeakyReLU(W₁ Dropout(a) + b₁) + b₂), with m, s (D) the mean and deviation of real behaviour.

    a are the embedded attributes, standardised likewise. An untrained generator so begins near the mean behaviour.
    """

    mean: Tensor
    deviation: Tensor
    input_mean: Tensor
    input_deviation: Tensor

    def __init__(self, warm: WarmUsers, *, hidden: int, dropout: float) -> None:
        super().__init__()
        vectors, behaviour = torch.from_numpy(warm.vectors), torch.from_numpy(warm.behaviour)
        self.register_buffer("mean", behaviour.mean(dim=0))
        self.register_buffer("deviation", _deviation(behaviour))
        self.register_buffer("input_mean", vectors.mean(dim=0))
        self.register_buffer("input_deviation", _deviation(vectors))
        self.network = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(vectors.shape[1], hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, behaviour.shape[1]),
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """Embedded attributes (B, N * D) to behaviour (B, D) in units of its deviation around its mean."""
        return self.network((vectors - self.input_mean) / self.input_deviation)  # type: ignore[no-any-return]  # modules return Any

    def behaviour(self, standardised: Tensor) -> Tensor:
        """Standardised behaviour (B, D) in the space of the base."""
        return self.mean + self.deviation * standardised

    def standardised(self, behaviour: Tensor) -> Tensor:
        """The inverse of `behaviour`."""
        return (behaviour - self.mean) / self.deviation


def _deviation(values: Tensor) -> Tensor:
    """(H,) of each column of `values` (B, H); 1 where all rows are alike."""
    deviation = values.std(dim=0, correction=0)
    return torch.where(deviation > ALIKE, deviation, torch.ones_like(deviation))


def generating_ranker(base: Base, generator: Generator) -> ImputingRanker:
    """The base with the trained generator's behaviour for users without any."""
    generator.eval()

    def impute(attributes: IndexArray) -> npt.NDArray[np.floating]:
        with torch.inference_mode():
            vectors = torch.from_numpy(base.attribute_vectors(attributes))
            made: npt.NDArray[np.floating] = generator.behaviour(generator(vectors)).numpy()
        return made

    return ImputingRanker(base, impute)


@contextmanager
def seeded(material: Material) -> Iterator[None]:
    """Torch's own generator and threads as the material says; both as before on leaving."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(material.seed)
        torch.set_num_threads(material.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def minimise(
    parameters: Iterable[nn.Parameter], rate: float, parts: Iterable[IndexArray], loss: Callable[[IndexArray], Tensor]
) -> None:
    """One Adam step on the `loss` of each part, rows (B,). Raises `NonFiniteLoss` before it would spoil parameters."""
    optimiser = torch.optim.Adam(parameters, lr=rate)
    for number, part in enumerate(parts, start=1):
        value = loss(part)
        if not torch.isfinite(value):
            raise NonFiniteLoss(f"training diverged in batch {number}: {value.item()}")
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()


def shuffled(rows: int, batch: int, epochs: int, rng: np.random.Generator) -> Iterator[IndexArray]:
    """`epochs` passes over all rows in parts of about `batch`, in an order drawn anew for each pass."""
    for _ in range(epochs):
        yield from np.array_split(rng.permutation(rows), max(round(rows / batch), 1))
