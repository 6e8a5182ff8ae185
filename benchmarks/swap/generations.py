"""The generations that are swapped in: one training, and for each swap a copy with other weights."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.swap.figures import AnswerCheck
from benchmarks.swap.load import AGE_MS, SampledAnswer
from foretaste.kernel.ports import Report
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import Attributes, FloatArray
from models.data.dataset import Dataset
from models.data.split import split_by_time
from models.generations.export import export
from models.runtime.account_age import BOUNDS_MS, bins_of_ages
from models.runtime.local import LocalTowers
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.trained import Trained

NOISE = 0.3
"""Spread of the logarithm of the factors on all weights: orders stay roughly, while every score changes."""
TOLERANCE = 1e-4
"""Greatest difference between two runs of one tower on other batches."""
LATER_MS = 100
"""By which Kafka's time of a registration may lie behind its sender's."""


def attributes_of(dataset: Dataset) -> list[Attributes]:
    """Raw attributes of every user."""
    names = list(dataset.description.users.attributes)
    rows = dataset.users[names].astype(object).to_dict("records")
    return [{str(name): _scalar(value) for name, value in row.items()} for row in rows]


def write_generations(
    dataset: Dataset, config: TrainingConfig, generations: Path, count: int, seed: int, report: Report
) -> None:
    """Train once, and write generations 1 to `count`."""
    trained = cotrain(dataset, split_by_time(dataset), config, lambda step: report("train", step.number, step.total))
    attributes = torch.from_numpy(trained.encoding.encode_attributes(attributes_of(dataset)))
    for number in range(1, count + 1):
        own = trained if number == 1 else shaken(trained, attributes, seed + number)
        export(own, dataset, {}, generations, lowest=number)
        report("export", number, count)


def shaken(trained: Trained, attributes: torch.Tensor, seed: int) -> Trained:
    """The same towers, each weight times a factor of its own; `attributes` (B, N) give the mean virtual behaviour."""
    model = deepcopy(trained.model)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.mul_(torch.exp(NOISE * torch.randn(value.shape, generator=draw)))
        other = replace(trained, model=model)
        mean: FloatArray = other.zero_shot(attributes).mean(dim=0).numpy()
    return replace(other, mean_virtual=mean)


@dataclass(frozen=True)
class LoadUser:
    """The attributes and the behaviour that are stored of a user throughout the load."""

    attributes: Attributes
    behaviour: Behaviour
    registered_ms: int | None = None
    """When the user registered first (epoch milliseconds); None: `AGE_MS` before the load."""


def check_answers(samples: Sequence[SampledAnswer], people: Mapping[str, LoadUser], generations: Path) -> AnswerCheck:
    """Compare each sampled answer with the scores that both towers of its generation's artifact give.

    Fallbacks are left out: they read nothing of the user's own.
    """
    towers: dict[int, _Towers] = {}
    differences: list[float] = []
    telling = 0
    for sample in samples:
        number = sample.answer.ranking
        if number is None or sample.answer.fallback is not None:
            continue
        for each in (number, _neighbour(number)):
            if each not in towers:
                towers[each] = _Towers(generations / str(each))
        person = people[sample.user_id]
        own, other = towers[number], towers[_neighbour(number)]
        virtual, scores = own.virtual(sample, person), list(sample.scores.values())
        ages = _ages_ms(sample, person)
        expected = [own.scores(sample, person, virtual, age_ms) for age_ms in ages]
        mixed = own.scores(sample, person, other.virtual(sample, person), ages[0])
        differences.append(min(float(np.abs(each - scores).max()) for each in expected))
        telling += bool(np.abs(expected[0] - mixed).max() > TOLERANCE)
    return AnswerCheck(
        answers=len(differences),
        wrong=sum(not difference <= TOLERANCE for difference in differences),
        telling=telling,
        greatest_difference=max(differences, default=0.0),
    )


def _neighbour(number: int) -> int:
    """The generation before; for the first, the one after."""
    return number - 1 if number > 1 else 2


def _ages_ms(sample: SampledAnswer, person: LoadUser) -> list[int]:
    """Ages of the account that the service may have seen: one, or two where a bin of ages begins meanwhile."""
    if person.registered_ms is None:
        return [AGE_MS]
    age_ms = sample.sent_ms - person.registered_ms
    latest_ms = age_ms + round(1000 * (sample.answer.ended - sample.answer.sent))
    ages = [max(each, 0) for each in (age_ms - LATER_MS, latest_ms)]
    return ages if len(set(bins_of_ages(ages, BOUNDS_MS).tolist())) > 1 else ages[:1]


class _Towers:
    """Both towers of a generation in this process, as Triton serves them."""

    def __init__(self, folder: Path) -> None:
        self._towers = LocalTowers.of(folder)
        self._nothing: FloatArray = np.zeros_like(self._towers.virtual_behaviour([{}])[0])

    def virtual(self, sample: SampledAnswer, person: LoadUser) -> FloatArray:
        """(M, D), zeros where the answer says that no virtual behaviour was read."""
        if sample.answer.zero_shot is None:
            return self._nothing
        made: FloatArray = self._towers.virtual_behaviour([person.attributes])[0]
        return made

    def scores(self, sample: SampledAnswer, person: LoadUser, virtual: FloatArray, age_ms: int) -> FloatArray:
        """(K,), in the order of the answer."""
        (scores,) = self._towers.score(
            [RankingInput(person.attributes, {}, person.behaviour, virtual, list(sample.scores), age_ms)]
        )
        return scores


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
