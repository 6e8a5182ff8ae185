"""Co-training of both towers: the paper's Algorithm 1."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from foretaste.contracts import FloatArray
from foretaste.errors import ForetasteError, InvalidInput
from models.counting import Tables
from models.dataset import Dataset
from models.effects import HeldOutCodes, Negatives, fit_effects
from models.encoding import PADDING, Encoding
from models.examples import Batch, Examples, batches, encode_users
from models.fitting import fit_encoding, item_counts
from models.histories import Histories
from models.losses import ranking_loss, zero_shot_loss
from models.sampling import NegativeSampler
from models.split import TimeSplit
from models.tensors import ranking_arguments
from models.towers.architecture import Towers, build_towers
from models.towers.embeddings import Sizes
from models.towers.experts import AttributeEffects, Experts
from models.towers.forms import RankingForm, ZeroShotForm
from models.towers.ranking import WithAuxiliaryLoss
from models.training import TrainingConfig, device_of, precision_of


class NonFiniteLoss(ForetasteError):
    """Training diverged; the message names the epoch and the batch."""


@dataclass(frozen=True, slots=True)
class Step:
    """Step `number` (from 1) of `total`, its rows, and its losses: `ranking`, and of warm users those of eq. 7."""

    number: int
    total: int
    rows: int
    losses: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run leaves: the towers (in eval mode, on the CPU), and what reading them takes."""

    model: Towers
    encoding: Encoding
    config: TrainingConfig
    mean_virtual: FloatArray
    """(M, D): the mean virtual behaviour of the training users."""
    popularity: npt.NDArray[np.float64]
    """(item_count,): share of the training interactions, by item index."""
    split_ms: int

    @property
    def zero_shot(self) -> ZeroShotForm:
        return ZeroShotForm(self.model.embeddings, self.model.zero_shot).eval()

    @property
    def ranking(self) -> RankingForm:
        return RankingForm(self.model.embeddings, self.model.ranking, self.config.warm_after).eval()


def cotrain(
    dataset: Dataset,
    split: TimeSplit,
    config: TrainingConfig,
    progress: Callable[[Step], None] = lambda _: None,
    encoding: Encoding | None = None,
    histories: Histories | None = None,
) -> Trained:
    """Learn from what lies before the split. The same arguments give the same towers, bit for bit on the CPU.

    `histories`: the behaviour that the towers may see; by default all of the dataset's.
    Raises `NonFiniteLoss`, and `InvalidInput` for data of one class.
    """
    encoding = encoding or fit_encoding(dataset, split.instant_ms)
    rng = np.random.default_rng(config.seed)
    counts = item_counts(dataset, encoding, split.instant_ms)
    past = replace(dataset, interactions=split.train)  # what comes after the split must not tell what is no negative
    sampler = None if dataset.has_labels else NegativeSampler(past, encoding, counts, rng)
    _check_classes(dataset, split, counts)
    examples = Examples.of(dataset, split.train, encoding, histories or Histories.of(dataset, encoding))
    device = device_of(config.device)
    with _seeded(config, device):
        model = build_towers(_sizes(encoding), torch.from_numpy(encoding.item_features), config.architecture)
        codes = _fit_effects(model, examples, sampler, config, rng)
        trainer = _Trainer(model.to(device), config, device, codes)
        for number, total, epoch, batch in _steps(examples, sampler, config, rng):
            losses = trainer.step(_with_new_users(batch, len(dataset.users), config, rng), rng)
            if not _finite(losses):
                raise NonFiniteLoss(f"training diverged in epoch {epoch}, batch {number} of {total}: {losses}")
            progress(Step(number, total, len(batch.candidates), losses))
    model.cpu().eval()
    known = dataset.user_rows(split.train["user_id"].drop_duplicates())
    attributes = torch.from_numpy(encode_users(dataset, encoding)[known])
    with torch.inference_mode():
        mean = ZeroShotForm(model.embeddings, model.zero_shot)(attributes).mean(dim=0)
    return Trained(model, encoding, config, mean.numpy(), counts / counts.sum(), split.instant_ms)


