"""A training run from its first step to its last, or from the step after a checkpoint on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from foretaste.kernel.errors import ForetasteError, InvalidInput
from models.data.sampling import NegativeSampler
from models.effects.counts import TableSizes
from models.effects.fit import Effects, HeldOutCodes, Negatives, fit_effects
from models.effects.fits import Descent
from models.towers.architecture import Architecture, TowerPair, build_towers
from models.towers.embeddings import Sizes
from models.towers.ranking.experts import Experts
from models.towers.zero_shot.base import WithZeroShotLosses
from models.towers.zero_shot.effects import TrainedEffects
from models.training.batches import StepPlan, rows_of, with_new_users
from models.training.checkpoint import Checkpoint, RunCheckpoints, fingerprint
from models.training.config import TrainingConfig, device_of
from models.training.data import TrainingData
from models.training.processes import Execution, ProcessGroup
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


@dataclass(eq=False, slots=True)
class TrainingRun:
    """The state of a run between its steps; `begin` makes one. Torch's own generator is the caller's to seed."""

    data: TrainingData
    config: TrainingConfig
    model: TowerPair
    effects: Effects | None
    """What was fitted before the first step, for towers that read it."""
    trainer: CoTrainer
    plan: StepPlan
    planned: Mapping[str, object]
    """The state of `rng` as the steps were planned: a resumed run plans them again."""
    rng: np.random.Generator
    sampler: NegativeSampler | None
    processes: ProcessGroup
    checkpoints: RunCheckpoints | None
    """None: none are written, or another process writes them."""
    losses: list[Mapping[str, float]] = field(default_factory=list)
    """Of each step so far."""

    def steps(self) -> Iterator[Step]:
        """Take the steps that are left; with several processes, together. Raises `NonFiniteLoss`."""
        examples, config, total = self.data.examples, self.config, len(self.plan)
        for number, epoch, batch in self.plan.after(len(self.losses), examples, self.sampler, config):
            self.processes.reseed(config.seed, number)
            batch_with_new = with_new_users(batch, len(examples.attributes), config, self.rng)
            losses = self.trainer.step(batch_with_new, self.rng)
            if not finite(losses):
                raise NonFiniteLoss(f"training diverged in epoch {epoch}, batch {number} of {total}: {losses}")
            self.losses.append(losses)
            if self.checkpoints is not None and (number == total or self.checkpoints.due()):
                self.save()
            yield Step(number, total, len(batch.candidates), losses)
        self.processes.settle(self.model)

    def save(self) -> None:
        """Write a checkpoint of the run as it is now, where checkpoints are written."""
        if self.checkpoints is not None:
            self.checkpoints.save(
                Checkpoint(
                    step=len(self.losses),
                    batch=self.config.batch,
                    planned=self.planned,
                    drawn=self.rng.bit_generator.state,
                    losses=self.losses,
                    tensors=self.trainer.state(),
                ),
                self.effects,
            )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of this run."""
        self.losses.extend(checkpoint.losses)
        self.trainer.load(checkpoint.tensors)
        self.rng.bit_generator.state = checkpoint.drawn


def begin(
    data: TrainingData, config: TrainingConfig, device: torch.device, start: "WarmStart | None", execution: Execution
) -> TrainingRun:
    """Make a run ready for its first step, or for the one after its last checkpoint. Fitting effects takes minutes.

    1. The towers are built, and filled by `start`; 2. effects are fitted, for towers that read them; 3. the steps are
    planned. Where a checkpoint is found, 2 and the state of everything come from it, and 3 is drawn again as it was.
    Raises `InvalidInput` for a zero-shot tower of one's own that nothing would train.
    """
    processes, rng = execution.processes, np.random.default_rng(config.seed)
    sampler = data.sampler(rng) if data.sampler else None
    model = build_towers(Sizes.of(data.encoding), torch.from_numpy(data.encoding.item_features), config.architecture)
    if start is not None:
        start.into(model)
    _check_trained(model, config.architecture)
    if sampler is not None and not sampler.by_moment and isinstance(model.ranking, Experts):
        model.ranking.repeats.requires_grad_(False)  # no negative was met before: whatever was would be right
    checkpoints = _checkpoints(data, config, model, execution)
    found = processes.from_first(lambda: checkpoints.latest(config.batch) if checkpoints else None)
    if found is None:
        effects = _fitted_by_first(processes, model, data, sampler, config, rng, start)
    else:
        config, effects = replace(config, batch=found.checkpoint.batch), found.effects
    codes = adopted(model, effects)
    trainer = CoTrainer(model.to(device), config, device, codes, execution)
    planned = rng.bit_generator.state if found is None else found.checkpoint.planned
    rng.bit_generator.state = planned
    plan = StepPlan.of(rows_of(data.examples, config, sampled=sampler is not None), config, rng)
    run = TrainingRun(data, config, model, effects, trainer, plan, planned, rng, sampler, processes, checkpoints)
    if found is None:
        run.save()
    else:
        run.resume(found.checkpoint)
    return run


