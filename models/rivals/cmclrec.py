"""Contrastive mapping from attributes to behaviour, after CMCLRec."""

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Annotated

import numpy as np
import pydantic.dataclasses
import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional

from foretaste.kernel.configuration import (
    NO_OTHER_FIELDS,
    NonNegativeFloat,
    PositiveFloat,
    ShareBelowOne,
    raises_invalid_input,
)
from models.rivals.base import ImputingRanker, WarmUsers, base_config, base_of, longer, slower
from models.rivals.generator import Generator, generating_ranker, minimise, seeded, shuffled
from models.rivals.methods import Material
from models.runtime.encoding import IndexArray
from models.training.config import TrainingConfig


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class CMCLRec:
    """CMCLRec-style: a contrastive mapping between the two modalities of a user, attributes and behaviour.

    After Xu et al., CMCLRec: Cross-modal Contrastive Learning for User Cold-start Sequential Recommendation (SIGIR
    2024), which learns from warm users to map attributes to behaviour, and hands the mapped behaviour of a new user to
    a sequential recommender. Here f maps the embedded attributes a_u to the pooled behaviour v_u that BaseDNN reads
    (not to a sequence of simulated items), standardised, and learns

        L = - mean_u log[exp(cos(f(a_u), v_u) / τ) / Σ_w exp(cos(f(a_u), v_w) / τ)] + λ mean_u ‖f(a_u) - v_u‖² / D

    over batches of users: InfoNCE and reconstruction. Users w whose attributes equal those of u are no negatives of it.
    A user without behaviour gets v̂ = f(a).
    """

    temperature: PositiveFloat = 0.2
    """τ."""
    reconstruction: NonNegativeFloat = 1.0
    """λ."""
    hidden: PositiveInt = 64
    dropout: ShareBelowOne = 0.3
    rate: PositiveFloat = 0.003
    """Of Adam."""
    epochs: PositiveInt = 50
    batch: Annotated[int, Field(ge=2)] = 128
    """Users a step, about."""
    newest: PositiveInt = 100
    """Behaviours pooled of each training user, the newest ones."""
    base: TrainingConfig = field(default_factory=base_config)
    """Of the ranking tower that reads it."""

    def fit(self, material: Material) -> ImputingRanker:
        base = base_of(material, self.base)
        warm = WarmUsers.of(base, material, self.newest)
        with seeded(material):
            generator = Generator(warm, hidden=self.hidden, dropout=self.dropout)
            vectors = torch.from_numpy(warm.vectors)
            behaviour = generator.standardised(torch.from_numpy(warm.behaviour))
            kinds = torch.from_numpy(np.unique(warm.attributes, axis=0, return_inverse=True)[1].ravel())

            def loss(part: IndexArray) -> Tensor:
                mapped, real = generator(vectors[part]), behaviour[part]
                contrast = info_nce(mapped, real, kinds[part], self.temperature)
                return contrast + self.reconstruction * functional.mse_loss(mapped, real)

            parts = shuffled(len(vectors), self.batch, self.epochs, np.random.default_rng(material.seed))
            minimise(generator.parameters(), self.rate, parts, loss)
        return generating_ranker(base, generator)

    def trials(self) -> Sequence["CMCLRec"]:
        better = replace(self, base=longer(self.base))
        more = replace(better, reconstruction=10 * self.reconstruction)
        return self, better, more, replace(better, newest=20), replace(self, base=slower(self.base))


def info_nce(mapped: Tensor, real: Tensor, kinds: Tensor, temperature: float) -> Tensor:
    """InfoNCE between `mapped` (B, H) and `real` (B, H) by cosine; rows of one of the `kinds` (B,) are no negatives."""
    similarity = functional.normalize(mapped, dim=1) @ functional.normalize(real, dim=1).T / temperature
    twins = (kinds.unsqueeze(1) == kinds) & ~torch.eye(len(kinds), dtype=torch.bool)
    return functional.cross_entropy(similarity.masked_fill(twins, -torch.inf), torch.arange(len(kinds)))
