"""How long a study will take: told before it begins, from a few steps of each kind of tower on the same bench."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice

from foretaste.kernel.files import write_file
from models.rivals.methods import Method
from models.rivals.towers import TowerMethod
from models.study.new_items import as_asked
from models.study.scoring import Bench, FitTask, limited_threads, not_kept
from models.training.config import TrainingConfig

STEPS = 6
"""Of the short fit."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a kind of tower takes on a bench, in seconds: before the first step, for a step, and for all questions."""

    before: float
    step: float
    questions: float

    def seconds(self, steps: int) -> float:
        return self.before + self.step * steps + self.questions


@dataclass(frozen=True, slots=True)
class Expected:
    """What is left to do: `fits` that are `kept` need none; `unknown` are methods that nothing is known of."""

    fits: int
    kept: int
    unknown: int
    seconds: float
    """On the wall; without those that are unknown."""

    def __str__(self) -> str:
        text = f"{self.fits} fits, {self.kept} of them kept from before: about {told(self.seconds)}"
        return f"{text}, and what {self.unknown} without steps of training take" if self.unknown else text


def expected(bench: Bench, tasks: Sequence[FitTask], jobs: int) -> Expected:
    """How long the tasks will take in so many processes. One short fit of each kind of tower, whose scores are lost.

    Towers differ in pace by their architecture and the size of a batch alone; a rival that completes a BaseDNN takes
    what that takes at least. The paces are kept beside the scores, so that a study that goes on begins at once.
    """
    missing = [task for task in tasks if not_kept(bench, task)]
    kept = bench.cache / "paces.json"
    paces = {kind: Pace(**pace) for kind, pace in json.loads(kept.read_text("utf-8")).items()} if kept.is_file() else {}
    seconds, unknown = 0.0, 0
    for task in missing:
        config = trained_config(task.method)
        if config is None:
            unknown += 1
            continue
        kind = f"{bench.device} {task.protocols} {config.batch} {replace(config.architecture, dropout=0.0)!r}"
        if kind not in paces:
            with limited_threads(bench.threads):
                paces[kind] = _pace(bench, task, config)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_file(kept, json.dumps({one: asdict(pace) for one, pace in paces.items()}, indent=1))
        seconds += paces[kind].seconds(steps_of(config, _rows(bench, task, config)))
    return Expected(len(tasks), len(tasks) - len(missing), unknown, seconds / max(min(jobs, len(missing)), 1))


def trained_config(method: Method) -> TrainingConfig | None:
    """The training of a tower, or of the one that a rival completes; None: it trains none."""
    found = method.config if isinstance(method, TowerMethod) else getattr(method, "base", None)
    return found if isinstance(found, TrainingConfig) else None


def steps_of(config: TrainingConfig, rows: int) -> int:
    """The steps of a training on so many rows, sampled negatives among them (`models.training.batches.StepPlan`)."""
    drawn = rows if config.rows is None else min(rows, config.rows)
    epoch = max(round(drawn / config.batch), 1)
    return epoch * max(config.epochs, min(-(-config.least_steps // epoch), config.most_epochs))


def told(seconds: float) -> str:
    """A duration as a person says it."""
    minutes = seconds / 60
    if minutes < 1:
        return f"{max(round(seconds), 1)} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"  # noqa: PLR2004  # an hour and a half


def _rows(bench: Bench, task: FitTask, config: TrainingConfig) -> int:
    fold = bench.fold.under(task.protocols[0])
    return len(fold.split.train) * (1 if fold.dataset.has_labels else 1 + config.negatives)


def _pace(bench: Bench, task: FitTask, config: TrainingConfig) -> Pace:
    times = [bench.clock()]
    material = bench.fold.material(task.protocols[0], task.seed, bench.threads, bench.device)
    short = replace(config, rows=STEPS * config.batch).with_epochs(1)
    ranker = TowerMethod(short).fit(replace(material, progress=lambda _done, _total: times.append(bench.clock())))
    step = (times[-1] - times[1]) / max(len(times) - 2, 1)
    questions = 0.0
    for name in task.protocols:
        asked, judged = bench.questions[name], as_asked(ranker, name, material.encoding)
        begun = bench.clock()
        for rows, batch in islice(asked.batches(), 1):
            judged.scores(batch)
            questions += (bench.clock() - begun) * len(asked.owner) / len(rows)
    return Pace(times[1] - times[0] - step, step, questions)
