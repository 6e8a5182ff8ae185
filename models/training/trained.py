"""What a training run leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import FloatArray
from models.effects.state import SavedCounts
from models.runtime.answers import AskedItems
from models.runtime.encoding import Encoding
from models.towers.architecture import TowerPair
from models.towers.forms import RankingForm, ZeroShotForm
from models.training.config import TrainingConfig


@dataclass(frozen=True, eq=False)
class Trained:
    """Trained towers (in eval mode, on the CPU), and what is needed to read them."""

    model: TowerPair
    encoding: Encoding
    config: TrainingConfig
    mean_virtual: FloatArray
    """(M, D): the mean virtual behaviour of the training users."""
    popularity: npt.NDArray[np.float64]
    """(item_count,): share of the training interactions, by item index."""
    split_ms: int
    counts: SavedCounts | None = None
    """What the fit of a later run's effects goes on from."""
    asked: AskedItems | None = None
    """What new users are asked, and how acts and answers move taste; None: nothing. `model` is without it until
    `with_questions`."""
    losses: Sequence[Mapping[str, float]] = ()
    """Of every step, those before a resumption among them."""

    @property
    def zero_shot(self) -> ZeroShotForm:
        return ZeroShotForm(self.model.embeddings, self.model.zero_shot).eval()

    @property
    def ranking(self) -> RankingForm:
        return RankingForm(self.model.embeddings, self.model.ranking, self.config.warm_after).eval()
