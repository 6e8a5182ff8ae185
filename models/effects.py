"""What each attribute value says of each item, and what users do first: the codes that the zero-shot tower stores.

The log-odds that a user with attributes a₁ … a_N acts on an item i that is shown are modelled as

    b(i) + Σₙ W(n, aₙ, i),    each of b and W(n, ·, ·) with a Gaussian prior of its own,

and fitted on counts: users of the same attributes are one cell, and what a cell did not act on is counted where the
data say it, and is the expectation of the sampled negatives where they do not. W is then factorised. Its left factor is
the code of each attribute value, whose sum over a user's attributes is the virtual behaviour; its right factor is each
item's key, and code · key is the effect. Training must not show the ranking tower what a user's own behaviour did to
that user's code, so the codes are fitted without each fold of the users as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy.special import expit
from sklearn.utils.extmath import randomized_svd

from models import checks
from models.counting import Counting, CountingConfig, Rows, Tables
from models.encoding import FIRST_KNOWN, MAX_BEHAVIOUR, PADDING, IndexArray
from models.evidence import START, Doubles, by_evidence, maximise, next_precision
from models.examples import Examples
from models.sampling import NegativeSampler

Floats = npt.NDArray[np.float32]
FIRST_OF_STAGE = (0, 1, 3, 6, 11, 21, 51)
"""The number of behaviours seen at which each of the S stages begins."""
STAGES: IndexArray = np.searchsorted(FIRST_OF_STAGE, np.arange(MAX_BEHAVIOUR + 1), side="right") - 1
"""(L + 1,): the stage of each number of behaviours seen."""
_NEWTON, _STEP = 10, 2.0
"""Iterations, and the most that one moves a bias."""


@dataclass(frozen=True, slots=True)
class EffectsConfig:
    """How the effects are fitted."""

    folds: int = 5
    """Of the users: a training user's code is fitted on the others'."""
    counting: CountingConfig = field(default_factory=CountingConfig)
    first_precision: float = 100.0
    """Prior precision of what distinguishes a user's very first moments. Fixed and not found by the evidence: who has
    no behaviour is at those moments in production, but anywhere when behaviour is hidden."""
    bias_precision: float = 0.5
    """Prior precision of b(i) about log-odds of 0: the counts of the rarest items are low by chance, and so are the
    negatives that are drawn by them."""
    rounds: int = 3
    """Of the evidence's fixed point."""
    iterations: int = 20
    """Of L-BFGS, a round; the fits without a fold start from the whole and take half as many."""
    stage_rows: int = 30_000
    """Read for the bias of each stage, at most."""
    stage_negatives: int = 20
    """Sampled for each of them where the data have no labels, to weigh as much as the configured number."""

    def __post_init__(self) -> None:
        """Raises `InvalidInput` naming the field."""
        names = ("rounds", "iterations", "stage_rows", "stage_negatives")
        checks.at_least(self, {"folds": 2, **dict.fromkeys(names, 1)})
        checks.positive(self, "first_precision", "bias_precision")


@dataclass(frozen=True, eq=False)
class Effects:
    """What was fitted; H is the width of a code.

    `codes` (1 + folds, ΣA, H): of each value of each attribute, field after field: from all users, then without each
    fold. `fold` (users,): which of these a user may see in training; 0 for who was not learned from. `keys` (items, H).
    `biases` (S, items): b(i) and what distinguishes each stage. `precisions` (1 + N,): of the priors of b and W(n).
    """

    codes: Floats
    fold: IndexArray
    keys: Floats
    biases: Floats
    precisions: Doubles


class Negatives(NamedTuple):
    """What stands for impressions that were not acted on: `number` an interaction, drawn by the sampler."""

    sampler: NegativeSampler
    number: int


