"""A sequence tower after HSTU (Hierarchical Sequential Transduction Units; Zhai et al., ICML 2024)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.towers.perceptron import Perceptron
from models.towers.ranking.base import RankingInputs, TowerShape
from models.towers.ranking.dnn import HIDDEN

LAYERS, HEADS = 2, 2
BACK_BINS = 8
"""Of how far back a behaviour lies, by powers of two: 1 and the own place, 2 or 3, 4 to 7, and so on."""


class TransductionUnit(nn.Module):
    """One causal layer: x + W₂ (LN(A V) ⊙ U), with U, V, Q, K = SiLU(W₁ LN(x)) and A = SiLU(Q Kᵀ + b) / n.

    b depends on how far back a key lies, and n is the number of keys that a query may see: no softmax, so that how much
    was seen is not lost.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self._heads = HEADS if dimension % HEADS == 0 else 1
        self.before, self.after = nn.LayerNorm(dimension), nn.LayerNorm(dimension)
        self.parts = nn.Linear(dimension, 4 * dimension)
        self.together = nn.Linear(dimension, dimension)
        self.back = nn.Parameter(torch.zeros(self._heads, BACK_BINS))

    def forward(self, x: Tensor, seen: Tensor, back: Tensor) -> Tensor:
        """(U, S, D) of a sequence (U, S, D), where `seen` (U, S, S) is how much each key counts for each query, 0 for
        one that it may not see, and `back` (S, S) the bin of each key's distance."""
        gate, values, queries, keys = functional.silu(self.parts(self.before(x))).chunk(4, dim=2)
        queries, keys, values = (self._of_heads(each) for each in (queries, keys, values))
        scores = queries @ keys.transpose(2, 3) + self.back[:, back]
        weights = functional.silu(scores) * (seen / (seen > 0).sum(dim=2, keepdim=True).clamp(min=1)).unsqueeze(1)
        attended = (weights @ values).transpose(1, 2).flatten(2)
        y: Tensor = x + self.together(self.after(attended) * gate)
        return y

    def _of_heads(self, x: Tensor) -> Tensor:
        """(U, heads, S, D / heads)."""
        return x.view(x.shape[0], x.shape[1], self._heads, -1).transpose(1, 2)


class HSTU(nn.Module):
    """Eq. 12 over attributes, context, the newest place of the transduced sequence, the target, and their product.

    The sequence is that of eq. 10, virtual behaviour before real one, each vector with its weight.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransductionUnit(shape.dimension) for _ in range(LAYERS))
        self.perceptron = Perceptron(5 * shape.dimension + 1, shape.hidden or HIDDEN, dropout=shape.dropout)
        self.unit = nn.Linear(self.perceptron.outputs, 1)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,)."""
        taste = inputs.taste
        newest = self._newest(taste.vectors, taste.weights)
        seen = taste.seen.to(newest.dtype).unsqueeze(1)
        of_user = torch.cat([inputs.attributes.sum(1), inputs.context.sum(1), newest, seen.log1p()], dim=1)
        target = inputs.target.sum(dim=1)
        of_candidate = torch.cat([target, newest.index_select(0, inputs.owner) * target], dim=1)
        return self.unit(self.perceptron.of_pairs(of_user, of_candidate, inputs.owner)).squeeze(1)  # type: ignore[no-any-return]  # modules return Any

    def _newest(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """(U, D) at the newest place of each sequence (U, S, D) with `weights` (U, S); zeros where there is none."""
        places = torch.arange(vectors.shape[1], device=vectors.device)
        back = places.unsqueeze(1) - places
        bins = back.clamp(min=1).to(vectors.dtype).log2().floor().clamp(max=BACK_BINS - 1).long()
        there = (weights > 0).to(vectors.dtype)
        seen = (back >= 0).to(vectors.dtype) * weights.unsqueeze(1)
        x = vectors * weights.unsqueeze(2)
        for layer in self.layers:
            x = layer(x, seen, bins)
        last = (there * places).argmax(dim=1)
        newest = x.gather(1, last.view(-1, 1, 1).expand(-1, 1, x.shape[2])).squeeze(1)
        return newest * there.amax(dim=1, keepdim=True)
