"""One method, trained once with one seed, on the questions of its protocols; its scores are kept, so that a study which
was interrupted, or has a tower more, trains only what it must."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from foretaste.kernel.errors import InvalidInput
from models.evaluation.bootstrap import Estimate, Resamples
from models.evaluation.scores import Metric, measure
from models.rivals.methods import Method, Ranker
from models.rivals.towers import TowerRanker
from models.runtime.encoding import Encoding
from models.study.fold import BY_STEPS, MAKES_NEW, NEW_ITEMS, SEED, Fold, ProtocolName
from models.study.new_items import UNKNOWN_ROW, UnknownItems, as_asked
from models.study.probes import probes
from models.study.protocols import NEGATIVES, STEPS, Questions, questions
from models.study.vectors import Vectors, vectors

VERSION = 9
"""Of the scores in the cache: to be raised when the code of a method or of a protocol changes what they are."""
DRAWS_SEED = 7
ALL = "all"
"""The group of all first steps together, which tuning reads."""
OWN = ""
"""The variant of a tower as it is; the others are its probes."""

Device: TypeAlias = Literal["cpu", "cuda", "auto"]
Scores: TypeAlias = npt.NDArray[np.float32]
Key: TypeAlias = tuple[ProtocolName, str, str, Metric]
"""Protocol, variant, group, metric."""


@dataclass(frozen=True, eq=False)
class FitTask:
    """One fit: `method` under the name `tower`, with `seed`, judged under `protocols`, which share their material."""

    tower: str
    method: Method
    seed: int
    protocols: tuple[ProtocolName, ...]

    @property
    def folder(self) -> str:
        """Names the settings, not the tower: another name for the same settings finds the same scores."""
        settings = f"{type(self.method).__module__} {self.method!r}"
        return f"{hashlib.sha256(settings.encode()).hexdigest()[:20]}-{self.seed}"


@dataclass(frozen=True, eq=False)
class FitOutcome:
    """What a task gave. `seconds` is the time that the fit took, when it was made."""

    tower: str
    seed: int
    estimates: Mapping[Key, Estimate]
    seconds: float


@dataclass(frozen=True, eq=False)
class Bench:
    """What the fits of one fold share: the questions, the draws of users, and the cache."""

    fold: Fold
    questions: Mapping[ProtocolName, Questions]
    draws: Mapping[tuple[ProtocolName, str], Resamples]
    cache: Path
    threads: int = 1
    device: Device = "cpu"
    clock: Callable[[], float] = time.perf_counter

    @classmethod
    def of(
        cls, fold: Fold, protocols: Sequence[ProtocolName], home: Path, *, resamples: int, device: Device = "cpu"
    ) -> "Bench":
        """`home` is the folder under which scores are kept. Raises `InvalidInput` for data of one class."""
        _check_classes(fold)
        asked = questions(fold, protocols)
        return cls(
            fold,
            asked,
            {key: draw for one in asked.values() for key, draw in _draws(one, resamples).items()},
            home / "study" / _digest(fold),
            device=device,
        )


def judge(bench: Bench, task: FitTask, progress: Callable[[int, int], None] = lambda _done, _total: None) -> FitOutcome:
    """The figures of a task, from the cache where its scores are there already.

    `progress` gets the steps of the fit done and in all, of a method that tells them.
    """
    folder = bench.cache / task.folder
    missing = not_kept(bench, task)
    if missing:
        _fit_and_keep(bench, task, missing, progress)
    estimates: dict[Key, Estimate] = {}
    seconds = 0.0
    for name in task.protocols:
        with np.load(folder / f"{name}.npz") as kept:
            seconds = float(kept["seconds"])
            scores = {key.removeprefix("scores"): kept[key] for key in kept.files if key.startswith("scores")}
        for variant, found in scores.items():
            estimates |= _estimates(bench, name, variant.strip(), found)
    return FitOutcome(task.tower, task.seed, estimates, seconds)


def not_kept(bench: Bench, task: FitTask) -> list[ProtocolName]:
    """The protocols of a task whose scores are not in the cache."""
    return [name for name in task.protocols if not (bench.cache / task.folder / f"{name}.npz").is_file()]


def forget(bench: Bench, tasks: Sequence[FitTask]) -> None:
    """Takes the scores of tasks out of the cache."""
    for task in tasks:
        for name in task.protocols:
            (bench.cache / task.folder / f"{name}.npz").unlink(missing_ok=True)


def kept_vectors(bench: Bench, task: FitTask) -> Vectors | None:
    """What the figures draw of a judged task; None for a method without towers."""
    path = bench.cache / task.folder / "vectors.npz"
    return Vectors.read(path) if path.is_file() else None


def _fit_and_keep(
    bench: Bench, task: FitTask, protocols: Sequence[ProtocolName], progress: Callable[[int, int], None]
) -> None:
    folder = bench.cache / task.folder
    folder.mkdir(parents=True, exist_ok=True)
    with limited_threads(bench.threads):
        started = bench.clock()
        material = bench.fold.material(protocols[0], task.seed, bench.threads, bench.device)
        ranker = task.method.fit(replace(material, progress=progress))
        seconds = bench.clock() - started
        if isinstance(ranker, TowerRanker) and protocols[0] not in {*MAKES_NEW, NEW_ITEMS}:
            _keep(folder / "vectors.npz", vectors(ranker, bench.fold, material).arrays())
        for name in protocols:
            found = _variants(ranker, name, bench.questions[name], material.encoding)
            _keep(folder / f"{name}.npz", {"seconds": np.array(seconds), **found})


def _variants(ranker: Ranker, protocol: ProtocolName, questions: Questions, encoding: Encoding) -> dict[str, Scores]:
    """The tower's own scores and, of hidden behaviour and of new items, those of its probes."""
    found = {f"scores {OWN}": questions.scores(as_asked(ranker, protocol, encoding))}
    if protocol == NEW_ITEMS:
        found[f"scores {UNKNOWN_ROW}"] = questions.scores(UnknownItems(ranker, encoding.first_kind))
    if protocol == "hidden" and isinstance(ranker, TowerRanker):
        found |= {f"scores {name}": questions.scores(probe) for name, probe in probes(ranker, questions).items()}
    return found


