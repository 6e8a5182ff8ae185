"""A run from its first step to its last, or from the one after a checkpoint: what it is made of, and its steps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from foretaste.kernel.errors import ForetasteError
from models.data.sampling import NegativeSampler
from models.effects.counts import TableSizes
from models.effects.fit import Effects, HeldOutCodes, Negatives, fit_effects
from models.runtime.encoding import Encoding
from models.towers.architecture import TowerPair, build_towers
from models.towers.embeddings import Sizes
from models.towers.ranking.experts import AttributeEffects, Experts
from models.training.batches import StepPlan, rows_of, with_new_users
from models.training.checkpoint import Checkpoint, RunCheckpoints, fingerprint
from models.training.config import TrainingConfig
from models.training.data import TrainingData
from models.training.processes import Execution
from models.training.step import LEAST_ROWS, CoTrainer, finite

if TYPE_CHECKING:
    from models.training.warm_start import WarmStart


class NonFiniteLoss(ForetasteError):
    """Training diverged; the message names the epoch and the batch."""


@dataclass(frozen=True, slots=True)
class Step:
    """Step `number` (from 1) of `total`, its rows, and its losses: `ranking`, and of warm users those of eq. 7."""

    number: int
    total: int
    rows: int
    losses: Mapping[str, float]


class TrainingRun:
    """The state of a run between its steps. It draws from torch's own generator, which the caller has seeded."""

    def __init__(
        self,
        lessons: TrainingData,
        config: TrainingConfig,
        device: torch.device,
        start: "WarmStart | None",
        execution: Execution,
    ) -> None:
        """1. the towers are built, and filled by `start`; 2. effects are fitted; 3. the steps are planned.

        Where a checkpoint is found, 2 and the state of everything come from it, and 3 is drawn again as it was.
        """
        self._lessons = lessons
        self._peers = execution.peers
        self._rng = rng = np.random.default_rng(config.seed)
        self._sampler = lessons.sampler(rng) if lessons.sampler else None
        self.model = _built(lessons.encoding, config, start)
        self._kept = _kept(lessons, config, self.model, execution)
        found = self._peers.from_first(lambda: self._kept.latest(config.batch) if self._kept else None)
        self.config = config = config if found is None else replace(config, batch=found.checkpoint.batch)
        self.effects = self._fit(start) if found is None else found.effects
        codes = adopted(self.model, self.effects)
        self._trainer = CoTrainer(self.model.to(device), config, device, codes, execution)
        self._planned = rng.bit_generator.state if found is None else found.checkpoint.planned
        rng.bit_generator.state = self._planned
        self._plan = StepPlan.of(rows_of(lessons.examples, config, sampled=self._sampler is not None), config, rng)
        self.losses: list[Mapping[str, float]] = []
        if found is None:
            self._keep()
        else:
            self._resume(found.checkpoint)

    def steps(self) -> Iterator[Step]:
        """Take those that are left; with several processes, together. Raises `NonFiniteLoss`."""
        examples, config, total = self._lessons.examples, self.config, len(self._plan)
        for number, epoch, batch in self._plan.after(len(self.losses), examples, self._sampler, config):
            self._peers.reseed(config.seed, number)
            batch_with_new = with_new_users(batch, len(examples.attributes), config, self._rng)
            losses = self._trainer.step(batch_with_new, self._rng)
            if not finite(losses):
                raise NonFiniteLoss(f"training diverged in epoch {epoch}, batch {number} of {total}: {losses}")
            self.losses.append(losses)
            if self._kept is not None and (number == total or self._kept.due()):
                self._keep()
            yield Step(number, total, len(batch.candidates), losses)
        self._peers.settle(self.model)

    def _fit(self, start: "WarmStart | None") -> Effects | None:
        """In one process for all: the others draw on from where its generator is afterwards."""

        def fit() -> tuple[Effects | None, Mapping[str, object]]:
            effects = fitted(self.model, self._lessons, self._sampler, self.config, self._rng, start)
            return effects, self._rng.bit_generator.state

        effects, self._rng.bit_generator.state = self._peers.from_first(fit)
        return effects

    def _keep(self) -> None:
        if self._kept is not None:
            self._kept.save(
                Checkpoint(
                    step=len(self.losses),
                    batch=self.config.batch,
                    planned=self._planned,
                    drawn=self._rng.bit_generator.state,
                    losses=self.losses,
                    tensors=self._trainer.state(),
                ),
                self.effects,
            )

    def _resume(self, checkpoint: Checkpoint) -> None:
        self.losses.extend(checkpoint.losses)
        self._trainer.load(checkpoint.tensors)
        self._rng.bit_generator.state = checkpoint.drawn


def fitted(
    model: TowerPair,
    lessons: TrainingData,
    sampler: NegativeSampler | None,
    config: TrainingConfig,
    rng: np.random.Generator,
    start: "WarmStart | None" = None,
) -> Effects | None:
    """The codes of a zero-shot tower that has them, on top of the counts of `start`; None for another tower."""
    if not _has_codes(model):
        return None
    negatives = Negatives(sampler, config.negatives) if sampler is not None else None
    width = config.architecture.virtual_vectors * config.architecture.dimension
    earlier = start.counts if start is not None else None
    return fit_effects(lessons.examples, _tables(model), width, negatives, config.effects, rng, earlier)


def adopted(model: TowerPair, effects: Effects | None) -> HeldOutCodes | None:
    """What a training user may see of the effects, which the towers take."""
    if effects is None or not isinstance(model.zero_shot, AttributeEffects) or not isinstance(model.ranking, Experts):
        return None
    model.zero_shot.adopt(effects)
    model.ranking.adopt(effects)
    return HeldOutCodes(effects, _tables(model))


def _has_codes(model: TowerPair) -> bool:
    return isinstance(model.zero_shot, AttributeEffects) and isinstance(model.ranking, Experts)


def _tables(model: TowerPair) -> TableSizes:
    return TableSizes(model.embeddings.sizes.attributes, model.embeddings.sizes.items)


def _built(encoding: Encoding, config: TrainingConfig, start: "WarmStart | None") -> TowerPair:
    model = build_towers(sizes_of(encoding), torch.from_numpy(encoding.item_features), config.architecture)
    if start is not None:
        start.into(model)
    return model


def _kept(
    lessons: TrainingData, config: TrainingConfig, model: TowerPair, execution: Execution
) -> RunCheckpoints | None:
    """The first process's checkpoints of this run: of these lessons, settings, and towers as they begin.

    The size of a batch is not what tells a run: it may be halved.
    """
    if execution.checkpoints is None or execution.peers.rank != 0:
        return None
    known = fingerprint(
        repr(replace(config, batch=LEAST_ROWS)),
        execution.peers.count,
        str(execution.compile),
        lessons.encoding.to_json(),
        lessons.examples,
        lessons.counts,
        model.state_dict(),
    )
    return execution.checkpoints.of(known, execution.notice)


def sizes_of(encoding: Encoding) -> Sizes:
    """Rows of the tables that hold what is encoded."""
    return Sizes(
        attributes=tuple(one.size for one in encoding.attributes.values()),
        context=tuple(one.size for one in encoding.context.values()),
        items=encoding.item_count,
        actions=encoding.action_count,
        item_attributes=tuple(one.size for one in encoding.item_attributes.values()),
    )
