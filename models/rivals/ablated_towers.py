"""MAIL and the default tower with parts left out, so that a study shows what each loss and each part adds alone.

MAIL's zero-shot tower is trained by L_a + L_v + L_d (eq. 7). "single" has L_a alone and "dual" L_a + L_v
(`models.rivals.towers`); here are L_a + L_d, L_v + L_d, and no loss at all. The default's cold expert is a sum of the
effects of attributes and of biases by what was seen and by the account's age, beside a warm expert, which alone is
"recency", and item-to-item transitions; here are the cold expert alone, its biases alone, and both experts without the
effects of attributes, without transitions, and without what first acts tell. And the default with its effects trained
by gradient: as sums of codes, with what values say together beside the sums, and with the paper's losses added to the
sums.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from models.rivals.methods import Material
from models.rivals.towers import TowerMethod, TowerRanker, foretaste, papers_towers
from models.towers.architecture import Architecture
from models.towers.ranking.base import RankingInputs, TowerShape
from models.towers.ranking.experts import Experts
from models.towers.zero_shot.mail import MailAutoencoder
from models.training.config import TrainingConfig

NOTHING = 1e9
"""A shrinkage that no direction of the effects outlasts."""
PAPERS_WEIGHT = 0.1
"""Of each of the paper's losses beside the fit by gradient."""


class WithoutLosses(MailAutoencoder):
    """MAIL's zero-shot tower as it was drawn: v̂ is a random function of the attributes."""

    def losses(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
        return {}


class WithoutBehaviourLoss(MailAutoencoder):
    """L_a + L_d: the code of behaviour is drawn to that of attributes, and is never decoded."""

    def losses(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
        return _without("behaviour", super().losses(attributes, behaviour, valid))


class WithoutAttributeLoss(MailAutoencoder):
    """L_v + L_d: the decoders learn from behaviour's code alone, to which the code of attributes is only drawn."""

    def losses(self, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
        return _without("attributes", super().losses(attributes, behaviour, valid))


class NoWarmExpert(nn.Module):
    """A ranking tower that says nothing: between the two experts it leaves the cold one alone."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits of 0, (R,)."""
        return torch.zeros(len(inputs.candidates), device=inputs.candidates.device)


@dataclass(frozen=True)
class WithoutActs(TowerMethod):
    """A co-training whose towers are served without what first acts tell of taste."""

    def fit(self, material: Material) -> TowerRanker:
        ranker = super().fit(material)
        ranking = ranker.trained.model.ranking
        if isinstance(ranking, Experts):
            ranking.acts = None
        return ranker


def mail_without_losses() -> TowerMethod:
    return papers_towers("users", zero_shot=_path(WithoutLosses))


def mail_without_behaviour_loss() -> TowerMethod:
    return papers_towers("users", zero_shot=_path(WithoutBehaviourLoss))


def mail_without_attribute_loss() -> TowerMethod:
    return papers_towers("users", zero_shot=_path(WithoutAttributeLoss))


def cold_expert() -> TowerMethod:
    """The default's cold expert alone: effects of attributes, and biases by what was seen and by the account's age."""
    return _with_effects(WithoutActs(foretaste(_path(NoWarmExpert)).config), transitions=False)


def seen_biases() -> TowerMethod:
    """The biases of the cold expert alone: every user gets what those who have seen as much, and have been users as
    long, act on."""
    return _with_effects(cold_expert(), shrinkage=NOTHING)


def without_effects() -> TowerMethod:
    """The default without effects of attributes."""
    return _with_effects(foretaste(), shrinkage=NOTHING)


def without_transitions() -> TowerMethod:
    """The default without item-to-item transitions."""
    return _with_effects(foretaste(), transitions=False)


def without_acts() -> TowerMethod:
    """The default without what first acts tell."""
    return WithoutActs(foretaste().config)


def by_gradient() -> TowerMethod:
    """The default, whose effects are fitted by gradient."""
    return _with_effects(foretaste(), solver="gradient")


def combined() -> TowerMethod:
    """The default with the trained zero-shot tower: beside the sum of codes, what values say together."""
    return TowerMethod(TrainingConfig(architecture=Architecture(zero_shot="trained-effects")))


def with_reconstruction() -> TowerMethod:
    """By gradient, with a code of behaviour that tells behaviour and attributes as that of attributes does: eqs. 3 and
    4."""
    return _with_descent(reconstruction=PAPERS_WEIGHT)


def with_papers_losses() -> TowerMethod:
    """By gradient, with the codes of attributes and of behaviour drawn together as well: eq. 7."""
    return _with_descent(reconstruction=PAPERS_WEIGHT, discrepancy=PAPERS_WEIGHT)


def _with_descent(**changes: Any) -> TowerMethod:
    method = by_gradient()
    return _with_effects(method, descent=replace(method.config.effects.descent, **changes))


def _with_effects(method: TowerMethod, **changes: Any) -> TowerMethod:
    config = method.config
    return replace(method, config=replace(config, effects=replace(config.effects, **changes)))


def _without(name: str, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {other: loss for other, loss in losses.items() if other != name}


def _path(tower: type[nn.Module]) -> str:
    return f"{tower.__module__}:{tower.__name__}"
