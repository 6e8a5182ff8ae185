"""The zero-shot towers: behaviour out of attributes. The paper's own, and those of its ablation."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from models.towers.zero_shot.attention import AttentionPooling
from models.towers.zero_shot.autoencoder import CODE, FIRST, SECOND, ResidualDecoder, ResidualEncoder


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

    It is given their embeddings (B, N, D), and their values (B, N), which a tower with a table of its own reads.

    `losses.parts_of` says what trains it; one with `learns_by_ranking` set is trained by L_rt, through v̂.
    """

    def __call__(self, attributes: Tensor, values: Tensor) -> Tensor: ...


class Reconstruction(NamedTuple):
    """What a decoder pair made of one code (B, H)."""

    code: Tensor
    attributes: Tensor
    """(B, N, D)."""
    behaviour: Tensor
    """(B, M, D)."""


class Absent(nn.Module):
    """No virtual behaviour: zeros. For a ranking tower on its own."""

    def __init__(self, shape: ZeroShotShape) -> None:
        super().__init__()
        self._shape = shape

    def forward(self, attributes: Tensor, values: Tensor | None = None) -> Tensor:
        """Zeros (B, M, D) for attributes (B, N, D)."""
        return attributes.new_zeros(attributes.shape[0], self._shape.vectors, self._shape.dimension)


class LinearMap(nn.Module):
    """The ablation's None: a linear map from attributes to behaviour, trained by the ranking loss alone."""

    learns_by_ranking = True

    def __init__(self, shape: ZeroShotShape) -> None:
        super().__init__()
        self._behaviour_shape = (shape.vectors, shape.dimension)
        self.map = nn.Linear(shape.attributes * shape.dimension, shape.vectors * shape.dimension)

    def forward(self, attributes: Tensor, values: Tensor | None = None) -> Tensor:
        """Attributes (B, N, D) to virtual behaviour (B, M, D)."""
        return self.map(attributes.flatten(1)).unflatten(1, self._behaviour_shape)  # type: ignore[no-any-return]


class SingleAutoencoder(nn.Module):
    """The ablation's Single: attributes alone are encoded (eq. 15), and decoded to both sides (eq. 16)."""

    def __init__(self, shape: ZeroShotShape) -> None:
        super().__init__()
        first, second, code = shape.encoder
        widths = {"first": first, "second": second, "code": code}
        self._attributes_shape = (shape.attributes, shape.dimension)
        self._behaviour_shape = (shape.vectors, shape.dimension)
        self.attend_attributes = AttentionPooling(shape.dimension, shape.attention)
        self.encode_attributes = ResidualEncoder(shape.dimension, **widths, dropout=shape.dropout)
        self.decode_attributes = ResidualDecoder(shape.attributes * shape.dimension, **widths, dropout=shape.dropout)
        self.decode_behaviour = ResidualDecoder(shape.vectors * shape.dimension, **widths, dropout=shape.dropout)

    def forward(self, attributes: Tensor, values: Tensor | None = None) -> Tensor:
        """Eq. 8, v̂ = D2(E1(hᵃ)): attributes (B, N, D) to virtual behaviour (B, M, D)."""
        code = self.encode_attributes(self.attend_attributes(attributes))
        return self.decode_behaviour(code).unflatten(1, self._behaviour_shape)  # type: ignore[no-any-return]

    def from_attributes(self, attributes: Tensor) -> Reconstruction:
        """p = E1(hᵃ) and both sides rebuilt from it (eq. 3), for attributes (B, N, D)."""
        return self._rebuilt(self.encode_attributes(self.attend_attributes(attributes)))

    def _rebuilt(self, code: Tensor) -> Reconstruction:
        return Reconstruction(
            code,
            self.decode_attributes(code).unflatten(1, self._attributes_shape),
            self.decode_behaviour(code).unflatten(1, self._behaviour_shape),
        )


class DualAutoencoder(SingleAutoencoder):
    """The ablation's Dual: behaviour has an encoder too, and both share the two decoders."""

    def __init__(self, shape: ZeroShotShape) -> None:
        super().__init__(shape)
        first, second, code = shape.encoder
        self.attend_behaviour = AttentionPooling(shape.dimension, shape.attention)
        self.encode_behaviour = ResidualEncoder(
            shape.dimension, first=first, second=second, code=code, dropout=shape.dropout
        )

    def from_behaviour(self, behaviour: Tensor, valid: Tensor) -> Reconstruction:
        """q = E2(hᵛ) and both sides rebuilt from it (eq. 4), for behaviour (B, L, D), valid (B, L)."""
        return self._rebuilt(self.encode_behaviour(self.attend_behaviour(behaviour, valid)))


class MailAutoencoder(DualAutoencoder):
    """The paper's zero-shot tower: the modules of Dual, with the codes p and q drawn together (eq. 5)."""
