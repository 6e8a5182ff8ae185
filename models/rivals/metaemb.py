"""MetaEmb: a generator of behaviour that learns to be good before and after a gradient step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pydantic.dataclasses
import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional

from foretaste.kernel.configuration import (
    NO_OTHER_FIELDS,
    NonNegativeFloat,
    PositiveFloat,
    ShareBelowOne,
    raises_invalid_input,
)
from models.data.examples import Examples
from models.data.sampling import NegativeSampler
from models.data.vocabulary import item_counts
from models.rivals.base import Base, ImputingRanker, WarmUsers, base_config, base_of, longer, slower
from models.rivals.generator import Generator, generating_ranker, minimise, seeded, shuffled
from models.rivals.methods import Material
from models.runtime.encoding import PADDING, IndexArray
from models.training.config import TrainingConfig

SIDES = 2
"""The mini-batches of a task: D_a and D_b."""


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class MetaEmb:
    """Meta-Embedding (Pan et al., Warm Up Cold-start Advertisements: Improving CTR Predictions via Learning to Learn ID
    Embeddings, SIGIR 2019), adapted from new advertisements to new users as in MAIL's comparison.

    The base is trained and frozen. A task is a training user u, with two mini-batches D_a and D_b of the user's rows; a
    generator h makes the embedding φ_u = h(a_u) that the base reads, here in place of the pooled behaviour. With l the
    base's mean cross-entropy,

        l_a = l(φ_u; D_a),   φ'_u = φ_u - η ∂l_a / ∂φ_u,   l_b = l(φ'_u; D_b),   L = α l_a + (1 - α) l_b,

    averaged over the users of a step; h alone learns, through the gradient step too. A user without behaviour gets
    v̂ = h(a); one with some is read as the base reads it, which stands for the source's further gradient steps.
    """

    alpha: ShareBelowOne = 0.1
    """Weight of the cold-start loss; 0.1 in the source."""
    inner_rate: NonNegativeFloat = 1.0
    """η. The base's loss is flat in a sum of many behaviours, so it is larger than the source's for one embedding."""
    positives: PositiveInt = 2
    """Rows in each of D_a and D_b; with 4 negatives each they are 10 rows (20 in the source)."""
    negatives: PositiveInt = 4
    """For each of these rows, where the data have no labels of their own."""
    hidden: PositiveInt = 64
    dropout: ShareBelowOne = 0.3
    rate: PositiveFloat = 0.003
    """Of Adam."""
    epochs: PositiveInt = 8
    batch: PositiveInt = 64
    """Users a step, about."""
    newest: PositiveInt = 100
    """Behaviours pooled of each training user for the mean that the generator begins at, the newest ones."""
    base: TrainingConfig = field(default_factory=base_config)
    """Of the ranking tower that reads it."""

    def fit(self, material: Material) -> ImputingRanker:
        base = base_of(material, self.base)
        warm = WarmUsers.of(base, material, self.newest)
        rng = np.random.default_rng(material.seed)
        with seeded(material):
            generator = Generator(warm, hidden=self.hidden, dropout=self.dropout)
            tasks = _Tasks.of(material, warm, self, rng)
            vectors = torch.from_numpy(warm.vectors)

            def loss(part: IndexArray) -> Tensor:
                made = generator.behaviour(generator(vectors[part]))
                cold, after = tasks.draw(part)
                return meta_loss(base, made, cold, after, self)

            parts = shuffled(len(vectors), self.batch, self.epochs, rng)
            minimise(generator.parameters(), self.rate, parts, loss)
        return generating_ranker(base, generator)

    def trials(self) -> Sequence["MetaEmb"]:
        better = replace(self, base=longer(self.base))
        gentle = replace(better, inner_rate=0.1 * self.inner_rate)
        return self, better, replace(better, alpha=0.5), gentle, replace(self, base=slower(self.base))


@dataclass(frozen=True, eq=False)
class TaskRows:
    """Rows of B users' mini-batches: each of the G moments, `users` (G,) rows of the batch, has one context and one or
    more candidates."""

    users: Tensor
    attributes: Tensor
    """(G, N)."""
    context: Tensor
    """(G, C)."""
    candidates: Tensor
    """(R,)."""
    labels: Tensor
    """(R,)."""
    owner: Tensor
    """(R,): the moment of each candidate."""


def user_losses(base: Base, behaviour: Tensor, rows: TaskRows) -> Tensor:
    """(B,): the base's mean cross-entropy on each user's `rows` when it reads that user's `behaviour` (B, D)."""
    shape = base.trained.config.architecture
    nothing = torch.full((len(rows.users), 1), PADDING)
    padding = torch.zeros(len(rows.users), shape.virtual_vectors - 1, shape.dimension)
    virtual = torch.cat([behaviour[rows.users].unsqueeze(1), padding], dim=1)
    logits = base.trained.ranking.logits(
        rows.attributes, rows.context, nothing, nothing, virtual, rows.candidates, rows.owner
    )
    losses = functional.binary_cross_entropy_with_logits(logits, rows.labels, reduction="none")
    whose = rows.users[rows.owner]
    sums = torch.zeros(len(behaviour)).index_add(0, whose, losses)
    return sums / torch.bincount(whose, minlength=len(behaviour)).clamp(min=1)


