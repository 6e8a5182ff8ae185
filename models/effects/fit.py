"""What each attribute value says of each item, and what users do first: the codes that the zero-shot tower stores.

The log-odds that a user with attributes a₁ … a_N acts on an item i that is shown are modelled as

    b(i) + Σₙ W(aₙ, i),    W shrunk to the few directions in which attributes tell most (`models.effects.low_rank`),

and fitted on counts: users of the same attributes are one cell, and what a cell did not act on is counted where the
data say it, and is the expectation of the sampled negatives where they do not. The left factor of W is the code of each
attribute value, whose sum over a user's attributes is the virtual behaviour; its right factor is each item's key, and
code · key is the effect. Training must not show the ranking tower what a user's own behaviour did to that user's code,
so the codes are fitted without each fold of the users as well.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pydantic.dataclasses
from numpy.random import Generator
from pydantic import Field, PositiveInt
from threadpoolctl import threadpool_limits

from foretaste.kernel.configuration import NO_OTHER_FIELDS, PositiveFloat, raises_invalid_input
from models.data.examples import Examples
from models.data.sampling import NegativeSampler
from models.effects.age_bias import age_biases, evidence_bins
from models.effects.by_gradient.factors import DescentConfig
from models.effects.codes import Combinations, codes_and_keys
from models.effects.counts import Counting, CountingConfig, ExpectedNegatives, InteractionRows, TableSizes, folds_of
from models.effects.decayed_popularity import DecayedPopularity, fit_decayed_popularity
from models.effects.fits import Descent, Fits, Shrinking, fits_by_gradient, fits_of_counts
from models.effects.item_keys import add_keys_of_kind, design_of_items
from models.effects.low_rank import Doubles
from models.effects.seen_bias import FIRST_OF_SEEN_BIN, SEEN_BINS, Evidence, Judgements, correction
from models.effects.state import SavedCounts
from models.effects.transitions import Transitions, fit_transitions
from models.runtime.encoding import PADDING, IndexArray

Floats = npt.NDArray[np.float32]
LEAST_COVERED = 0.9
"""Of all interactions: dense counts of fewer are no fit of the data."""
Solver: TypeAlias = Literal["auto", "counts", "gradient"]


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class EffectsConfig:
    """How the effects are fitted."""

    folds: Annotated[int, Field(ge=2)] = 5
    """Of the users: a training user's code is fitted on the others'."""
    counting: CountingConfig = field(default_factory=CountingConfig)
    first_precision: PositiveFloat = 100.0
    """Prior precision of what distinguishes a user's very first moments. Fixed and not found by the evidence: who has
    no behaviour is at those moments in production, but anywhere when behaviour is hidden."""
    bias_precision: PositiveFloat = 0.5
    """Prior precision of b(i) about log-odds of 0: the counts of the rarest items are low by chance, and so are the
    negatives that are drawn by them."""
    shrinkage: PositiveFloat = 0.6
    """Of each direction of W, as a share of the strongest that noise alone would tell."""
    most_directions: PositiveInt = 24
    """Of each fit. All fits together keep as many as a code has numbers."""
    iterations: PositiveInt = 16
    """Of L-BFGS; the fits without a fold take half as many."""
    stage_rows: PositiveInt = 30_000
    """Read for the biases of each bin of behaviours seen, at most."""
    stage_negatives: PositiveInt = 10
    """Sampled for each of them where the data have no labels, to weigh as much as the configured number."""
    item_attributes: bool = True
    """Whether an item's key is its own and the sum of its attribute values'; else its own alone."""
    popularity_with_time: bool = True
    """Whether biases follow what was acted on lately, as far as the data say that it tells anything."""
    solver: Solver = "auto"
    """counts: over dense counts, within `counting.most_counts`, beyond which cells and items are left out. gradient: by
    descent over what was seen alone, at any size. auto: the first where it leaves out little (`LEAST_COVERED`)."""
    descent: DescentConfig = field(default_factory=DescentConfig)
    transitions: bool = True
    """Whether the ranking tower reads which items follow which."""


@dataclass(frozen=True, eq=False)
class Effects:
    """What was fitted; H is the width of a code.

    `codes` (1 + folds, ΣA, H): of each value of each attribute, field after field: from all users, then without each
    fold. `fold` (users,): which of these a user may see in training; 0 for who was not learned from. `keys` (items, H).
    `biases` (S, items): b(i) and what distinguishes each bin of behaviours seen.
    """

    codes: Floats
    fold: IndexArray
    keys: Floats
    biases: Floats
    counts: SavedCounts | None = None
    """What a later fit goes on from."""
    popularity: DecayedPopularity | None = None
    """What is added to `biases` by what was acted on lately; None: nothing."""
    age_biases: Floats | None = None
    """(1 + 2 A, items): what the age adds to `biases` (`models.effects.age_bias`); None where none is read."""
    transitions: Transitions | None = None
    """Which items follow which; None: nothing is known of it."""
    combinations: Combinations | None = None
    """What values say together, beside the sum of codes; None: nothing."""

    @property
    def served(self) -> "Effects":
        """As a generation serves them: the biases are as of the end of the window."""
        return self if self.popularity is None else replace(self, biases=self.biases + self.popularity.served)


class Negatives(NamedTuple):
    """What stands for impressions that were not acted on: `number` an interaction, drawn by the sampler."""

    sampler: NegativeSampler
    number: int


def fit_effects(
    examples: Examples,
    tables: TableSizes,
    width: int,
    negatives: Negatives | None,
    config: EffectsConfig,
    rng: Generator,
    earlier: SavedCounts | None = None,
    descent: Descent | None = None,
) -> Effects:
    """Fit what `examples` say; `width` is H. `negatives` is None where the data have labels of their own.
    `descent`: how and where it is fitted by gradient, if it is; None: on the CPU, codes being sums alone.

    With `earlier` counts the examples add to them, those that lie before its `until_ms` left out, as they were counted.
    A user's code is then without that user's behaviour among the examples that were added; what the same user did
    earlier is in the counts of everybody's, from before everything that training is about to predict.
    """
    rows = InteractionRows.of(examples)
    until_ms = int(examples.times_ms.max(initial=-1)) + 1
    if earlier is not None:
        earlier = earlier.grown(tables.attributes, tables.items, evidence_bins(tables.ages))
        rows = rows.only(np.repeat(examples.times_ms, examples.sizes) >= earlier.until_ms)
        until_ms = max(until_ms, earlier.until_ms)
    past, evidence = (earlier.past, earlier.evidence) if earlier else (None, None)
    expected = None if negatives is None else ExpectedNegatives(negatives.number, negatives.sampler.by_moment)
    by_gradient = config.solver == "gradient"
    counting = Counting.of(rows, tables, expected, config.counting, rng, past, all_counts=by_gradient)
    if config.solver == "auto" and counting.covered < LEAST_COVERED:
        by_gradient = True
        counting = Counting.of(rows, tables, expected, config.counting, rng, past, all_counts=True)
    of_all = None
    if tables.item_features is not None and config.item_attributes:
        of_all = design_of_items(tables.item_features, counting.items)
    if of_all is not None:
        of_counted = replace(of_all, values=of_all.values[counting.items])
        counting = replace(counting, design=replace(counting.design, items=of_counted))
    fold = folds_of(counting.users, examples, config.folds, rng)
    with threadpool_limits(1, user_api="blas"):  # on matrices this small, threads only wait for each other
        chosen = (descent or Descent.of(config.descent)) if by_gradient else None
        found = _fits(fold, counting, tables, config, rng, earlier, chosen)
        codes, keys, combinations = codes_and_keys(found, counting, tables, width)
        if of_all is not None:
            add_keys_of_kind(keys, counting.items, of_all, found.weights)
    base = np.full(len(keys), found.log_odds)  # nothing is known of an unknown item
    base[counting.items] = found.fits[0].bias.numpy()
    whole = counting.together(), found.fits[0], tables.values(counting.value_places), found.noise
    del counting, found  # at a million users and items they are a gigabyte
    same = np.repeat(base.astype(np.float32)[None], len(FIRST_OF_SEEN_BIN), axis=0)
    effects = Effects(codes, fold, keys, same, combinations=combinations)
    biases, of_ages, evidence = stage_biases(effects, rows, tables, negatives, config, rng, evidence)
    popularity, state = None, earlier.popularity if earlier else None
    if config.popularity_with_time:
        popularity, state = fit_decayed_popularity(rows, biases, negatives.number if negatives else None, state)
    transitions, pairs = None, earlier.transitions if earlier else None
    if config.transitions:
        span_ms, seed = (earlier.until_ms if earlier else 0, until_ms), int(rng.integers(1 << 31))
        transitions, pairs = fit_transitions(examples, fold > 0, tables.items, seed, span_ms, pairs)
    counts = SavedCounts(*whole, evidence, until_ms, state, pairs)
    return Effects(codes, fold, keys, biases, counts, popularity, of_ages, transitions, combinations)


def _fits(
    fold: IndexArray,
    counting: Counting,
    tables: TableSizes,
    config: EffectsConfig,
    rng: Generator,
    earlier: SavedCounts | None,
    descent: Descent | None,
) -> Fits:
    shrinking = Shrinking(config.shrinkage, config.bias_precision, config.most_directions, config.iterations)
    if descent is None:
        return fits_of_counts(fold, config.folds, counting, tables, shrinking, rng, earlier)
    noise = 0.0 if earlier is None else earlier.noise
    return fits_by_gradient(fold, config.folds, counting, shrinking, descent, rng, noise)


@dataclass(frozen=True, eq=False, slots=True)
class HeldOutCodes:
    """Codes as training may see them: each user's as the other users' behaviour has it."""

    effects: Effects
    tables: TableSizes

    def of(self, users: IndexArray, attributes: IndexArray) -> Floats:
        """(B, H), for rows of `Dataset.users` (B,) with these values (B, N)."""
        fold = self.effects.fold[users]
        places, combinations = self.tables.places(attributes), self.effects.combinations
        codes: Floats = self.effects.codes[fold[:, None], places].sum(axis=1)
        return codes if combinations is None else codes + combinations.codes(fold, places)


def stage_biases(
    effects: Effects,
    rows: InteractionRows,
    tables: TableSizes,
    negatives: Negatives | None,
    config: EffectsConfig,
    rng: Generator,
    evidence: Evidence | None = None,
) -> tuple[Floats, Floats | None, Evidence]:
    """(S, items): the biases of `effects`, corrected by what users of each bin of behaviours seen did beyond them; what
    the account's age adds to them, None where none is read; and the evidence.

    `evidence`: what is known of earlier windows, to which that of these rows is added in place. The first bin's prior
    has a precision that is given, the others' is found (`models.effects.seen_bias`).
    """
    biases = effects.biases.copy()
    evidence = evidence or Evidence.none(biases.shape[1], evidence_bins(tables.ages))
    bins = SEEN_BINS[rows.seen]

    def judge(own: IndexArray) -> tuple[IndexArray, Judgements]:
        owner, items, labels, weights = _judged(rows, own, negatives, config.stage_negatives)
        codes = HeldOutCodes(effects, tables).of(rows.users[own], rows.attributes[rows.users[own]])
        return owner, Judgements(items, labels, np.einsum("rh,rh->r", codes[owner], effects.keys[items]), weights)

    for number in range(len(FIRST_OF_SEEN_BIN)):
        own = np.flatnonzero(bins == number)
        read, share = evidence.room(number, len(own), config.stage_rows)
        evidence.rows[number] += len(own)
        evidence.read[number] = share * evidence.read[number] + read
        if read < len(own):
            own = rng.choice(own, read, replace=False)
        if not evidence.read[number]:
            continue
        _, judged = judge(own)
        found, evidence.slope[number], evidence.curvature[number] = correction(
            judged._replace(offsets=judged.offsets + biases[number, judged.items]),
            effects.biases[number].astype(np.float64),
            share * evidence.slope[number],
            share * evidence.curvature[number],
            config.first_precision if number == 0 else None,
        )
        biases[number] += found
    of_ages = None
    if tables.ages:
        base = effects.biases[0].astype(np.float64)
        of_ages = age_biases(base, biases, rows, judge, config.stage_rows, rng, evidence)
    return biases, of_ages, evidence


def _judged(
    rows: InteractionRows, own: IndexArray, negatives: Negatives | None, drawn_each: int
) -> tuple[IndexArray, IndexArray, Doubles, Doubles]:
    """Of rows `own` (R,): place in `own`, item, label and weight of each judgement, sampled negatives among them."""
    place, items, labels = np.arange(len(own)), rows.items[own], rows.labels[own].astype(np.float64)
    weights = np.ones(len(own))
    if negatives is not None:
        drawn = negatives.sampler.sample(rows.users[own], drawn_each, rows.times_ms[own])
        given = drawn != PADDING
        others = np.repeat(place, drawn_each).reshape(drawn.shape)[given]
        place, items = np.concatenate([place, others]), np.concatenate([items, drawn[given]])
        labels = np.concatenate([labels, np.zeros(len(others))])
        weights = np.concatenate([weights, np.full(len(others), negatives.number / drawn_each)])
    return place, items, labels, weights
