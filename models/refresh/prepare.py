"""Learning from a window of the training log: what a refresh trains on, from which towers on, and how."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.running.registered_items import RegisteredItem
from models.data.dataset import Dataset
from models.data.description_file import read_description
from models.data.vocabulary import fit_encoding, grown
from models.log.schema import LOG, LogSchema, read_catalogue, with_registered
from models.log.window import LogWindow
from models.runtime.encoding import Encoding
from models.training.config import Device, TrainingConfig
from models.training.cotrain import learn
from models.training.data import TrainingData
from models.training.loop import Step
from models.training.processes import Execution
from models.training.questions import asked_items
from models.training.trained import Trained
from models.training.warm_start import WarmStart

WARM_STEPS, MOST_PASSES = 100, 4
"""A warm start passes over a small window more than once: until it has taken so many steps, but not more often. Both
were chosen by replaying the weeks before MovieLens 1M's split (`python -m benchmarks refresh --until`)."""


@dataclass(frozen=True, slots=True)
class RefreshPlan:
    """How the towers of a refresh are trained."""

    cold: bool = False
    """Learn all anew from the log, instead of going on from the active generation."""
    catalogue: Path | None = None
    """A dataset folder whose items table tells the attributes of items that the active generation does not know."""
    device: Device = "auto"
    epochs: int | None = None
    """Passes over the window; None: of a warm start as `WARM_STEPS` says, of a cold one as its configuration does."""
    seed: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Prepared:
    """All that training depends on, the same in every process that trains together."""

    data: TrainingData
    config: TrainingConfig
    base: Trained | None
    """Whose vocabularies and weights training goes on from; None: all is learned anew."""
    dataset: Dataset
    """The window as a dataset."""
    notices: Sequence[str]
    """What a person should know of the window."""
    users: Sequence[str]
    """Who is in the window."""


def prepare(
    window: LogWindow, base: Trained | None, plan: RefreshPlan, registered: Sequence[RegisteredItem] = ()
) -> Prepared:
    """The window as training data, encoded by the base's vocabularies with what is new; by new ones if `cold`.

    Items have the attributes that they were `registered` with, else those of the plan's catalogue. Raises
    `InvalidInput` for a window from which nothing can be learned, and where nothing names the attributes.
    """
    known = None if plan.catalogue is None else read_catalogue(plan.catalogue)
    if base is not None and not plan.cold:
        schema = LogSchema.of(base.encoding)
        dataset = window.dataset(schema, with_registered(known, registered, schema.item_attributes))
        encoding, config = grown(base.encoding, dataset), _warm(base.config, len(window.labels))
    else:
        schema, base = _cold_schema(base, plan), None
        dataset = window.dataset(schema, with_registered(known, registered, schema.item_attributes))
        encoding, config = fit_encoding(dataset, window.until_ms), TrainingConfig()
    config = replace(config, seed=plan.seed, device=plan.device)
    return Prepared(
        data=TrainingData.of_examples(window.examples(encoding), encoding, window.until_ms),
        config=config if plan.epochs is None else config.with_epochs(plan.epochs),
        base=base,
        dataset=dataset,
        notices=[*window.notices(schema), *_without_age(encoding)],
        users=window.names.users,
    )


def _without_age(encoding: Encoding) -> list[str]:
    if encoding.age_bounds:
        return []
    return ["the active generation reads no account's age: it is not read before a cold start"]


def refreshed(
    prepared: Prepared, progress: Callable[[Step], None] = lambda _: None, execution: Execution | None = None
) -> Trained:
    """The towers after the window; in the first process, with what to ask new users. Raises what `learn` raises."""
    base = prepared.base
    start = None if base is None else WarmStart.of(base, prepared.data.encoding)
    execution = execution or Execution()
    trained = learn(prepared.data, prepared.config, progress, start, execution)
    if base is not None and base.popularity.any():
        # of what the window does not show, the base knows how popular it was
        earlier = np.zeros(len(trained.popularity))
        earlier[: len(base.popularity)] = base.popularity
        trained = replace(trained, popularity=(earlier + trained.popularity) / 2)
    if execution.processes.rank > 0:
        return trained
    return replace(trained, asked=asked_items(trained, prepared.dataset, None if base is None else base.asked))


def _warm(config: TrainingConfig, rows: int) -> TrainingConfig:
    """For a window of so many rows."""
    passes = math.ceil(WARM_STEPS * config.batch / max(rows, 1))
    return config.with_epochs(min(passes, MOST_PASSES))


def held_out(window: LogWindow, share: float, learned_ms: int = 0) -> tuple[LogWindow, LogWindow]:
    """What is learned from, and the newest `share` of the rankings, which judge.

    Fewer judge where the active generation has learned from some of those: what lies before `learned_ms`.
    """
    if not len(window):
        return window, window
    cut = int(window.times_ms[min(int((1 - share) * len(window)), len(window) - 1)])
    cut = max(cut, learned_ms)
    return window.before(cut), window.since(cut)


def nothing_to_learn(window: LogWindow) -> str | None:
    """Why nothing can be learned from it, None where something can."""
    if not len(window):
        return f"no ranking before {window.until_ms} ms has a known outcome; {window.open_rankings} are still open"
    if len(np.unique(window.labels)) < 2:  # noqa: PLR2004  # two classes
        return f"all {len(window.labels)} impressions of {len(window)} rankings have one outcome"
    return None


def _cold_schema(base: Trained | None, plan: RefreshPlan) -> LogSchema:
    """What a cold start reads: what the catalogue's `dataset.yaml` says, else what the base reads."""
    if plan.catalogue is not None:
        return LogSchema.of_description(read_description(plan.catalogue))
    if base is None:
        raise InvalidInput(LOG, None, "a first generation needs a catalogue, whose dataset.yaml names the attributes")
    return LogSchema.of(base.encoding)
