"""The serving form of each tower: indices in, answers out. Training, evaluation and export all compose these."""

import torch
from torch import Tensor, nn

from models.data.examples import Batch
from models.towers.behaviour import Taste
from models.towers.embeddings import Embeddings
from models.towers.ranking.base import RankingInputs, RankingTower
from models.towers.zero_shot.base import ZeroShotTower


class ZeroShotForm(nn.Module):
    """A zero-shot tower behind the embeddings of attributes."""

    def __init__(self, embeddings: Embeddings, tower: ZeroShotTower) -> None:
        super().__init__()
        self.attributes = embeddings.attributes
        self.tower = tower

    def forward(self, attributes: Tensor) -> Tensor:
        """Attribute indices (B, N) to virtual behaviour (B, M, D)."""
        return self.tower(self.attributes(attributes), attributes)


class RankingForm(nn.Module):
    """A ranking tower behind the embeddings and eq. 10."""

    def __init__(self, embeddings: Embeddings, tower: RankingTower, warm_after: int) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.tower = tower
        self.warm_after = warm_after

    def logits(self, *arguments: Tensor, **named: Tensor) -> Tensor:
        """Logits (R,), one a candidate; the arguments are those of `inputs`."""
        return self.tower(self.inputs(*arguments, **named))

    def inputs(  # noqa: PLR0913, PLR0917  # a tensor each, as the graph has them
        self,
        attributes: Tensor,
        context: Tensor,
        items: Tensor,
        actions: Tensor,
        virtual: Tensor,
        candidates: Tensor,
        owner: Tensor,
        age: Tensor | None = None,
        passed_over: Tensor | None = None,
    ) -> RankingInputs:
        """What the tower reads of `candidates` (R,), each for the user in row `owner` (R,).

        Of U users: indices of `attributes` (U, N), `context` (U, C), behaviour `items` and `actions` (U, L), `virtual`
        (U, M, D), and where towers read them, the bin of each account's `age` (U,) and the items `passed_over` (U, P).
        """
        return RankingInputs(
            attributes=self.embeddings.attributes(attributes),
            context=self.embeddings.context(context),
            taste=Taste(self.embeddings, items, actions, virtual, self.warm_after),
            target=self.embeddings.target(candidates),
            candidates=candidates,
            owner=owner,
            age=age,
            passed_over=passed_over,
        )

    def forward(  # noqa: PLR0913, PLR0917  # likewise
        self,
        attributes: Tensor,
        context: Tensor,
        items: Tensor,
        actions: Tensor,
        virtual: Tensor,
        candidates: Tensor,
        owner: Tensor,
        age: Tensor | None = None,
        passed_over: Tensor | None = None,
    ) -> Tensor:
        """Probabilities (R,), eq. 12."""
        inputs = self.inputs(attributes, context, items, actions, virtual, candidates, owner, age, passed_over)
        return self.tower(inputs).sigmoid()


def ranking_arguments(batch: Batch, virtual: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """The arguments of `RankingForm.inputs` for a batch with virtual behaviour (U, M, D), on the device."""
    before = (batch.attributes, batch.context, batch.items, batch.actions)
    after = (batch.candidates, batch.owner, batch.ages)
    return (
        *(torch.from_numpy(values).to(device) for values in before),
        virtual,
        *(torch.from_numpy(values).to(device) for values in after),
    )
