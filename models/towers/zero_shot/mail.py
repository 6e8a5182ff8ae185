"""The paper's zero-shot tower, and the two of its ablation that lack a part of it. Each carries its own losses."""

from typing import NamedTuple

from torch import Tensor, nn

from models.effects.discrepancy import discrepancy
from models.towers.behaviour import condense
from models.towers.zero_shot.attention import AttentionPooling
from models.towers.zero_shot.autoencoder import ResidualDecoder, ResidualEncoder
from models.towers.zero_shot.base import ZeroShotShape
from models.towers.zero_shot.losses import squared_error


class Reconstruction(NamedTuple):
    """What a decoder pair made of one code (B, H)."""

    code: Tensor
    attributes: Tensor
    """(B, N, D)."""
    behaviour: Tensor
    """(B, M, D)."""

    def error(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> Tensor:
        """Eqs. 3 and 4: the squared error of both sides, a scalar, behaviour (B, L, D) condensed to M vectors."""
        condensed = condense(behaviour, valid, self.behaviour.shape[1])
        return squared_error(self.attributes, attributes) + squared_error(self.behaviour, condensed)


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

    def losses(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """L_a, eq. 3."""
        return {"attributes": self.from_attributes(attributes).error(attributes, behaviour, valid)}

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

    def losses(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """L_a and L_v, eqs. 3 and 4."""
        from_p, from_q = self.from_attributes(attributes), self.from_behaviour(behaviour, valid)
        return _both(from_p, from_q, attributes, behaviour, valid)

    def from_behaviour(self, behaviour: Tensor, valid: Tensor) -> Reconstruction:
        """q = E2(hᵛ) and both sides rebuilt from it (eq. 4), for behaviour (B, L, D), valid (B, L)."""
        return self._rebuilt(self.encode_behaviour(self.attend_behaviour(behaviour, valid)))


class MailAutoencoder(DualAutoencoder):
    """The paper's zero-shot tower: the modules of Dual, with the codes p and q drawn together (eq. 5)."""

    def losses(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """L_a, L_v and L_d, eqs. 3 to 5."""
        from_p, from_q = self.from_attributes(attributes), self.from_behaviour(behaviour, valid)
        parts = _both(from_p, from_q, attributes, behaviour, valid)
        return {**parts, "discrepancy": discrepancy(from_p.code, from_q.code)}


def _both(
    from_p: Reconstruction, from_q: Reconstruction, attributes: Tensor, behaviour: Tensor, valid: Tensor
) -> dict[str, Tensor]:
    return {
        "attributes": from_p.error(attributes, behaviour, valid),
        "behaviour": from_q.error(attributes, behaviour, valid),
    }
