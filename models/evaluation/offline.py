"""How good the towers are on what came after the split, cold and warm users apart."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic.dataclasses
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from foretaste.kernel.configuration import NO_OTHER_FIELDS, raises_invalid_input
from foretaste.kernel.errors import ForetasteError
from models.data.dataset import Dataset
from models.data.examples import Batch, Examples, batches
from models.data.histories import Histories
from models.data.sampling import NegativeSampler
from models.data.split import TimeSplit
from models.data.vocabulary import item_counts
from models.evaluation.metrics import auc, user_auc
from models.towers.behaviour import condense
from models.towers.forms import ranking_arguments
from models.training.questions import with_questions
from models.training.trained import Trained

Scores: TypeAlias = npt.NDArray[np.float64]
WAYS = {"cold": ("virtual", "none", "popularity"), "warm": ("real", "popularity")}
"""The ways of ranking that each group of users is judged by."""


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class EvaluationConfig:
    """Which interactions the offline evaluation judges."""

    negatives: PositiveInt = 4
    """Sampled for each positive by popularity, by the rule of `NegativeSampler`; none for data with labels."""
    events_a_user: PositiveInt | None = 20
    """Interactions of each user after the split that are judged, drawn at random; None: all."""
    batch: PositiveInt = 16384
    """Rows scored at once."""
    resamples: PositiveInt = 200
    """Of the users, for the 95 % interval of each GAUC."""
    seed: NonNegativeInt = 1


@dataclass(frozen=True, eq=False, slots=True)
class _Judged:
    """Scored rows: users (R,), labels (R,), and (R,) scores by what gave them."""

    users: npt.NDArray[np.int64]
    labels: npt.NDArray[np.float32]
    scores: dict[str, Scores]


def evaluate(
    dataset: Dataset,
    split: TimeSplit,
    trained: Trained,
    config: EvaluationConfig | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, float]:
    """AUC and GAUC of the towers as served: three ways of ranking for cold users, behaviour hidden, and warm ones' own.

    Flat names: `cold.virtual.auc`, `cold.virtual.gauc` with `…gauc_low` and `…gauc_high` (95 % bootstrap interval over
    users), the same for `cold.none` (the same tower without virtual behaviour), `cold.popularity`, `warm.real` and
    `warm.popularity`, and the counts `cold.users`, `cold.rows`, `warm.users`, `warm.rows`. A group without rows, or of
    one class, gives nan. Where the data have no labels, an event whose item cannot be drawn as a negative is
    not asked, since it would always be right. `progress` hears of batches done and in all.
    """
    config = config or EvaluationConfig()
    trained = with_questions(trained)
    rng = np.random.default_rng(config.seed)
    counts = item_counts(dataset, trained.encoding, split.instant_ms)
    sampler = None if dataset.has_labels else NegativeSampler(dataset, trained.encoding, counts, rng)
    histories = Histories.of(dataset, trained.encoding)
    asked = split.test if sampler is None else sampler.drawable_rows(split.test)
    groups = {
        name: Examples.of(dataset, _drawn(asked, users, config, rng), trained.encoding, histories)
        for name, users in (("cold", split.cold_users), ("warm", split.warm_users))
    }
    plan = {
        name: list(batches(examples.sizes * (1 + config.negatives if sampler else 1), config.batch))
        for name, examples in groups.items()
    }
    metrics: dict[str, float] = {}
    done, total = 0, sum(len(parts) for parts in plan.values())
    for name, examples in groups.items():
        scored: list[_Judged] = []
        for moments in plan[name]:
            batch = examples.batch(moments, sampler, config.negatives)
            scored.append(_cold(trained, batch) if name == "cold" else _warm(trained, batch))
            done += 1
            progress(done, total)
        summary = _summary(scored, config, rng) if scored else _nothing(WAYS[name])
        metrics |= {f"{name}.{key}": value for key, value in summary.items()}
    return metrics


def _drawn(
    frame: pd.DataFrame, users: Sequence[str], config: EvaluationConfig, rng: np.random.Generator
) -> pd.DataFrame:
    """The interactions of these users, at most `events_a_user` of each."""
    own = frame[frame["user_id"].isin(users)]
    if config.events_a_user is None:
        return own
    shuffled = own.iloc[rng.permutation(len(own))]
    return shuffled[shuffled.groupby("user_id", observed=True).cumcount() < config.events_a_user].sort_index()


def virtual_behaviour(trained: Trained, batch: Batch) -> Tensor:
    """v̂ (U, M, D) of the batch's moments, eq. 8, as they would be served."""
    with torch.inference_mode():
        virtual: Tensor = trained.zero_shot(torch.from_numpy(batch.attributes))
    return virtual


