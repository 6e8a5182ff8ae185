"""What each attribute value says of each item, and what users do first: the codes that the zero-shot tower stores.

The log-odds that a user with attributes a₁ … a_N acts on an item i that is shown are modelled as

    b(i) + Σₙ W(aₙ, i),    W shrunk to the few directions in which attributes tell most (`models.low_rank`),

and fitted on counts: users of the same attributes are one cell, and what a cell did not act on is counted where the
data say it, and is the expectation of the sampled negatives where they do not. The left factor of W is the code of each
attribute value, whose sum over a user's attributes is the virtual behaviour; its right factor is each item's key, and
code · key is the effect. Training must not show the ranking tower what a user's own behaviour did to that user's code,
so the codes are fitted without each fold of the users as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy.linalg import block_diag
from scipy.special import expit

from models import checks
from models.counting import Counting, CountingConfig, Rows, Tables
from models.encoding import FIRST_KNOWN, MAX_BEHAVIOUR, PADDING, IndexArray
from models.evidence import START, next_precision
from models.examples import Examples
from models.low_rank import Counts, Doubles, Fit, Penalty, Weights, begin, fitted, slope_at_zero, strength
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
    shrinkage: float = 0.6
    """Of each direction of W, as a share of the strongest that noise alone would tell."""
    most_directions: int = 24
    """Of each fit. All fits together keep as many as a code has numbers."""
    iterations: int = 16
    """Of L-BFGS; the fits without a fold take half as many."""
    stage_rows: int = 30_000
    """Read for the bias of each stage, at most."""
    stage_negatives: int = 10
    """Sampled for each of them where the data have no labels, to weigh as much as the configured number."""

    def __post_init__(self) -> None:
        """Raises `InvalidInput` naming the field."""
        names = ("most_directions", "iterations", "stage_rows", "stage_negatives")
        checks.at_least(self, {"folds": 2, **dict.fromkeys(names, 1)})
        checks.positive(self, "first_precision", "bias_precision", "shrinkage")


@dataclass(frozen=True, eq=False)
class Effects:
    """What was fitted; H is the width of a code.

    `codes` (1 + folds, ΣA, H): of each value of each attribute, field after field: from all users, then without each
    fold. `fold` (users,): which of these a user may see in training; 0 for who was not learned from. `keys` (items, H).
    `biases` (S, items): b(i) and what distinguishes each stage.
    """

    codes: Floats
    fold: IndexArray
    keys: Floats
    biases: Floats


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
    fits, log_odds = _fits(parts, counting, config, rng)
    codes, keys = _codes_and_keys(fits, counting, tables, width)
    bias = np.full((len(FIRST_OF_STAGE), len(keys)), log_odds)  # nothing is known of an unknown item
    bias[:, counting.items] = fits[0].bias.numpy()
    effects = Effects(codes, fold, keys, bias.astype(np.float32))
    return replace(effects, biases=stage_biases(effects, rows, tables, negatives, config, rng))


def _fits(
    parts: Sequence[Counts], counting: Counting, config: EffectsConfig, rng: Generator
) -> tuple[list[Fit], float]:
    """Of the whole, then without each part; and the log-odds of all counts."""
    whole, design, seed = reduce(add, parts), counting.design, int(rng.integers(1 << 31))
    weights = Weights.of(whole, design)
    dealt = counting.dealt(rng)
    noise = strength(slope_at_zero(dealt.counts(dealt.users), design, weights), seed)

    def fit(counts: Counts, iterations: int) -> Fit:
        """Noise is as the root of how much was counted. Begun anew: from the whole's fit it would remember the part."""
        share = float(counts.met.sum()) / max(float(whole.met.sum()), 1.0)
        penalty = Penalty(config.shrinkage * noise * share**0.5, weights, config.bias_precision)
        first = begin(counts, design, weights, penalty.threshold, config.most_directions, seed)
        return fitted(counts, design, penalty, first, iterations)

    rest = [fit(whole - part, -(-config.iterations // 2)) for part in parts]
    return [fit(whole, config.iterations), *rest], whole.log_odds


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


def _codes_and_keys(fits: Sequence[Fit], counting: Counting, tables: Tables, width: int) -> tuple[Floats, Floats]:
    """Codes (fits, ΣA, H) and keys (items, H) with code · key = W, as nearly as H allows.

    The fits are turned to common keys by the singular value decomposition of all their W, one below the other. A key's
    entries are of size 1, so that a code is of the size of an effect.
    """
    codes = np.zeros((len(fits), sum(tables.attributes), width), dtype=np.float32)
    keys = np.zeros((tables.items, width), dtype=np.float32)
    of_values, small = np.linalg.qr(block_diag(*(fit.left.double().numpy() for fit in fits)))
    of_items, other = np.linalg.qr(np.concatenate([fit.right.double().numpy() for fit in fits], axis=1))
    left, strength, right = np.linalg.svd(small @ other.T, full_matrices=False)
    rank, scale = min(width, len(strength)), np.sqrt(len(counting.items))
    keys[counting.items, :rank] = (of_items @ right[:rank].T) * scale
    turned = of_values @ (left[:, :rank] * strength[:rank]) / scale
    codes[:, counting.value_places, :rank] = turned.reshape(len(fits), len(counting.value_places), rank)
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
