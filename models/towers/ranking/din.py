"""DIN: Deep Interest Network (Zhou et al., KDD 2018)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from models.towers.perceptron import Dice, Perceptron
from models.towers.ranking.base import RankingInputs, TowerShape, field_vectors
from models.towers.ranking.pairs import Pairs, pairs_of

HIDDEN = (200, 80)
UNIT = 36
"""Width of the local activation unit, figure 2 of the paper."""


class LocalActivationUnit(nn.Module):
    """a(q, k): a dense layer on [q, k, q - k, q ⊙ k], an activation and a unit; no softmax follows."""

    def __init__(self, dimension: int, width: int, activation: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.dense = nn.Linear(4 * dimension, width)
        self.activate = activation(width)
        self.unit = nn.Linear(width, 1)

    def forward(self, pairs: Pairs, queries: Tensor, keys: Tensor) -> Tensor:
        """A score for each pair of the candidates' `queries` (R, D) with `keys` (U, S, D)."""
        # W [q, k, q - k, q ⊙ k] by its blocks: only the product is of pairs, and the wide row is never made
        of_q, of_k, of_difference, of_product = self.dense.weight.chunk(4, dim=1)
        of_queries = pairs.of_candidates(functional.linear(queries, of_q + of_difference, self.dense.bias))
        of_keys = pairs.of_sequence(functional.linear(keys, of_k - of_difference))
        product = pairs.of_candidates(queries) * pairs.of_sequence(keys)
        z = functional.linear(product, of_product) + (of_queries + of_keys)
        activated = self.activate(z.flatten(0, -2)).view_as(z)
        return self.unit(activated).squeeze(-1)  # type: ignore[no-any-return]  # modules return Any


class DIN(nn.Module):
    """Behaviour summed with the weights a(q, k) that each candidate q gives it, then a perceptron over all fields."""

    def __init__(self, shape: TowerShape, *, activation: Callable[[int], nn.Module] = Dice) -> None:
        """`activation` makes an activation from its width: `Dice`, or `nn.PReLU`, as the paper offers."""
        super().__init__()
        self.attend = LocalActivationUnit(shape.dimension, UNIT, activation)
        self.perceptron = Perceptron(
            shape.fields * shape.dimension,
            shape.hidden or HIDDEN,
            dropout=shape.dropout,
            activation=activation,
            scaled=True,  # a sum of up to L vectors stands beside single ones
        )
        self.unit = nn.Linear(self.perceptron.outputs, 1)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,)."""
        taste = inputs.taste
        pairs = pairs_of(taste.weights, inputs.owner)
        scores = self.attend(pairs, inputs.target[:, 0], taste.vectors)
        attended = pairs.attend(pairs.weighted(scores), taste.vectors)
        return self.unit(self.perceptron(field_vectors(inputs, attended).flatten(1))).squeeze(1)  # type: ignore[no-any-return]