def _fit_effects(
    model: Towers, examples: Examples, sampler: NegativeSampler | None, config: TrainingConfig, rng: np.random.Generator
) -> "HeldOutCodes | None":
    """Fit and adopt the codes of a zero-shot tower that has them; what a training user may see of them."""
    if not (isinstance(model.zero_shot, AttributeEffects) and isinstance(model.ranking, Experts)):
        return None
    sizes, shape = model.embeddings.sizes, config.architecture
    tables = Tables(sizes.attributes, sizes.items)
    negatives = Negatives(sampler, config.negatives) if sampler is not None else None
    width = shape.virtual_vectors * shape.dimension
    effects = fit_effects(examples, tables, width, negatives, config.effects, rng)
    model.zero_shot.adopt(effects)
    model.ranking.adopt(effects)
    return HeldOutCodes(effects, tables)


class _Trainer:
    """The state of Algorithm 1: the towers and their two optimisers."""

    def __init__(
        self, model: Towers, config: TrainingConfig, device: torch.device, codes: HeldOutCodes | None = None
    ) -> None:
        self._model = model
        self._config = config
        self._device = device
        self._codes = codes
        self._precision = precision_of(config.precision, device)
        self._form = RankingForm(model.embeddings, model.ranking, config.warm_after)
        self._zero_shot = ZeroShotForm(model.embeddings, model.zero_shot)
        own = list(model.of_zero_shot_optimiser())  # a tower may have nothing to learn by a loss of its own
        self._for_zero_shot = torch.optim.Adam(own, lr=config.zero_shot_rate, fused=True) if own else None
        self._for_ranking = torch.optim.Adam(model.of_ranking_optimiser(), lr=config.ranking_rate, fused=True)

    def step(self, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        """One round of Algorithm 1, as the paper numbers it, and its losses.

        3. flag; 4. L_zst of warm users; 5. its optimiser; 6. v̂ of the others; 7. x; 8. L_rt of all; 9. its optimiser.
        A loss that is not finite is returned before its optimiser has seen it.
        """
        self._model.train()
        seen = (batch.items != PADDING).sum(axis=1)
        flag = seen < self._config.warm_after
        losses = self._learn_zero_shot(batch, np.flatnonzero(~flag), rng)
        if not _finite(losses):
            return losses
        virtual = self._virtual(batch, np.flatnonzero(flag))
        inputs = self._form.inputs(*ranking_arguments(batch, virtual, self._device))
        with torch.autocast(self._device.type, self._precision, enabled=self._precision is not torch.float32):
            logits = self._model.ranking(inputs)
        loss = ranking_loss(logits.float(), self._tensor(batch.labels))
        losses["ranking"] = loss.item()
        tower: nn.Module = self._model.ranking
        if isinstance(tower, Experts):
            tower, inputs = tower.warm, Experts.of_warm(inputs)
        if isinstance(tower, WithAuxiliaryLoss):
            auxiliary = tower.auxiliary_loss(inputs)
            losses["auxiliary"] = auxiliary.item()
            loss = loss + auxiliary
        if _finite(losses):
            self._for_ranking.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._for_ranking.step()
        return losses

    def _learn_zero_shot(self, batch: Batch, warm: npt.NDArray[np.intp], rng: np.random.Generator) -> dict[str, float]:
        most = self._config.zero_shot_users
        if most is not None and len(warm) > most:
            warm = rng.choice(warm, most, replace=False)
        if not len(warm) or self._for_zero_shot is None:
            return {}
        embeddings = self._model.embeddings
        with torch.no_grad():  # the loss only reads embeddings (eq. 14)
            attributes = embeddings.attributes(self._tensor(batch.attributes[warm]))
            behaviour, valid = embeddings.behaviour(self._tensor(batch.items[warm]), self._tensor(batch.actions[warm]))
        parts = zero_shot_loss(self._model.zero_shot, attributes, behaviour, valid)
        values = {name: part.item() for name, part in parts.items()}
        if parts and _finite(values):
            self._for_zero_shot.zero_grad()
            torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]  # as below
            self._for_zero_shot.step()
        return values

    def _virtual(self, batch: Batch, flagged: npt.NDArray[np.intp]) -> Tensor:
        """v̂ (U, M, D) as it will be served: without dropout; zeros for who needs none.

        It carries a gradient only to a tower that the ranking loss trains.
        """
        shape = self._config.architecture
        virtual = torch.zeros(len(batch.users), shape.virtual_vectors, shape.dimension, device=self._device)
        if self._codes is not None:
            codes = torch.from_numpy(self._codes.of(batch.users[flagged], batch.attributes[flagged]))
            virtual[self._tensor(flagged)] = codes.to(self._device).view(-1, *virtual.shape[1:])
        elif len(flagged):
            self._model.zero_shot.eval()
            with torch.set_grad_enabled(self._model.learns_by_ranking):
                virtual[self._tensor(flagged)] = self._zero_shot(self._tensor(batch.attributes[flagged]))
            self._model.zero_shot.train()
        return virtual

    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._device)


