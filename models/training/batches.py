"""The steps of a run, and whose behaviour is hidden in each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.data.examples import Batch, Examples, batches
from models.data.sampling import NegativeSampler
from models.runtime.encoding import IndexArray
from models.training.config import TrainingConfig


@dataclass(frozen=True, eq=False, slots=True)
class StepPlan:
    """The moments of every step, drawn once: of each step its epoch, from 1, and rows of the examples."""

    steps: list[tuple[int, npt.NDArray[np.intp]]]

    @classmethod
    def of(cls, sizes: IndexArray, config: TrainingConfig, rng: np.random.Generator) -> "StepPlan":
        """Draw the steps; `sizes` (G,) are the rows of each moment, sampled negatives among them."""
        share = 1.0 if config.rows is None else min(config.rows / sizes.sum(), 1.0)
        moments = max(round(share * len(sizes)), 1)
        steps: list[tuple[int, npt.NDArray[np.intp]]] = []
        epoch = 0
        while len(sizes) and (
            epoch < config.epochs or (epoch < config.most_epochs and len(steps) < config.least_steps)
        ):
            epoch += 1
            drawn = rng.choice(len(sizes), moments, replace=False) if moments < len(sizes) else np.arange(len(sizes))
            steps += [(epoch, drawn[part]) for part in batches(sizes[drawn], config.batch, rng)]
        return cls(steps)

    def __len__(self) -> int:
        return len(self.steps)

    def after(
        self, done: int, examples: Examples, sampler: NegativeSampler | None, config: TrainingConfig
    ) -> Iterator[tuple[int, int, Batch]]:
        """(number, epoch, batch) of every step after `done` of them, counted from 1."""
        for number, (epoch, part) in enumerate(self.steps[done:], start=done + 1):
            yield number, epoch, examples.batch(part, sampler, config.negatives)


def rows_of(examples: Examples, config: TrainingConfig, *, sampled: bool) -> IndexArray:
    """(G,): the rows that each moment has in a step."""
    sizes: IndexArray = examples.sizes * (1 + config.negatives if sampled else 1)
    return sizes


def with_new_users(batch: Batch, users: int, config: TrainingConfig, rng: np.random.Generator) -> Batch:
    """Some behaviour hidden, so that the ranking tower learns to read v̂, and some values made unknown.

    `users` is how many there are in all: who is hidden throughout is drawn among them.
    """
    if config.hides == "nobody":
        hidden = np.zeros(len(batch.users), dtype=np.bool_)
    elif config.hides == "rows":
        hidden = rng.random(len(batch.users)) < config.masked_share
    else:
        made_new = np.random.default_rng(config.seed).random(users) < config.masked_share
        hidden = made_new[batch.users]
    return batch.hidden(hidden).with_unknowns(config.unknown_share, rng)


def part_of(batch: Batch, begin: int, end: int) -> Batch:
    """The moments from `begin` to `end` with all of their candidates."""
    if (begin, end) == (0, len(batch.users)):
        return batch
    own = (batch.owner >= begin) & (batch.owner < end)
    return replace(
        batch,
        users=batch.users[begin:end],
        attributes=batch.attributes[begin:end],
        context=batch.context[begin:end],
        items=batch.items[begin:end],
        actions=batch.actions[begin:end],
        candidates=batch.candidates[own],
        labels=batch.labels[own],
        owner=batch.owner[own] - begin,
        times_ms=batch.times_ms[begin:end],
        seen=batch.seen[begin:end],
        ages=batch.ages[begin:end],
    )
