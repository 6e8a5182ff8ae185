"""What the stored vector carries: the same towers with another user's vector, without it, and without attributes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.data.examples import Batch
from models.rivals.towers import ABSENT, TowerRanker
from models.runtime.encoding import FIELD_UNKNOWN, IndexArray
from models.study.fold import SEED
from models.study.protocols import Questions

ANOTHER, NONE, NO_ATTRIBUTES = "another user's vector", "no vector", "no attributes"
PROBES = (ANOTHER, NONE, NO_ATTRIBUTES)


def probes(ranker: TowerRanker, questions: Questions) -> Mapping[str, "AnotherVector | NoVector | NoAttributes"]:
    """The probes of a ranker by name; none where there is no zero-shot tower."""
    if ranker.trained.config.architecture.zero_shot == ABSENT:
        return {}
    donors = _donors(questions)
    return {
        ANOTHER: AnotherVector(ranker, questions.attributes, donors),
        NONE: NoVector(ranker),
        NO_ATTRIBUTES: NoAttributes(ranker),
    }


@dataclass(frozen=True, eq=False)
class AnotherVector:
    """Each user's vector is that of another user of the same group, who may have the same attributes."""

    ranker: TowerRanker
    attributes: IndexArray
    donors: IndexArray
    """(users,) by row of `Dataset.users`."""

    def scores(self, batch: Batch) -> npt.NDArray[np.float64]:
        virtual = self.ranker.virtual(self.attributes[self.donors[batch.users]])
        return self.ranker.scores_with(batch, virtual)


@dataclass(frozen=True, eq=False)
class NoVector:
    """The vector is zero, as before a user is enriched."""

    ranker: TowerRanker

    def scores(self, batch: Batch) -> npt.NDArray[np.float64]:
        virtual: Tensor = torch.zeros_like(self.ranker.virtual(batch.attributes))
        return self.ranker.scores_with(batch, virtual)


@dataclass(frozen=True, eq=False)
class NoAttributes:
    """The vector is the user's own; all raw attributes are unknown to the ranking tower."""

    ranker: TowerRanker

    def scores(self, batch: Batch) -> npt.NDArray[np.float64]:
        blank = replace(batch, attributes=np.full_like(batch.attributes, FIELD_UNKNOWN))
        return self.ranker.scores_with(blank, self.ranker.virtual(batch.attributes))


def _donors(questions: Questions) -> IndexArray:
    """Within each group the users in a random ring: nobody is his own donor, where there are two."""
    donors = np.arange(len(questions.attributes))
    rng = np.random.default_rng(SEED)
    users = questions.user_of_row
    for place in range(len(questions.groups)):
        ring = rng.permutation(np.unique(users[questions.group == place]))
        donors[ring] = np.roll(ring, 1)
    return donors
