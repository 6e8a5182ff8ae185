"""The losses of co-training as modules, so that several processes can share them: L_zst (eq. 7) and L_rt (eq. 13)."""

from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.towers.architecture import TowerPair
from models.towers.forms import RankingForm, ZeroShotForm
from models.towers.ranking.base import WithAuxiliaryLoss
from models.towers.zero_shot.base import WithZeroShotLosses, ZeroShotTower


def zero_shot_loss(tower: ZeroShotTower, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> Mapping[str, Tensor]:
    """The parts of L_zst, each a scalar, of B warm users; none for a tower without losses of its own.

    `attributes` (B, N, D), `behaviour` (B, L, D), `valid` (B, L). Embeddings are targets here, never trained: whatever
    graph they come with is cut.
    """
    if not isinstance(tower, WithZeroShotLosses):
        return {}
    return tower.losses(attributes.detach(), behaviour.detach(), valid)


def ranking_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L_rt, eq. 13: mean binary cross-entropy of logits (R,) against labels (R,) in {0, 1}."""
    return functional.binary_cross_entropy_with_logits(logits, labels)


class ZeroShotLoss(nn.Module):
    """The parts of L_zst (eq. 7), of warm users' embeddings; the tower's own parameters are all that it has."""

    def __init__(self, tower: ZeroShotTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Attributes (B, N, D), behaviour (B, L, D), valid (B, L)."""
        return dict(zero_shot_loss(self.tower, attributes, behaviour, valid))


class RankingLoss(nn.Module):
    """L_rt (eq. 13) of all candidates of a batch, and the ranking tower's own auxiliary loss where it has one.

    Its parameters are those of the ranking optimiser: v̂ of a zero-shot tower that this loss trains is made here.
    """

    def __init__(self, model: TowerPair, warm_after: int, precision: torch.dtype, *, compiled: bool) -> None:
        super().__init__()
        self.form = RankingForm(model.embeddings, model.ranking, warm_after)
        self.zero_shot = ZeroShotForm(model.embeddings, model.zero_shot) if model.learns_by_ranking else None
        self._precision = precision
        # within a partial it is no module of this one a second time
        self._answer = partial(torch.compile(model.ranking, dynamic=True) if compiled else model.ranking)

    def forward(
        self,
        arguments: tuple[Tensor, ...],
        labels: Tensor,
        flagged: Tensor,
        popularity_bias: Tensor | None = None,
        transition: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`arguments` of `RankingForm.inputs`, labels (R,), the rows of the users who read v̂, and `popularity_bias` and
        `transition` of `RankingInputs`."""
        attributes, _, _, _, virtual, *_ = arguments
        if self.zero_shot is not None and len(flagged):
            virtual[flagged] = virtual_as_served(self.zero_shot, attributes[flagged])
        inputs = self.form.inputs(*arguments)._replace(popularity_bias=popularity_bias, transition=transition)
        with torch.autocast(labels.device.type, self._precision, enabled=self._precision is not torch.float32):
            logits = self._answer(inputs)
        losses = {"ranking": ranking_loss(logits.float(), labels)}
        tower = cast("nn.Module", self.form.tower)
        auxiliary = tower.auxiliary_loss(inputs) if isinstance(tower, WithAuxiliaryLoss) else None
        return losses if auxiliary is None else {**losses, "auxiliary": auxiliary}


def virtual_as_served(form: ZeroShotForm, attributes: Tensor) -> Tensor:
    """v̂ (B, M, D) of attribute indices (B, N), without dropout."""
    form.eval()
    virtual: Tensor = form(attributes)
    form.train()
    return virtual
