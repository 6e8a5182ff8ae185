"""Co-trained towers as methods of the comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foretaste.kernel.errors import ForetasteError, InvalidInput
from models.data.examples import Batch
from models.rivals.methods import Material, Method
from models.towers.architecture import Architecture
from models.towers.forms import ranking_arguments
from models.towers.registry import FITTED
from models.training.config import Masked, TrainingConfig, device_of
from models.training.cotrain import cotrain
from models.training.loop import Step
from models.training.questions import with_questions
from models.training.trained import Trained

ABSENT = "absent"
"""The zero-shot tower of a plain ranking tower: its virtual behaviour is zero."""

PAPERS_DROPOUT, MILDER, MILDEST = 0.5, 0.3, 0.1
SLOWER = 1 / 3
"""Of the ranking tower's learning rate, in a trial."""
FIRST_SHARE = 0.1
"""Of the first stage's prior precision, in a trial."""


@dataclass(frozen=True, eq=False)
class TowerRanker:
    """Both towers as served: the ranking tower reads v̂ made from the attributes, and the behaviour of the batch."""

    trained: Trained
    device: torch.device
    losses: Sequence[Mapping[str, float]]
    """Of each step of the training, by name."""

    def scores(self, batch: Batch) -> npt.NDArray[np.float64]:
        return self.scores_with(batch, self.virtual(batch.attributes))

    def virtual(self, attributes: npt.NDArray[np.int64]) -> Tensor:
        """v̂ (B, M, D) of users with encoded `attributes` (B, N)."""
        distinct, owner = np.unique(attributes, axis=0, return_inverse=True)
        with torch.inference_mode():
            made: Tensor = self.trained.zero_shot(self.tensor(distinct))
            return made[self.tensor(owner.ravel())]

    def scores_with(self, batch: Batch, virtual: Tensor) -> npt.NDArray[np.float64]:
        """Logits (R,) with any virtual behaviour (U, M, D): the order is that of the probabilities, without ties."""
        with torch.inference_mode():
            logits = self.trained.ranking.logits(*ranking_arguments(batch, virtual, self.device))
        found: npt.NDArray[np.float64] = logits.double().cpu().numpy()
        if not np.isfinite(found).all():
            raise ForetasteError("the ranking tower gave scores that are not finite; it cannot be judged")
        return found

    def tensor(self, values: npt.NDArray[np.int64]) -> Tensor:
        """An array as a tensor on the device of the towers."""
        return torch.from_numpy(values).to(self.device)


@dataclass(frozen=True)
class TowerMethod:
    """Co-training with `config`, whose seed, threads and device are the material's."""

    config: TrainingConfig = field(default_factory=TrainingConfig)

    def fit(self, material: Material) -> TowerRanker:
        config = replace(self.config, seed=material.seed, threads=material.threads, device=material.device)
        losses: list[Mapping[str, float]] = []

        def record(step: Step) -> None:
            losses.append(step.losses)
            material.progress(step.number, step.total)

        trained = cotrain(
            material.dataset,
            material.split,
            config,
            progress=record,
            encoding=material.encoding,
            histories=material.histories,
        )
        device = device_of(material.device)
        trained = with_questions(trained)
        trained.model.to(device)
        return TowerRanker(trained, device, losses)

    def trials(self) -> Sequence["TowerMethod"]:
        """Smaller steps, more of them on small data, with other shares dropped; the last in smaller steps still.

        Of effects, one is with more of what users do first: it is worth most there, and costs where it is not.
        """
        longer = lengthened(self.config)
        slower = replace(self, config=slowed(longer.with_dropout(MILDEST)))
        dropping = [replace(self, config=longer.with_dropout(share)) for share in (MILDER, MILDEST, 0.0)]
        if self.config.architecture.zero_shot in FITTED:
            precision = self.config.effects.first_precision * FIRST_SHARE
            effects = replace(self.config.effects, first_precision=precision)
            first = replace(self, config=replace(longer.with_dropout(MILDEST), effects=effects))
            return self, *dropping[:2], first, slower
        return self, *dropping, slower