def _check_trained(model: TowerPair, architecture: Architecture) -> None:
    own = any(parameter.requires_grad for parameter in model.of_zero_shot_optimiser())
    if own and not isinstance(model.zero_shot, WithZeroShotLosses):
        problem = "has parameters that nothing trains: give it `losses`, or set `learns_by_ranking`"
        raise InvalidInput("zero_shot", architecture.zero_shot, problem)


def _fitted_by_first(
    processes: ProcessGroup,
    model: TowerPair,
    data: TrainingData,
    sampler: NegativeSampler | None,
    config: TrainingConfig,
    rng: np.random.Generator,
    start: "WarmStart | None",
) -> Effects | None:
    """Fitted in one process for all: the others draw on from where its generator is afterwards."""

    def fit() -> tuple[Effects | None, Mapping[str, object]]:
        effects = fitted(model, data, sampler, config, rng, start)
        return effects, rng.bit_generator.state

    effects, rng.bit_generator.state = processes.from_first(fit)
    return effects


def fitted(
    model: TowerPair,
    data: TrainingData,
    sampler: NegativeSampler | None,
    config: TrainingConfig,
    rng: np.random.Generator,
    start: "WarmStart | None" = None,
) -> Effects | None:
    """The effects that towers of this kind read, on top of the counts of `start`; None for towers that read none."""
    if not model.reads_effects:
        return None
    negatives = Negatives(sampler, config.negatives) if sampler is not None else None
    width = config.architecture.virtual_vectors * config.architecture.dimension
    earlier = start.counts if start is not None else None
    tables = _tables(model)._replace(item_features=data.encoding.item_features)
    combined = isinstance(model.zero_shot, TrainedEffects)
    if combined and config.effects.solver == "counts":
        raise InvalidInput("effects.solver", "counts", f"{config.architecture.zero_shot} is fitted by gradient")
    effects = replace(config.effects, solver="gradient") if combined else config.effects
    descent = Descent.of(effects.descent, device_of(config.device), combined=combined)
    return fit_effects(data.examples, tables, width, negatives, effects, rng, earlier, descent)


def adopted(model: TowerPair, effects: Effects | None) -> HeldOutCodes | None:
    """What a training user may see of the effects, which the towers take."""
    if effects is None or not model.reads_effects:
        return None
    model.adopt(effects)
    return HeldOutCodes(effects, _tables(model))


def _tables(model: TowerPair) -> TableSizes:
    sizes = model.embeddings.sizes
    return TableSizes(sizes.attributes, sizes.items, sizes.ages)


def _checkpoints(
    data: TrainingData, config: TrainingConfig, model: TowerPair, execution: Execution
) -> RunCheckpoints | None:
    """The first process's checkpoints of this run: of these data, settings, and towers as they begin.

    The size of a batch is not what tells a run: it may be halved.
    """
    if execution.checkpoints is None or execution.processes.rank != 0:
        return None
    known = fingerprint(
        repr(replace(config, batch=LEAST_ROWS)),
        execution.processes.count,
        str(execution.compile),
        data.encoding.to_json(),
        data.examples,
        data.counts,
        model.state_dict(),
    )
    return execution.checkpoints.of(known, execution.notice)
