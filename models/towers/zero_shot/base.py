"""What every zero-shot tower is built from, reads and answers: attributes in, virtual behaviour out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from models.towers.zero_shot.autoencoder import CODE, FIRST, SECOND


@dataclass(frozen=True, slots=True)
class ZeroShotShape:
    """How large a zero-shot tower is. It is built from this alone."""

    sizes: tuple[int, ...]
    """Values of each attribute, unknown included, N of them."""
    vectors: int
    """M."""
    dimension: int
    """D."""
    attention: int = 32
    """Width of z in eq. 2."""
    encoder: tuple[int, int, int] = (FIRST, SECOND, CODE)
    """Eq. 15; the decoders run it backwards (eq. 16)."""
    dropout: float = 0.5

    @property
    def attributes(self) -> int:
        """N."""
        return len(self.sizes)


class ZeroShotTower(Protocol):
    """Any module, built as `Tower(shape)`, from attributes to virtual behaviour (B, M, D).

    It is given the attributes' embeddings (B, N, D), and their values (B, N), which a tower with a table of its own
    reads. Its parameters are trained by its own losses (`WithZeroShotLosses`); or, where it sets `learns_by_ranking`,
    by the ranking loss L_rt, through v̂.
    """

    def __call__(self, attributes: Tensor, values: Tensor) -> Tensor: ...


@runtime_checkable
class WithZeroShotLosses(Protocol):
    """A zero-shot tower that is trained by losses of its own, on warm users, by the zero-shot optimiser."""

    def losses(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> Mapping[str, Tensor]:
        """The parts of L_zst by name, each a scalar; training descends their sum (eq. 7 for the paper's tower).

        Of B warm users: embedded `attributes` (B, N, D), and `behaviour` (B, L, D) where `valid` (B, L). Embeddings
        are targets here: no gradient reaches them.
        """
        ...