def fit_effects(
    examples: Examples, tables: Tables, width: int, negatives: Negatives | None, config: EffectsConfig, rng: Generator
) -> Effects:
    """Fit what `examples` say; `width` is H. `negatives` is None where the data have labels of their own."""
    rows = Rows.of(examples)
    counting = Counting.of(rows, tables, negatives.number if negatives else None, config.counting, rng)
    fold = np.zeros(len(rows.attributes), dtype=np.int64)
    fold[counting.users] = 1 + rng.permutation(len(counting.users)) % config.folds
    parts = [counting.counts(np.flatnonzero(fold == part)) for part in range(1, config.folds + 1)]
    whole = reduce(add, parts)
    fit, precisions = by_evidence(
        whole, counting.design, config.bias_precision, rounds=config.rounds, iterations=config.iterations
    )
    fits = [
        fit,
        *(maximise(whole - part, counting.design, precisions, fit, -(-config.iterations // 2)) for part in parts),
    ]
    codes, keys = _factorised(fits, counting, tables, width, rng)
    bias = np.full((len(FIRST_OF_STAGE), len(keys)), whole.log_odds)  # nothing is known of an unknown item
    bias[:, counting.items] = fit[0]
    effects = Effects(codes, fold, keys, bias.astype(np.float32), precisions)
    return replace(effects, biases=stage_biases(effects, rows, tables, negatives, config, rng))


@dataclass(frozen=True, eq=False, slots=True)
class HeldOutCodes:
    """Codes as training may see them: each user's as the other users' behaviour has it."""

    effects: Effects
    tables: Tables

    def of(self, users: IndexArray, attributes: IndexArray) -> Floats:
        """(B, H), for rows of `Dataset.users` (B,) with these values (B, N)."""
        fold = self.effects.fold[users][:, None]
        codes: Floats = self.effects.codes[fold, self.tables.places(attributes)].sum(axis=1)
        return codes


def _factorised(
    fits: Sequence[Doubles], counting: Counting, tables: Tables, width: int, rng: Generator
) -> tuple[Floats, Floats]:
    """Codes (fits, ΣA, H) and keys (items, H) with code · key = W, as nearly as H allows.

    A key's entries are of size 1, so that a code is of the size of an effect.
    """
    codes = np.zeros((len(fits), sum(tables.attributes), width), dtype=np.float32)
    keys = np.zeros((tables.items, width), dtype=np.float32)
    stacked = np.concatenate([fit[1:] for fit in fits])
    rank = min(width, *stacked.shape)
    if rank:
        left, strength, right = randomized_svd(stacked, rank, random_state=int(rng.integers(1 << 31)))
        scale = np.sqrt(stacked.shape[1])
        keys[counting.items, :rank] = right.T * scale
        codes[:, counting.value_places, :rank] = (left * strength / scale).reshape(len(fits), -1, rank)
    return codes, keys


def stage_biases(
    effects: Effects, rows: Rows, tables: Tables, negatives: Negatives | None, config: EffectsConfig, rng: Generator
) -> Floats:
    """(S, items): the biases of `effects`, each stage's corrected by what its users did beyond them.

    A correction has one parameter an item and a Gaussian prior, and is found by Newton's method, item by item; its
    prior's precision is the evidence's, but for the first stage, whose is given.
    """
    biases = effects.biases.copy()
    stage = STAGES[rows.seen]
    for number in range(len(FIRST_OF_STAGE)):
        own = np.flatnonzero(stage == number)
        if len(own) > config.stage_rows:
            own = rng.choice(own, config.stage_rows, replace=False)
        if not len(own):
            continue
        owner, items, labels, weights = _judged(rows, own, negatives, config.stage_negatives)
        codes = HeldOutCodes(effects, tables).of(rows.users[own], rows.attributes[rows.users[own]])
        offsets = np.einsum("rh,rh->r", codes[owner], effects.keys[items]) + biases[number, items]
        given = config.first_precision if number == 0 else None
        biases[number] += _corrections(items, labels, offsets, weights, biases.shape[1], given)
    return biases


def _judged(
    rows: Rows, own: IndexArray, negatives: Negatives | None, drawn_each: int
) -> tuple[IndexArray, IndexArray, Doubles, Doubles]:
    """Of rows `own` (R,): place in `own`, item, label and weight of each judgement, sampled negatives among them."""
    place, items, labels = np.arange(len(own)), rows.items[own], rows.labels[own].astype(np.float64)
    weights = np.ones(len(own))
    if negatives is not None:
        drawn = negatives.sampler.sample(rows.users[own], drawn_each)
        given = drawn != PADDING
        others = np.repeat(place, drawn_each).reshape(drawn.shape)[given]
        place, items = np.concatenate([place, others]), np.concatenate([items, drawn[given]])
        labels = np.concatenate([labels, np.zeros(len(others))])
        weights = np.concatenate([weights, np.full(len(others), negatives.number / drawn_each)])
    return place, items, labels, weights


def _corrections(
    items: IndexArray, labels: Doubles, offsets: Doubles, weights: Doubles, count: int, given: float | None
) -> Doubles:
    """(count,): what to add to the offsets of each item's judgements."""
    found = np.zeros(count)
    precision = START if given is None else given
    known = np.arange(count) >= FIRST_KNOWN
    for _ in range(_NEWTON):
        p = expit(offsets + found[items])
        slope = np.bincount(items, weights=weights * (labels - p), minlength=count) - precision * found
        curvature = np.bincount(items, weights=weights * p * (1 - p), minlength=count)
        found += np.where(known, np.clip(slope / (curvature + precision), -_STEP, _STEP), 0.0)
        if given is None:
            precision = next_precision(found, curvature, precision)
    return found
