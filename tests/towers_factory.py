"""Small towers, trained on the synthetic data within seconds; each made once a test run."""

import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.values import FloatArray
from models.data.dataset import Dataset, read_dataset
from models.data.split import TimeSplit, split_by_time
from models.generations.export import export
from models.generations.parity import attribute_tensor, probes, ranking_tensors
from models.towers.architecture import Architecture, TowerPair, build_towers
from models.towers.embeddings import Sizes
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.trained import Trained
from tests.data_factory import write_dataset

SMALL = Architecture(dimension=8, virtual_vectors=3, attention=8, encoder=(32, 16, 16), hidden=(32, 16), dropout=0.1)
"""The default towers."""
TINY = replace(SMALL, ranking="dnn", zero_shot="mail")
"""The paper's."""
SIZES = Sizes(attributes=(5, 4, 3), context=(3,), items=30, actions=4, item_attributes=(6,))
METRICS = {"cold.virtual.auc": 0.75, "warm.real.auc": float("nan")}


def config(**changes: Any) -> TrainingConfig:
    """The paper's towers, a short run, one thread: a busy machine slows several threads of tiny work down."""
    base = TrainingConfig(
        architecture=TINY,
        warm_after=1,
        batch=256,
        epochs=2,
        least_steps=1,
        ranking_rate=0.005,
        zero_shot_rate=0.005,
        device="cpu",
        threads=1,
    )
    return replace(base, **changes)


def tiny_mail(seed: int = 0, **changes: Any) -> TowerPair:
    """Untrained towers in eval mode; `changes` are fields of the architecture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = torch.randint(0, 6, (SIZES.items, 1))
        return build_towers(SIZES, features, replace(TINY, **changes)).eval()


def folder() -> Path:
    """Of this process; it lives as long."""
    return Path(_kept().name)


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="towers-")


@contextmanager
def made_once(name: str) -> Iterator[Path]:
    """Where `name` lies; who finds nothing there makes it, and the other processes of the test run wait for that."""
    path = Path(os.environ.get(SHARED, folder())) / name
    with FileLock(f"{path}.lock"):
        yield path


MADE_AT = 1.8e9
"""When the artifacts were made, as they say (seconds since the epoch)."""
SHARED = "TESTS_SHARED_FOLDER"
"""The variable that names a folder which all processes of a test run have in common."""


@cache
def dataset(*, labels: bool = False) -> tuple[Dataset, TimeSplit]:
    data = read_dataset(write_dataset(folder() / f"data-{labels}", labels=labels))
    return data, split_by_time(data)


@cache
def trained(seed: int = 0, warm_after: int = 4) -> Trained:
    """The default towers."""
    with made_once(f"trained-{seed}-{warm_after}") as path:
        if not path.exists():
            data, split = dataset()
            made = cotrain(data, split, config(architecture=SMALL, seed=seed, warm_after=warm_after))
            path.write_bytes(pickle.dumps(made))
        found: Trained = pickle.loads(path.read_bytes())  # noqa: S301  # written above
    return found


@cache
def artifacts() -> tuple[Path, Path]:
    """Generations 1 and 2, of `trained(0)` and `trained(1)`."""
    with made_once("generations") as shared:
        if not shared.exists():
            data, _ = dataset()
            for seed in (0, 1):
                export(trained(seed), data, METRICS, shared.with_suffix(".part"), clock=lambda: MADE_AT)
            shared.with_suffix(".part").rename(shared)
        own = folder() / "own" / "generations"
        shutil.copytree(shared, own)
    return own / "1", own / "2"


def requests(count: int = 20, seed: int = 3) -> list[RankingInput]:
    return probes(trained(), count, np.random.default_rng(seed))


def expected_virtual(towers: Trained, wanted: list[RankingInput]) -> FloatArray:
    """(B, M, D) by the towers as trained."""
    with torch.inference_mode():
        virtual: FloatArray = towers.zero_shot(attribute_tensor(towers.encoding, wanted)).numpy()
    return virtual


def expected_scores(towers: Trained, wanted: list[RankingInput]) -> list[FloatArray]:
    """(K,) of each request by the towers as trained."""
    with torch.inference_mode():
        scores: FloatArray = towers.ranking(**ranking_tensors(towers.encoding, wanted)).numpy()
    return np.split(scores, np.cumsum([len(request.items) for request in wanted])[:-1])
