"""What a user's first acts tell of taste, beside what the towers have learned; training never sees it."""

import torch
from torch import Tensor, nn

from foretaste.kernel.values import FIRST_ACTS, IndexArray
from models.runtime.acts import ActPosterior
from models.runtime.encoding import FIRST_KNOWN
from models.towers.ranking.base import RankingInputs


class ActTerm(nn.Module):
    """Log-odds û · k(candidate) - ½ ûᵀ Σ û, with the posterior taste û of a user's acts; see `models.runtime.acts`.

    Nothing for a user of whom no act is on a known item, and for one of `FIRST_ACTS` such acts and more. The keys k lie
    in the `columns` (T,) of the cold expert's.
    """

    columns: Tensor
    steps: Tensor
    spread: Tensor

    def __init__(self, columns: IndexArray, posterior: ActPosterior) -> None:
        super().__init__()
        for name, values in (("columns", columns), *posterior._asdict().items()):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, inputs: RankingInputs, keys: Tensor) -> Tensor:
        """(R,), by the cold expert's `keys` (items, H)."""
        items = inputs.taste.items
        evidence = keys[items].sum(dim=1).index_select(1, self.columns)  # padding and unknown items have no key
        acts = (items >= FIRST_KNOWN).sum(dim=1)
        if inputs.passed_over is not None:
            passed_over = (inputs.passed_over >= FIRST_KNOWN).sum(dim=1)
            share = acts / (acts + passed_over).clamp(min=1)
            against = keys[inputs.passed_over].sum(dim=1).index_select(1, self.columns)
            evidence = evidence - share.unsqueeze(1) * against
        taste = (self.steps.index_select(0, acts.clamp(max=FIRST_ACTS)) @ evidence.unsqueeze(2)).squeeze(2)
        normaliser = 0.5 * ((taste @ self.spread) * taste).sum(dim=1)
        of_candidates = keys.index_select(0, inputs.candidates).index_select(1, self.columns)
        found: Tensor = (taste.index_select(0, inputs.owner) * of_candidates).sum(dim=1)
        return found - normaliser.index_select(0, inputs.owner)
