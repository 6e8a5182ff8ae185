"""`python -m benchmarks zero-shot`: the zero-shot tower trained on planted tastes, its time, memory, and what it finds.

The way is that of a training until its first step: data without labels are encoded, users counted, the codes of all
users and of all without each fold found, and the biases. New users' next acts are then told from items drawn by
popularity, by what was planted, by the tower, and by popularity alone.
"""

import json
import resource
import time
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.enrich.figures import text_of
from benchmarks.machine import machine
from benchmarks.zero_shot.planted import Doubles, Numbers, Planted, dataset_of
from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset
from models.data.split import TimeSplit
from models.effects.by_gradient.factors import DescentConfig
from models.effects.fit import EffectsConfig, Solver
from models.towers.architecture import Architecture, TowerPair, build_towers
from models.towers.embeddings import Sizes
from models.towers.forms import ZeroShotForm
from models.training.config import TrainingConfig, device_of
from models.training.data import TrainingData
from models.training.loop import adopted, fitted

NEW_USERS = 4000
"""New users whose next acts are told from other items."""
NEGATIVES = 20
"""Others that each act is told from."""

CONTESTANTS: dict[str, tuple[str, Solver, int]] = {
    "counts": ("effects", "counts", 0),
    "gradient": ("effects", "gradient", 0),
    "combined": ("trained-effects", "gradient", 8),
}
"""The tower, how it is fitted, and in how many directions values tell something together."""


def zero_shot(
    users: Annotated[int, typer.Option(min=1000)] = 1_000_000,
    items: Annotated[int, typer.Option(min=1000)] = 1_000_000,
    acts: Annotated[int, typer.Option(min=1, help="Of each user.")] = 10,
    contestant: Annotated[str, typer.Option(help=f"{', '.join(CONTESTANTS)}.")] = "gradient",
    together: Annotated[float, typer.Option(min=0, max=1, help="Of taste, what pairs of values make.")] = 0.0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train the zero-shot tower on planted tastes, and look for them in what it tells of new users."""
    if contestant not in CONTESTANTS:
        raise InvalidInput("contestant", contestant, f"expected one of {', '.join(CONTESTANTS)}")
    config = _config(contestant, device)
    facts, rng = machine(), np.random.default_rng(seed)
    planted = Planted.drawn(items, together, rng)
    values = planted.users(users, rng)
    began = time.perf_counter()
    data = _data(dataset_of(planted, values, planted.acts(values, acts, rng), rng))
    found: dict[str, Any] = {"users": users, "items": items, "acts": users * acts, "together": together}
    found |= {"encoding_seconds": round(time.perf_counter() - began, 1)}
    question = Question.of(planted, np.random.default_rng(seed + 1))
    found |= {"planted_auc": round(question.auc(question.planted), 4)}
    found |= {"popularity_auc": round(question.auc(np.log1p(data.counts[question.rows(data)])), 4)}
    began = time.perf_counter()
    model = _trained(data, config, seed)
    seconds = round(time.perf_counter() - began, 1)
    auc = round(question.auc(_scores(model, data, question)), 4)
    found |= {"contestant": contestant, "seconds": seconds, "auc": auc}
    found |= {"peak_GiB": round(_peak_bytes() / 2**30, 2), "device": str(device_of(config.device))}
    typer.echo(json.dumps({"machine": facts, **found}) if as_json else text_of(found))


@dataclass(frozen=True, eq=False)
class Question:
    """New users' `values` (B, N), and `items` (B, 1 + NEGATIVES): the first is acted on, the others are popular.

    `planted` (B, 1 + NEGATIVES) is the logit that was planted.
    """

    values: Numbers
    items: Numbers
    planted: Doubles

    @classmethod
    def of(cls, planted: Planted, rng: np.random.Generator) -> "Question":
        """Others are what other users act on: popularity alone tells nothing, but for what is acted on by chance."""
        values = planted.users(NEW_USERS, rng)
        acted = planted.acts(values, 1, rng)
        others = planted.acts(planted.users(NEW_USERS * NEGATIVES, rng), 1, rng).reshape(NEW_USERS, NEGATIVES)
        items = np.concatenate([acted, others], axis=1)
        return cls(values, items, np.einsum("bd,bkd->bk", planted.taste(values), planted.keys[items]))

    def rows(self, data: TrainingData) -> Numbers:
        """(B, 1 + NEGATIVES): the items' indices."""
        return data.encoding.encode_items([f"i{item}" for item in self.items.ravel()]).reshape(self.items.shape)

    def auc(self, scores: Doubles) -> float:
        """How often the item that is acted on has the higher score, a tie being a half: the mean over users."""
        own, others = scores[:, :1], scores[:, 1:]
        return float(((own > others) + 0.5 * (own == others)).mean())


def _data(dataset: Dataset) -> TrainingData:
    """All of it is learned from."""
    frame = dataset.interactions
    last_ms = int(frame["time_ms"].iloc[-1]) + 1
    return TrainingData.of(dataset, TimeSplit(last_ms, frame, frame.iloc[:0], (), ()))


def _config(name: str, device: str) -> TrainingConfig:
    tower, solver, directions = CONTESTANTS[name]
    effects = EffectsConfig(solver=solver, transitions=False, descent=DescentConfig(combined_directions=directions))
    architecture = Architecture(ranking="dnn", zero_shot=tower)
    return TrainingConfig(architecture=architecture, effects=effects, device=device)  # type: ignore[arg-type]  # checked there


def _trained(data: TrainingData, config: TrainingConfig, seed: int) -> TowerPair:
    """Both towers with what was fitted; the ranking tower is untrained but for its cold expert."""
    rng = np.random.default_rng(seed)
    sampler = data.sampler(rng) if data.sampler else None
    features = torch.from_numpy(data.encoding.item_features)
    model = build_towers(Sizes.of(data.encoding), features, config.architecture)
    adopted(model, fitted(model, data, sampler, config, rng))
    return model.eval()


def _scores(model: TowerPair, data: TrainingData, question: Question) -> Doubles:
    """(B, 1 + NEGATIVES) the cold expert's logits at the first moment, but for the account's age."""
    names = [f"a{number}" for number in range(question.values.shape[1])]
    raw = [dict(zip(names, map(str, row), strict=True)) for row in question.values.tolist()]
    attributes = torch.from_numpy(data.encoding.encode_attributes(raw))
    with torch.inference_mode():
        codes = ZeroShotForm(model.embeddings, model.zero_shot)(attributes).flatten(1).numpy()
    rows, ranking = question.rows(data), model.ranking
    keys, biases = ranking.get_buffer("keys").numpy(), ranking.get_buffer("biases").numpy()
    found: Doubles = np.einsum("bh,bkh->bk", codes, keys[rows]) + biases[0][rows]
    return found


def _peak_bytes() -> int:
    """Of memory, that this process held at once until now, the data among it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