def meta_loss(base: Base, behaviour: Tensor, cold: TaskRows, after: TaskRows, method: MetaEmb) -> Tensor:
    """L of `MetaEmb` for B users with generated `behaviour` (B, D), D_a = `cold` and D_b = `after`."""
    before = user_losses(base, behaviour, cold)
    # each user's loss reads that user's behaviour alone, so the gradient of their sum holds every user's own
    (gradient,) = torch.autograd.grad(before.sum(), behaviour, create_graph=True)
    later = user_losses(base, behaviour - method.inner_rate * gradient, after)
    return (method.alpha * before + (1 - method.alpha) * later).mean()


@dataclass(frozen=True, eq=False)
class _Tasks:
    """Where the rows of each training user lie in `examples`, and what draws from them."""

    examples: Examples
    order: IndexArray
    starts: IndexArray
    counts: IndexArray
    moments: IndexArray
    sampler: NegativeSampler | None
    method: MetaEmb
    rng: np.random.Generator

    @classmethod
    def of(cls, material: Material, warm: WarmUsers, method: MetaEmb, rng: np.random.Generator) -> "_Tasks":
        dataset = material.dataset
        examples = Examples.of(dataset, material.split.train, material.encoding, material.histories)
        counts = item_counts(dataset, material.encoding, material.split.instant_ms)
        moments = np.repeat(np.arange(len(examples.sizes)), examples.sizes)
        users = examples.users[moments].astype(np.int64)
        order = np.argsort(users, kind="stable")
        starts = np.searchsorted(users[order], warm.users)
        ends = np.searchsorted(users[order], warm.users, side="right")
        sampler = None if dataset.has_labels else NegativeSampler(dataset, material.encoding, counts, rng)
        return cls(examples, order, starts, ends - starts, moments, sampler, method, rng)

    def draw(self, part: IndexArray) -> Iterator[TaskRows]:
        """D_a and D_b of the users `part` (B,): no row in both, where a user has enough of them."""
        count = self.method.positives if self.sampler else self.method.positives * (1 + self.method.negatives)
        first = self.rng.integers(0, self.counts[part])
        strides = np.maximum(self.counts[part] // (SIDES * count), 1)
        steps = strides[:, None] * np.arange(SIDES * count) + first[:, None]
        rows = self.order[self.starts[part][:, None] + steps % self.counts[part][:, None]]
        return (self._rows(part, side) for side in np.split(rows, SIDES, axis=1))

    def _rows(self, part: IndexArray, rows: IndexArray) -> TaskRows:
        """Rows (B, P) of the users `part` (B,), each a moment of its own, with their negatives."""
        flat = rows.ravel()
        users = np.repeat(np.arange(len(part)), rows.shape[1])
        moments = self.moments[flat]
        asked = self.examples.users[moments].astype(np.int64)
        candidates, owner = self.examples.items[flat].astype(np.int64), np.arange(len(flat))
        labels = self.examples.labels[flat]
        if self.sampler:
            drawn = self.sampler.sample(asked, self.method.negatives, self.examples.times_ms[moments]).ravel()
            given = drawn != PADDING  # a user who has met everything has no negatives
            candidates = np.concatenate([candidates, drawn[given]])
            labels = np.concatenate([labels, np.zeros(int(given.sum()), dtype=np.float32)])
            owner = np.concatenate([owner, np.repeat(owner, self.method.negatives)[given]])
        return TaskRows(
            torch.from_numpy(users),
            torch.from_numpy(self.examples.attributes[asked]),
            torch.from_numpy(self.examples.context[moments].astype(np.int64)),
            torch.from_numpy(candidates),
            torch.from_numpy(labels),
            torch.from_numpy(owner),
        )
