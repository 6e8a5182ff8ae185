"""What a user's first acts tell of taste, beside what the towers have learned; training never sees it."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from foretaste.kernel.values import FloatArray
from models.runtime.acts import FEW, ActPosterior
from models.towers.ranking.base import RankingInputs


class ActTerm(nn.Module):
    """Log-odds û · k(candidate) - ½ ûᵀ Σ û, with the posterior taste û of a user's acts; see `models.runtime.acts`.

    Nothing for a user without behaviour, and for one of `FEW` behaviours and more. `keys` (items, T).
    """

    keys: Tensor
    steps: Tensor
    spread: Tensor

    def __init__(self, keys: FloatArray, posterior: ActPosterior) -> None:
        super().__init__()
        self.posterior = posterior
        for name, values in (("keys", keys), *posterior._asdict().items()):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def with_rows(self, keys: npt.ArrayLike) -> "ActTerm":
        """With more items behind the others, of these `keys` (K, T)."""
        return ActTerm(np.concatenate([self.keys.numpy(), np.asarray(keys, dtype=np.float32)]), self.posterior)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """(R,)."""
        evidence = self.keys[inputs.taste.items].sum(dim=1)  # padding has no key
        step = self.steps.index_select(0, inputs.taste.seen.clamp(max=FEW))
        taste = (step @ evidence.unsqueeze(2)).squeeze(2)
        normaliser = 0.5 * ((taste @ self.spread) * taste).sum(dim=1)
        moved = (taste.index_select(0, inputs.owner) * self.keys.index_select(0, inputs.candidates)).sum(dim=1)
        found: Tensor = moved - normaliser.index_select(0, inputs.owner)
        return found
