"""Mean imputation: a user without behaviour gets the average one."""

from collections.abc import Sequence
from dataclasses import field, replace

import numpy as np
import pydantic.dataclasses
from pydantic import PositiveInt

from foretaste.kernel.configuration import NO_OTHER_FIELDS, raises_invalid_input
from models.rivals.base import ImputingRanker, WarmUsers, base_config, base_of, longer, slower
from models.rivals.methods import Material
from models.training.config import TrainingConfig


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class MeanBehaviour:
    """v̂ = the mean over the training users of the pooled behaviour (eq. 11), whoever asks: unconditional mean
    imputation (Little and Rubin, Statistical Analysis with Missing Data) in the behaviour space of BaseDNN."""

    newest: PositiveInt = 100
    """Behaviours pooled of each user, the newest ones: how much behaviour the average stands for."""
    base: TrainingConfig = field(default_factory=base_config)
    """Of the ranking tower that reads it."""

    def fit(self, material: Material) -> ImputingRanker:
        base = base_of(material, self.base)
        mean = WarmUsers.of(base, material, self.newest).behaviour.mean(axis=0)
        return ImputingRanker(base, lambda attributes: np.tile(mean, (len(attributes), 1)))

    def trials(self) -> Sequence["MeanBehaviour"]:
        better = replace(self, base=longer(self.base))
        slow = replace(self, base=slower(self.base))
        return self, better, replace(better, newest=20), replace(better, newest=5), slow
