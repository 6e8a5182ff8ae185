"""The zero-shot tower: behaviour out of attributes."""

from typing import NamedTuple, Protocol

from torch import Tensor, nn

from models.towers.attention import AttentionPooling
from models.towers.autoencoder import CODE, FIRST, SECOND, ResidualDecoder, ResidualEncoder


class ZeroShotTower(Protocol):
    """Any module that turns the embedded attributes of B users, (B, N, D), into virtual behaviour, (B, M, D)."""

    def __call__(self, attributes: Tensor) -> Tensor: ...


class Reconstruction(NamedTuple):
    """What cross-modal training compares: both codes (B, H), and what each decoder made of each of them."""

    p: Tensor
    q: Tensor
    attributes_from_p: Tensor
    behaviour_from_p: Tensor
    attributes_from_q: Tensor
    behaviour_from_q: Tensor


class DualAutoencoder(nn.Module):
    """The paper's zero-shot tower: attention on both sides, two residual encoders, two shared residual decoders."""

    def __init__(
        self,
        attributes: int,
        vectors: int,
        dimension: int,
        *,
        attention: int,
        first: int = FIRST,
        second: int = SECOND,
        code: int = CODE,
        dropout: float = 0.5,
    ) -> None:
        """`attributes` is N, `vectors` is M, `dimension` is D; `attention` is the width of z in eq. 2."""
        super().__init__()
        self._attributes_shape = (attributes, dimension)
        self._behaviour_shape = (vectors, dimension)
        widths = {"first": first, "second": second, "code": code}
        self.attend_attributes = AttentionPooling(dimension, attention)
        self.attend_behaviour = AttentionPooling(dimension, attention)
        self.encode_attributes = ResidualEncoder(dimension, **widths, dropout=dropout)
        self.encode_behaviour = ResidualEncoder(dimension, **widths, dropout=dropout)
        self.decode_attributes = ResidualDecoder(attributes * dimension, **widths, dropout=dropout)
        self.decode_behaviour = ResidualDecoder(vectors * dimension, **widths, dropout=dropout)

    def forward(self, attributes: Tensor) -> Tensor:
        """Eq. 8, v̂ = D2(E1(hᵃ)): attributes (B, N, D) to virtual behaviour (B, M, D)."""
        code = self.encode_attributes(self.attend_attributes(attributes))
        return self.decode_behaviour(code).unflatten(1, self._behaviour_shape)  # type: ignore[no-any-return]

    def reconstruct(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> Reconstruction:
        """Both sides through both decoders (eqs. 3 and 4), for B users with `behaviour` (B, L, D), `valid` (B, L)."""
        p = self.encode_attributes(self.attend_attributes(attributes))
        q = self.encode_behaviour(self.attend_behaviour(behaviour, valid))
        return Reconstruction(
            p,
            q,
            self.decode_attributes(p).unflatten(1, self._attributes_shape),
            self.decode_behaviour(p).unflatten(1, self._behaviour_shape),
            self.decode_attributes(q).unflatten(1, self._attributes_shape),
            self.decode_behaviour(q).unflatten(1, self._behaviour_shape),
        )