def _steps(
    examples: Examples, sampler: NegativeSampler | None, config: TrainingConfig, rng: np.random.Generator
) -> Iterator[tuple[int, int, int, Batch]]:
    """(number, total, epoch, batch) of every step, all counted from 1."""
    sizes = examples.sizes * (1 if sampler is None else 1 + config.negatives)
    share = 1.0 if config.rows is None else min(config.rows / sizes.sum(), 1.0)
    moments = max(round(share * len(sizes)), 1)
    plan: list[tuple[int, npt.NDArray[np.intp]]] = []
    epoch = 0
    while len(sizes) and (epoch < config.epochs or len(plan) < config.least_steps):
        epoch += 1
        drawn = rng.choice(len(sizes), moments, replace=False) if moments < len(sizes) else np.arange(len(sizes))
        plan += [(epoch, drawn[part]) for part in batches(sizes[drawn], config.batch, rng)]
    for number, (epoch, part) in enumerate(plan, start=1):
        yield number, len(plan), epoch, examples.batch(part, sampler, config.negatives)


def _with_new_users(batch: Batch, users: int, config: TrainingConfig, rng: np.random.Generator) -> Batch:
    """Some behaviour hidden, so that the ranking tower learns to read v̂, and some values made unknown."""
    if config.hides == "nobody":
        hidden = np.zeros(len(batch.users), dtype=np.bool_)
    elif config.hides == "rows":
        hidden = rng.random(len(batch.users)) < config.masked_share
    else:
        made_new = np.random.default_rng(config.seed).random(users) < config.masked_share
        hidden = made_new[batch.users]
    return batch.hidden(hidden).with_unknowns(config.unknown_share, rng)


@contextmanager
def _seeded(config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Torch's own generator, which dropout draws from, and its threads as configured; both as before on leaving."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads or max((os.cpu_count() or 2) // 2, 1))
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _finite(losses: Mapping[str, float]) -> bool:
    return all(math.isfinite(value) for value in losses.values())


def _check_classes(dataset: Dataset, split: TimeSplit, counts: npt.NDArray[np.int64]) -> None:
    if dataset.has_labels and split.train["label"].nunique() < 2:  # noqa: PLR2004  # two classes
        column = f"interactions, column {dataset.description.interactions.label!r}"
        raise InvalidInput(column, int(split.train["label"].iloc[0]), "training needs labels of both kinds")
    if not dataset.has_labels and np.count_nonzero(counts) < 2:  # noqa: PLR2004  # one to meet, one not to
        raise InvalidInput("interactions", int(np.count_nonzero(counts)), "training needs two items at least")


def _sizes(encoding: Encoding) -> Sizes:
    return Sizes(
        attributes=tuple(one.size for one in encoding.attributes.values()),
        context=tuple(one.size for one in encoding.context.values()),
        items=encoding.item_count,
        actions=encoding.action_count,
        item_attributes=tuple(one.size for one in encoding.item_attributes.values()),
    )