def probabilities(trained: Trained, batch: Batch, virtual: Tensor) -> Scores:
    """(R,) of the batch's candidates, eq. 12, given v̂ (U, M, D): whatever the tower answers, finite or not."""
    with torch.inference_mode():
        answer: Tensor = trained.ranking(*ranking_arguments(batch, virtual, virtual.device))
    found: Scores = answer.double().numpy()
    return found


def pooled_behaviour(trained: Trained, batch: Batch, vectors: int) -> Tensor:
    """Real behaviour (U, M, D) of the batch's moments in M = `vectors`, laid out as v̂ is (`condense`)."""
    with torch.inference_mode():
        behaviour, valid = trained.model.embeddings.behaviour(
            torch.from_numpy(batch.items), torch.from_numpy(batch.actions)
        )
        return condense(behaviour, valid, vectors)


def _cold(trained: Trained, batch: Batch) -> _Judged:
    hidden = batch.hidden(np.ones(len(batch.users), dtype=np.bool_))
    virtual = virtual_behaviour(trained, batch)
    return _Judged(
        batch.users[batch.owner],
        batch.labels,
        {
            "virtual": _scores(trained, hidden, virtual),
            "none": _scores(trained, hidden, torch.zeros_like(virtual)),
            "popularity": trained.popularity[batch.candidates],
        },
    )


def _warm(trained: Trained, batch: Batch) -> _Judged:
    virtual = virtual_behaviour(trained, batch)
    scores = {"real": _scores(trained, batch, virtual), "popularity": trained.popularity[batch.candidates]}
    return _Judged(batch.users[batch.owner], batch.labels, scores)


def _scores(trained: Trained, batch: Batch, virtual: Tensor) -> Scores:
    found = probabilities(trained, batch, virtual)
    if not np.isfinite(found).all():
        raise ForetasteError("the ranking tower gave scores that are not finite; it cannot be judged")
    return found


def _summary(scored: Sequence[_Judged], config: EvaluationConfig, rng: np.random.Generator) -> dict[str, float]:
    users = np.concatenate([part.users for part in scored])
    labels = np.concatenate([part.labels for part in scored])
    summary = {"users": float(len(np.unique(users))), "rows": float(len(users))}
    for way in scored[0].scores:
        scores = np.concatenate([part.scores[way] for part in scored])
        middle, low, high = _interval(*user_auc(users, labels, scores), config.resamples, rng)
        summary |= {
            f"{way}.auc": auc(labels, scores),
            f"{way}.gauc": middle,
            f"{way}.gauc_low": low,
            f"{way}.gauc_high": high,
        }
    return summary


def _nothing(ways: Sequence[str]) -> dict[str, float]:
    figures = ("auc", "gauc", "gauc_low", "gauc_high")
    return {"users": 0.0, "rows": 0.0} | {f"{way}.{figure}": math.nan for way in ways for figure in figures}


def _interval(
    aucs: Scores, impressions: Scores, resamples: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """GAUC and its 95 % percentile bootstrap interval over users; nan where no user has both classes."""
    judged = ~np.isnan(aucs)
    aucs, impressions = aucs[judged], impressions[judged]
    if not len(aucs):
        return np.nan, np.nan, np.nan
    drawn = rng.integers(0, len(aucs), (resamples, len(aucs)))
    means = (aucs[drawn] * impressions[drawn]).sum(axis=1) / impressions[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.average(aucs, weights=impressions)), float(low), float(high)
