"""How much of the ranking tower's own best 20 of the whole catalogue is among the candidates of a recommendation.

    python -m benchmarks candidates --data ml-1m --json

The towers are trained on the first 80 % of what lies before the split by time; what lies after the split is never
read. Each user is tried cold, warming and warm: with none, some and `warm_after` or more of the own behaviours. What
was seen is left out on both sides, as a recommendation does.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from foretaste.console import errors
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.users import Behaviour, Stage
from foretaste.settings import Settings
from models.data.dataset import Dataset
from models.data.sources.public import open_dataset
from models.data.split import TRAINING_SHARE, split_by_time
from models.generations.export import export
from models.runtime.local import LocalTowers
from models.towers.architecture import Architecture
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from serving.rankings.recommending import CandidateShares

BEST = 20
K = 20


def candidates(
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder.")] = "ml-100k",
    users: Annotated[int, typer.Option(min=1, help="How many are tried, in each stage.")] = 300,
    ranking: Annotated[str, typer.Option(help="The ranking tower.")] = "recency",
    zero_shot: Annotated[str, typer.Option(help="The zero-shot tower.")] = "effects",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count how many of the ranking tower's own best 20 items are among the candidates that it is given."""
    dataset = _before_the_split(open_dataset(data, Settings().home / "data"))
    config = TrainingConfig(architecture=Architecture(ranking=ranking, zero_shot=zero_shot), device="cpu")
    errors.print("training")
    instant = int(dataset.interactions["time_ms"].iloc[int(TRAINING_SHARE * len(dataset.interactions))])
    trained = cotrain(dataset, split_by_time(dataset, instant), config, lambda _: None)
    with tempfile.TemporaryDirectory(prefix="foretaste-bench-") as folder:
        towers = LocalTowers.of(export(trained, dataset, {}, Path(folder)))
        shares = {str(stage): _coverage(towers, dataset, config.warm_after, stage, users) for stage in Stage}
    figures = {"data": data, "ranking": ranking, "zero_shot": zero_shot, "items": len(towers.encoding.items), **shares}
    typer.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))


def _before_the_split(dataset: Dataset) -> Dataset:
    before = dataset.interactions["time_ms"] < split_by_time(dataset).instant_ms
    return replace(dataset, interactions=dataset.interactions[before].reset_index(drop=True))


def _coverage(towers: LocalTowers, dataset: Dataset, warm_after: int, stage: Stage, most: int) -> dict[str, float]:
    """The mean share of the tower's best among the candidates of each kind, of all kinds, and of as many popular."""
    every = towers.encoding.items
    nearest, popular, exploratory = CandidateShares().of(K)
    wanted = {
        "candidates": (nearest, popular, exploratory),
        "by_behaviour": (nearest, 0, 0),
        "by_popularity": (0, nearest + popular + exploratory, 0),
    }
    found: dict[str, list[float]] = {name: [] for name in wanted}
    for user in _users(towers, dataset, warm_after, stage, most):
        (scores,) = towers.score([replace(user, items=every)])
        seen = set(user.behaviour.items)
        best = [every[at] for at in np.argsort(-scores, kind="stable") if every[at] not in seen][:BEST]
        asked = CandidateRequest(user.behaviour, user.virtual, 0, 0, 0, seed=0, deny=user.behaviour.items)
        for name, (near, known, drawn) in wanted.items():
            (own,) = towers.candidates([replace(asked, nearest=near, popular=known, exploratory=drawn)])
            found[name].append(len(set(own) & set(best)) / BEST)
    return {name: round(float(np.mean(shares)), 3) for name, shares in found.items()}


def _users(towers: LocalTowers, dataset: Dataset, warm_after: int, stage: Stage, most: int) -> Iterator[RankingInput]:
    """Users with enough behaviour to be tried in every stage, at a random moment of this one."""
    rng = np.random.default_rng(0)
    lowest, highest = {Stage.COLD: (0, 0), Stage.WARMING: (1, warm_after - 1), Stage.WARM: (warm_after, 100)}[stage]
    frame = dataset.interactions[dataset.interactions["label"] == 1]
    acted = [(user, rows) for user, rows in frame.groupby("user_id", observed=True) if len(rows) > warm_after]
    names = list(towers.encoding.attributes)
    attributes = dataset.users.set_index("user_id")[names]
    for place in rng.permutation(len(acted))[:most]:
        user, rows = acted[place]
        count = int(rng.integers(lowest, min(highest, len(rows) - 1) + 1))
        own: dict[str, Any] = attributes.loc[user].to_dict()
        (virtual,) = towers.virtual_behaviour([own])
        yield RankingInput(own, _context(towers, rows.iloc[count]), _behaviour(rows.iloc[:count]), virtual, ())


def _context(towers: LocalTowers, row: "pd.Series[Any]") -> dict[str, Any]:
    return {name: row[name] for name in towers.encoding.context}


def _behaviour(rows: pd.DataFrame) -> Behaviour:
    items, actions = (rows[name].astype(str).tolist() for name in ("item_id", "action"))
    return Behaviour(items, actions, rows["time_ms"].tolist())
