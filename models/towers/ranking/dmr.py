"""DMR: Deep Match to Rank (Lyu et al., AAAI 2020)."""

import torch
from torch import Tensor, nn

from models.runtime.encoding import FIRST_KNOWN, PADDING
from models.towers.behaviour import Taste
from models.towers.perceptron import Perceptron
from models.towers.ranking.base import RankingInputs, TowerShape, field_vectors
from models.towers.ranking.losses import sampled_softmax
from models.towers.ranking.pairs import pairs_of, weighted_softmax

HIDDEN = (512, 256, 128)
AUXILIARY_WEIGHT = 0.1
DRAWN = 512
"""Items that the auxiliary loss draws a step."""


class Clues(nn.Module):
    """W_c cₜ + W_p pₜ + W_e eₜ + b of each of a sequence: what was done, how long ago, and with which item."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        dimension = shape.dimension
        self.positions = nn.Embedding(shape.positions, dimension)
        self.of_action = nn.Linear(dimension, dimension, bias=False)
        self.of_position = nn.Linear(dimension, dimension, bias=False)
        self.of_vector = nn.Linear(dimension, dimension)

    def forward(self, taste: Taste) -> Tensor:
        """(U, S, D)."""
        places = self.of_position(self.positions.weight)[taste.positions]
        return self.of_vector(taste.vectors) + self.of_action(taste.action_vectors) + places  # type: ignore[no-any-return]


class UserToItem(nn.Module):
    """A user's state from attention that knows no target; its relevance to an item is a dot product."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.clues = Clues(shape)
        self.score = nn.Linear(shape.dimension, 1, bias=False)
        self.project = nn.Linear(shape.dimension, shape.dimension)
        self.activate = nn.PReLU()
        self.targets = nn.Embedding(shape.items, shape.dimension, padding_idx=PADDING)

    def states(self, taste: Taste, weights: Tensor) -> Tensor:
        """u = g(Σ αₜ eₜ), αₜ the softmax of zᵀ tanh(clues), over what `weights` (U, S) let count: (U, D)."""
        scores = self.score(self.clues(taste).tanh()).squeeze(-1)
        pooled = (weighted_softmax(scores, weights).unsqueeze(1) @ taste.vectors).squeeze(1)
        return self.activate(self.project(pooled))  # type: ignore[no-any-return]  # modules return Any

    def forward(self, inputs: RankingInputs) -> Tensor:
        """r = uᵀ v', (R,)."""
        states = self.states(inputs.taste, inputs.taste.weights).index_select(0, inputs.owner)
        return (states * self.targets(inputs.candidates)).sum(dim=1)  # type: ignore[no-any-return]


class ItemToItem(nn.Module):
    """Attention with the target as query; its relevance is the sum of the scores before the softmax."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.clues = Clues(shape)
        self.of_target = nn.Linear(shape.dimension, shape.dimension, bias=False)
        self.unit = nn.Linear(shape.dimension, 1, bias=False)

    def forward(self, inputs: RankingInputs) -> tuple[Tensor, Tensor]:
        """The attention's output û (R, D) and the relevance r̂ (R,), from the scores âₜ = ẑᵀ tanh(clues + Ŵ_v v)."""
        taste = inputs.taste
        pairs = pairs_of(taste.weights, inputs.owner)
        of_target = pairs.of_candidates(self.of_target(inputs.target[:, 0]))
        scores = self.unit((of_target + pairs.of_sequence(self.clues(taste))).tanh()).squeeze(-1)
        return pairs.attend(pairs.softmax(scores), taste.vectors), pairs.total(pairs.weighted(scores))


class DMR(nn.Module):
    """Both networks' relevance beside all fields, behaviour as the item-to-item attention gives it."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.user_to_item = UserToItem(shape)
        self.item_to_item = ItemToItem(shape)
        self.perceptron = Perceptron(
            shape.fields * shape.dimension + 2,
            shape.hidden or HIDDEN,
            dropout=shape.dropout,
            activation=nn.PReLU,
            scaled=True,  # a relevance, of up to L scores summed, stands beside embeddings
        )
        self.unit = nn.Linear(self.perceptron.outputs, 1)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,)."""
        attended, item_relevance = self.item_to_item(inputs)
        relevance = torch.stack([self.user_to_item(inputs), item_relevance], dim=1)
        x = torch.cat([field_vectors(inputs, attended).flatten(1), relevance], dim=1)
        return self.unit(self.perceptron(x)).squeeze(1)  # type: ignore[no-any-return]  # modules return Any

    def auxiliary_loss(self, inputs: RankingInputs) -> Tensor:
        """0.1 × how badly the state before the newest behaviour tells its item from drawn ones; 0 where nobody has two.

        An unknown newest item tells nothing, and virtual behaviour takes no part.
        """
        taste, network = inputs.taste, self.user_to_item
        newest = (taste.seen - 1).clamp(min=0).unsqueeze(1)
        item = taste.items.gather(1, newest).squeeze(1)
        rows = ((taste.seen > 1) & (item >= FIRST_KNOWN)).nonzero().squeeze(1)
        if not len(rows):
            return network.targets.weight.new_zeros(())
        before = taste.valid.to(taste.vectors.dtype).scatter(1, newest, 0.0)
        weights = torch.cat([before.new_zeros(len(before), taste.virtual.shape[1]), before], dim=1)
        table = network.targets.weight
        drawn = torch.randint(FIRST_KNOWN, len(table), (DRAWN,), device=table.device)
        states = network.states(taste, weights).index_select(0, rows)
        return AUXILIARY_WEIGHT * sampled_softmax(states, table, item.index_select(0, rows), drawn)