@dataclass(frozen=True, slots=True)
class Alike:
    """One training for every tower, so that towers too slow to be tuned are compared as they are."""

    epochs: int
    batch: int
    rate: float
    dropout: float

    @classmethod
    def parse(cls, text: str) -> "Alike":
        """From "epochs=2,batch=1024,rate=0.003,dropout=0.1". Raises `InvalidInput` for anything else."""
        problem = "expected epochs=2,batch=1024,rate=0.003,dropout=0.1"
        given = dict(part.partition("=")[::2] for part in text.split(","))
        if set(given) != {field.name for field in fields(cls)}:
            raise InvalidInput("alike", text, problem)
        try:
            return cls(int(given["epochs"]), int(given["batch"]), float(given["rate"]), float(given["dropout"]))
        except ValueError as error:
            raise InvalidInput("alike", text, problem) from error

    def of(self, method: Method) -> Method:
        """The method with this training; one that is no tower as it is. Raises `InvalidInput` naming what is wrong."""
        if not isinstance(method, TowerMethod):
            return method
        config = replace(method.config, batch=self.batch, ranking_rate=self.rate)
        return replace(method, config=config.with_epochs(self.epochs).with_dropout(self.dropout))


def lengthened(config: TrainingConfig) -> TrainingConfig:
    """Smaller steps, and more of them where an epoch has few, as far as `most_epochs` goes."""
    return replace(config, least_steps=2 * config.least_steps, ranking_rate=0.6 * config.ranking_rate)


def slowed(config: TrainingConfig) -> TrainingConfig:
    """Smaller steps, and as many."""
    return replace(config, ranking_rate=SLOWER * config.ranking_rate)


def papers_towers(masked: Masked, *, ranking: str = "dnn", zero_shot: str = ABSENT) -> TowerMethod:
    """With the paper's flag and dropout; what the paper leaves to time is the same for all of them, and tuned."""
    return TowerMethod(
        TrainingConfig(
            architecture=Architecture(ranking=ranking, zero_shot=zero_shot, dropout=PAPERS_DROPOUT),
            masked=masked,
            warm_after=1,
            ranking_rate=0.005,
        )
    )


def dnn() -> TowerMethod:
    """BaseDNN trained on all histories."""
    return papers_towers("nobody")


def dnn_flagged() -> TowerMethod:
    """BaseDNN with 40 % of the users flagged new throughout: the paper's baseline."""
    return papers_towers("users")


def dnn_dropout() -> TowerMethod:
    """BaseDNN with the history of a random 40 % of the moments hidden."""
    return papers_towers("rows")


def din() -> TowerMethod:
    return papers_towers("nobody", ranking="din")


def dmr() -> TowerMethod:
    return papers_towers("nobody", ranking="dmr")


def dcn() -> TowerMethod:
    return papers_towers("nobody", ranking="dcn")


def deepfm() -> TowerMethod:
    return papers_towers("nobody", ranking="deepfm")


def hstu() -> TowerMethod:
    return papers_towers("nobody", ranking="hstu")


def none() -> TowerMethod:
    """The paper's ablation: a linear map from attributes to behaviour, no zero-shot loss."""
    return papers_towers("users", zero_shot="none")


def single() -> TowerMethod:
    """The paper's ablation: eq. 3 alone."""
    return papers_towers("users", zero_shot="single")


def dual() -> TowerMethod:
    """The paper's ablation: eqs. 3 and 4."""
    return papers_towers("users", zero_shot="dual")


def mail() -> TowerMethod:
    """MAIL-Base: eq. 7, and 40 % of the users flagged new, as in the paper."""
    return papers_towers("users", zero_shot="mail")


def mail_dmr() -> TowerMethod:
    return papers_towers("users", ranking="dmr", zero_shot="mail")


def foretaste(ranking: str = "recency") -> TowerMethod:
    """Foretaste's default: fitted attribute effects as the cold expert, beside a ranking tower as the warm one."""
    return TowerMethod(TrainingConfig(architecture=Architecture(ranking=ranking, zero_shot="effects")))


def foretaste_dnn() -> TowerMethod:
    return foretaste("dnn")


def foretaste_din() -> TowerMethod:
    return foretaste("din")


def foretaste_dmr() -> TowerMethod:
    return foretaste("dmr")


def foretaste_dcn() -> TowerMethod:
    return foretaste("dcn")


def foretaste_deepfm() -> TowerMethod:
    return foretaste("deepfm")


def foretaste_hstu() -> TowerMethod:
    return foretaste("hstu")


def recency() -> TowerMethod:
    """The default's warm expert alone, trained on all histories."""
    return papers_towers("nobody", ranking="recency")
