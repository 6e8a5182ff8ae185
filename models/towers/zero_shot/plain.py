"""The zero-shot towers without a loss of their own: none at all, and a linear map."""

from torch import Tensor, nn

from models.towers.zero_shot.base import ZeroShotShape


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
