"""The scores that each generation gives to the candidates of a week."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.refresh.trainings import GenerationKind
from benchmarks.refresh.week_log import Week, first_times
from models.data.dataset import Dataset
from models.data.examples import Examples, batches
from models.log.window import LogWindow
from models.rivals.towers import TowerRanker
from models.runtime.encoding import IndexArray
from models.study.protocols import BATCH_ROWS, NEW, SEEN, STEPS, WARM
from models.training.questions import with_questions
from models.training.trained import Trained

Scores: TypeAlias = npt.NDArray[np.float32]
Flags: TypeAlias = npt.NDArray[np.bool_]
Protocol: TypeAlias = Literal["hidden", "first_steps", "as_served"]
"""New users with their behaviour hidden; their first steps with it; users of earlier weeks with theirs."""
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
ALL = "all"
GROUPS: Mapping[Protocol, Sequence[str]] = {"hidden": (NEW,), "first_steps": (ALL, *SEEN), "as_served": (WARM,)}


@dataclass(frozen=True, eq=False, slots=True)
class ProtocolScores:
    """R rows of one protocol: `persons` (R,) are rows of `Dataset.users`, `scores` (R,) by kind of generation.

    `seen` (R,) counts the behaviours before each.
    """

    persons: IndexArray
    labels: npt.NDArray[np.float32]
    seen: IndexArray
    scores: Mapping[GenerationKind, Scores]

    def group(self, name: str) -> Flags:
        """(R,) flags of the rows that belong to one of `GROUPS`."""
        least, most = SEEN.get(name, (0, np.inf))
        flags: Flags = (least <= self.seen) & (self.seen <= most)
        return flags


WeekScores: TypeAlias = Mapping[Protocol, ProtocolScores]
"""The scores of a week, by protocol."""


def concatenated(weeks: Sequence[ProtocolScores]) -> ProtocolScores:
    """The rows of several weeks together, with the scores of the kinds that scored all of them."""
    kinds = [kind for kind in weeks[0].scores if all(kind in week.scores for week in weeks)]
    return ProtocolScores(
        np.concatenate([week.persons for week in weeks]),
        np.concatenate([week.labels for week in weeks]),
        np.concatenate([week.seen for week in weeks]),
        {kind: np.concatenate([week.scores[kind] for week in weeks]) for kind in kinds},
    )


def score_week(
    dataset: Dataset, week: Week, window: LogWindow, generations: Mapping[GenerationKind, Trained]
) -> WeekScores:
    """Score a week's rankings by all generations: the same candidates, by name, with the behaviour of the moment.

    New users are those whose first event lies in the week. First steps are rankings with at most `STEPS` behaviours
    before them.
    """
    persons = dataset.user_rows([window.names.users[number] for number in window.user_of_row])
    new = first_times(dataset)[persons] >= week.since_ms
    found: dict[Protocol, ProtocolScores] = {}
    scores: dict[Protocol, dict[GenerationKind, Scores]] = {protocol: {} for protocol in PROTOCOLS}
    for kind, trained in generations.items():
        examples = window.examples(trained.encoding)  # the same rows in the same order whatever the encoding
        seen = examples.histories.seen(examples.users.astype(np.int64), examples.times_ms)
        own = new[examples.users]
        moments: dict[Protocol, Flags] = {"hidden": own, "first_steps": own & (seen <= STEPS), "as_served": ~own}
        ranker = TowerRanker(with_questions(trained), torch.device("cpu"), ())
        for protocol, flags in moments.items():
            scores[protocol][kind] = scores_of(ranker, examples, np.flatnonzero(flags), hidden=protocol == "hidden")
            rows, sizes = np.repeat(flags, examples.sizes), examples.sizes[flags]
            users = np.repeat(persons[examples.users[flags]], sizes)
            found[protocol] = ProtocolScores(
                users, examples.labels[rows], np.repeat(seen[flags], sizes), scores[protocol]
            )
    return found


def scores_of(ranker: TowerRanker, examples: Examples, moments: IndexArray, *, hidden: bool) -> Scores:
    """(R,) scores of the rows of these moments, in their order; with `hidden`, the tower sees no behaviour."""
    parts = [np.zeros(0, dtype=np.float32)]
    for some in batches(examples.sizes[moments], BATCH_ROWS):
        batch = examples.batch(moments[some])
        if hidden:
            batch = batch.hidden(np.ones(len(batch.users), dtype=np.bool_))
        parts.append(ranker.scores(batch).astype(np.float32))
    return np.concatenate(parts)
