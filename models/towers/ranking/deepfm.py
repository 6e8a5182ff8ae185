"""DeepFM (Guo et al., IJCAI 2017)."""

from torch import Tensor, nn

from models.towers.perceptron import Perceptron
from models.towers.ranking.base import RankingInputs, TowerShape, field_vectors

HIDDEN = (400, 400, 400)


def pairwise_products(fields: Tensor) -> Tensor:
    """Σ over pairs i < j of ⟨vᵢ, vⱼ⟩ for field vectors (R, F, D): (R,), as ½ Σ_d ((Σ v)² - Σ v²)."""
    return 0.5 * (fields.sum(dim=1).square() - fields.square().sum(dim=1)).sum(dim=1)


class DeepFM(nn.Module):
    """First order + pairwise products + perceptron over the same field vectors, behaviour pooled to one of them.

    The paper keeps a scalar beside each value's embedding for the first order. Here it is read off the embedding by one
    vector a field, so that the shared table stays the only one.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        width = shape.fields * shape.dimension
        self.first_order = nn.Linear(width, 1)
        self.perceptron = Perceptron(width, shape.hidden or HIDDEN, dropout=shape.dropout)
        self.unit = nn.Linear(self.perceptron.outputs, 1, bias=False)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,)."""
        fields = field_vectors(inputs)
        flat = fields.flatten(1)
        linear = self.first_order(flat) + self.unit(self.perceptron(flat))
        return linear.squeeze(1) + pairwise_products(fields)  # type: ignore[no-any-return]  # modules return Any