def _keep(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Whole or not at all: renamed into place."""
    part = path.with_name(f".{path.stem}-{os.getpid()}.npz")
    np.savez_compressed(part, **arrays)  # type: ignore[arg-type]  # its stub takes the names for its own options
    part.replace(path)


def _estimates(bench: Bench, protocol: ProtocolName, variant: str, scores: Scores) -> dict[Key, Estimate]:
    questions = bench.questions[protocol]
    users = questions.user_of_row
    found: dict[Key, Estimate] = {}
    for group, rows in _groups(questions).items():
        draw = bench.draws[protocol, group]
        measured = measure(users[rows], questions.labels[rows], scores[rows], draw, questions.repeat[rows])
        found |= {(protocol, variant, group, metric): estimate for metric, estimate in measured.items()}
    return found


def _groups(questions: Questions) -> dict[str, npt.NDArray[np.intp]]:
    """The rows of each group, and of the first steps together."""
    rows = {name: np.flatnonzero(questions.group == place) for place, name in enumerate(questions.groups)}
    return rows | ({ALL: np.arange(len(questions.group))} if questions.protocol in BY_STEPS else {})


def _draws(questions: Questions, resamples: int) -> dict[tuple[ProtocolName, str], Resamples]:
    """New and warm users are drawn apart; the groups of the first steps are of the same users and share their draws."""
    users = questions.user_of_row
    if questions.protocol in BY_STEPS:
        shared = Resamples.drawn(users, resamples, DRAWS_SEED)
        return {(questions.protocol, group): shared for group in _groups(questions)}
    return {
        (questions.protocol, group): Resamples.drawn(users[rows], resamples, DRAWS_SEED)
        for group, rows in _groups(questions).items()
    }


def _digest(fold: Fold) -> str:
    """Whatever decides what is asked."""
    rows = len(fold.dataset.interactions)  # of one data set, those whom a fold around this one made new are missing
    parts = (VERSION, SEED, NEGATIVES, STEPS, fold.dataset.fingerprint, fold.split.instant_ms, fold.depth, rows)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def _check_classes(fold: Fold) -> None:
    column = fold.dataset.description.interactions.label
    if column is not None:
        for side, frame in (("before", fold.split.train), ("after", fold.split.test)):
            if frame["label"].nunique() < 2:  # noqa: PLR2004  # two classes
                problem = f"needs labels of both kinds {side} the split"
                raise InvalidInput(f"interactions, column {column!r}", int(frame["label"].iloc[0]), problem)
    elif len(fold.encoding.items) < 2:  # noqa: PLR2004  # one to meet, one not to
        raise InvalidInput("interactions", list(fold.encoding.items), "need two items at least before the split")


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Torch and the libraries under numpy with so many threads; as before on leaving."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
