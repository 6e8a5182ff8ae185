import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import expit

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import MAX_BEHAVIOUR
from models.data.examples import Examples
from models.effects.by_gradient.descent import fit_by_gradient
from models.effects.by_gradient.factors import DescentConfig
from models.effects.codes import codes_and_keys
from models.effects.counts import Counting, CountingConfig, InteractionRows, TableSizes
from models.effects.fit import (
    Effects,
    EffectsConfig,
    HeldOutCodes,
    fit_effects,
    stage_biases,
)
from models.effects.fits import Descent, Fits
from models.effects.low_rank import Fit, Weights
from models.effects.seen_bias import FIRST_OF_SEEN_BIN, SEEN_BINS
from models.evaluation import metrics
from models.runtime.encoding import FIRST_KNOWN, UNKNOWN
from models.towers.zero_shot.base import ZeroShotShape
from models.towers.zero_shot.effects import TrainedEffects
from tests.effects_factory import ITEMS, TABLES, attributes_of, examples_of, impressions, liked, rows_of, sampled

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH = 24
"""More than the effects of `TABLES` have ranks within a fold."""


def _fit(examples: Any, tables: Any = TABLES, negatives: Any = None, width: Any = WIDTH, **changes: Any) -> Effects:
    config = EffectsConfig(**changes)
    return fit_effects(examples, tables, width, negatives, config, np.random.default_rng(1))


def _whole(effects: Any, attributes: Any, tables: Any = TABLES) -> Any:
    """Virtual behaviour (B, H) of a new user, as it is served."""
    return effects.codes[0, tables.places(np.asarray(attributes))].sum(axis=1)


def _everything(effects: Any, attributes: Any, stage: int = 0) -> Any:
    """Logits (B, items) of new users."""
    return _whole(effects, attributes) @ effects.keys.T + effects.biases[stage]


def test_stages_are_numbers_of_behaviours_from_none_to_most() -> None:
    assert SEEN_BINS.shape == (MAX_BEHAVIOUR + 1,)
    for seen, stage in enumerate(SEEN_BINS):
        assert FIRST_OF_SEEN_BIN[stage] <= seen
        assert stage + 1 == len(FIRST_OF_SEEN_BIN) or seen < FIRST_OF_SEEN_BIN[stage + 1]


def _factors(rng: np.random.Generator, width: Any) -> Any:
    attributes = attributes_of(60, rng)
    rows = InteractionRows.of(impressions(attributes, 8, rng))
    counting = Counting.of(rows, TABLES, None, CountingConfig(), rng)
    values, items = counting.design.size, len(counting.items)
    fits = [
        Fit(*(torch.from_numpy(rng.normal(size=shape)).float() for shape in ((items,), (values, 3), (items, 3))))
        for _ in range(3)
    ]
    codes, keys, _ = codes_and_keys(
        Fits(fits, 0.0, 1.0, Weights(torch.ones(1), torch.ones(1))), counting, TABLES, width
    )
    assert codes.shape == (3, sum(TABLES.attributes), width)
    assert keys.shape == (ITEMS, width)
    made = codes[:, counting.value_places] @ keys[counting.items].T
    return made, np.stack([fit.effects.numpy() for fit in fits]), codes, keys, counting


def test_code_times_key_is_the_effect(rng: np.random.Generator) -> None:
    made, effects, codes, keys, counting = _factors(rng, width=14)
    np.testing.assert_allclose(made, effects, atol=1e-5)
    uncounted = np.setdiff1d(np.arange(sum(TABLES.attributes)), counting.value_places)
    assert len(uncounted) >= 2
    assert not codes[:, uncounted].any(), "unknown values have no effect"
    assert not keys[:FIRST_KNOWN].any()


def test_a_key_is_of_size_one_an_entry(rng: np.random.Generator) -> None:
    _, _, _, keys, counting = _factors(rng, width=4)
    np.testing.assert_allclose(np.square(keys[counting.items, :3]).mean(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize(("width", "free"), [(8, 2), (16, 5), (128, 8)])
def test_the_last_numbers_are_left_free(rng: np.random.Generator, width: int, free: int) -> None:
    """A refresh finds other directions, more or fewer: those of answers and first acts stay theirs."""
    *_, codes, keys, _ = _factors(rng, width)
    assert not codes[..., width - free :].any()
    assert not keys[:, width - free :].any()
    assert keys[:, min(width - free, 6) - 1].any(), "the others are used, as far as there are directions"


def test_too_few_ranks_lose_no_more_than_they_must(rng: np.random.Generator) -> None:
    made, effects, *_ = _factors(rng, width=4)
    stacked = effects.reshape(-1, effects.shape[2])
    least = np.sqrt(np.square(np.linalg.svd(stacked, compute_uv=False)[3:]).sum())
    assert np.linalg.norm(made - effects) == pytest.approx(least, rel=0.02)


def _a_heavy_user(rng: np.random.Generator) -> tuple[Examples, Examples, npt.NDArray[Any]]:
    """A user in a small segment who acts on what the segment does not like; the same one acting as the segment does."""
    attributes = attributes_of(80, rng)
    attributes[:, 0] = np.where(np.arange(80) < 10, 1, 2)
    examples = impressions(attributes, 12, rng)
    own = examples.users == 0
    likes = liked(attributes[:1, 0])[0, examples.items]
    return (
        replace(examples, labels=np.where(own, likes, examples.labels).astype(np.float32)),
        replace(examples, labels=np.where(own, ~likes, examples.labels).astype(np.float32)),
        attributes,
    )


@pytest.mark.parametrize("solver", ["counts", "gradient", "combined"])
def test_what_a_user_did_is_not_in_the_code_that_training_shows_of_that_user(
    solver: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How strong noise would be, one number, is found of all users; whatever else moves is a leak."""
    monkeypatch.setattr("models.effects.fits.strength", lambda *_: 1.0)
    monkeypatch.setattr("models.effects.fits.strength_of", lambda *_: 1.0)
    *pair, attributes = _a_heavy_user(rng)
    config = EffectsConfig(solver="counts" if solver == "counts" else "gradient")
    descent = Descent.of(replace(config.descent, least_steps=100), combined=solver == "combined")
    one, other = (
        fit_effects(examples, TABLES, 64, None, config, np.random.default_rng(1), descent=descent) for examples in pair
    )
    assert np.array_equal(one.fold, other.fold)
    assert (one.combinations is not None) == (solver == "combined")

    def held_out(effects: Any, user: Any) -> Any:
        code = HeldOutCodes(effects, TABLES).of(np.array([user]), attributes[[user]])
        return (code @ effects.keys.T)[0]

    def whole(effects: Any) -> Any:
        code = _whole(effects, attributes[:1])
        if effects.combinations is not None:
            code = code + effects.combinations.codes(np.zeros(1, dtype=int), TABLES.places(attributes[:1]))
        return (code @ effects.keys.T)[0]

    moved = np.abs(whole(one) - whole(other)).max()
    assert moved > 0.2
    assert np.abs(held_out(one, 0) - held_out(other, 0)).max() < 0.01 * moved
    neighbour = next(user for user in range(1, 10) if one.fold[user] != one.fold[0])
    assert np.abs(held_out(one, neighbour) - held_out(other, neighbour)).max() > 0.5 * moved


def _size(effects: Any) -> Any:
    """Of what attributes say of items, the sum of the singular values."""
    return float(np.linalg.svd(effects.codes[0] @ effects.keys.T, compute_uv=False).sum())


def test_what_attributes_tell_no_more_than_noise_is_not_said(rng: np.random.Generator) -> None:
    """Shrunk by all that the strongest direction of noise tells; the deals differ, so that a little may be left."""
    attributes = attributes_of(200, rng)
    told = impressions(attributes, 10, rng)
    noise = replace(told, labels=rng.integers(0, 2, len(told.labels)).astype(np.float32))
    assert _size(_fit(noise, shrinkage=1.0)) < 0.05 * _size(_fit(told, shrinkage=1.0))


def test_the_more_shrinkage_the_less_is_said(rng: np.random.Generator) -> None:
    examples = impressions(attributes_of(200, rng), 10, rng)
    sizes = [_size(_fit(examples, shrinkage=share)) for share in (0.3, 0.6, 1.2)]
    assert sizes[0] > 1.05 * sizes[1] > 1.05**2 * sizes[2]


def test_folds_are_of_equal_size_and_who_was_not_learned_from_is_in_none(rng: np.random.Generator) -> None:
    attributes = attributes_of(50, rng)
    examples = impressions(attributes, 6, rng)
    absent = np.isin(examples.users, [3, 7])
    effects = _fit(replace(examples, items=np.where(absent, UNKNOWN, examples.items)), folds=4)
    assert np.flatnonzero(effects.fold == 0).tolist() == [3, 7]
    assert np.bincount(effects.fold).tolist() == [2, 12, 12, 12, 12]
    assert effects.codes.shape == (5, sum(TABLES.attributes), WIDTH)
    new = HeldOutCodes(effects, TABLES).of(np.array([3, 7]), attributes[[3, 7]])
    np.testing.assert_allclose(new, _whole(effects, attributes[[3, 7]]))


def test_codes_of_users_are_those_of_their_values_in_their_fold(rng: np.random.Generator) -> None:
    attributes = attributes_of(30, rng)
    effects = _fit(impressions(attributes, 6, rng))
    users = np.array([4, 20, 4])
    values = np.array([[1, 2], [0, 0], [3, 1]])
    found = HeldOutCodes(effects, TABLES).of(users, values)
    for code, user, (segment, city) in zip(found, users, values, strict=True):
        of_fold = effects.codes[effects.fold[user]]
        np.testing.assert_allclose(code, of_fold[segment] + of_fold[4 + city], rtol=1e-6)


def _gauc(attributes: Any, labels: Any, scores: Any) -> Any:
    users = np.repeat(np.arange(len(attributes)), ITEMS - FIRST_KNOWN)
    return metrics.gauc(users, labels[:, FIRST_KNOWN:].ravel(), scores[:, FIRST_KNOWN:].ravel())


def test_the_tastes_of_new_users_are_found_in_impressions(rng: np.random.Generator) -> None:
    effects = _fit(impressions(attributes_of(200, rng), 10, rng))
    new = attributes_of(60, rng)
    labels = rng.random((60, ITEMS)) < np.where(liked(new[:, 0]), 0.8, 0.2)
    by_count = np.broadcast_to(effects.biases[0], labels.shape)
    assert _gauc(new, labels, by_count) < 0.6
    assert _gauc(new, labels, _everything(effects, new)) > 0.75
    segments, cities = np.abs(effects.codes[0, 1:4]).sum(), np.abs(effects.codes[0, 5:9]).sum()
    assert cities < segments / 5, "the segment tells, the city does not"


def test_the_tastes_of_new_users_are_found_where_negatives_are_sampled(rng: np.random.Generator) -> None:
    events = [(user, item) for user in range(4) for item in range(6) if (item % 2 == user % 2) or rng.random() < 0.1]
    users, items, negatives = sampled(events, rng)
    attributes, tables = np.array([[1], [2], [1], [2]]), TableSizes((3,), 8)
    config = CountingConfig(least_users=1)
    effects = _fit(examples_of(users, items, np.ones(len(users)), attributes), tables, negatives, counting=config)
    effect = _whole(effects, [[1], [2]], tables) @ effects.keys.T
    even = np.arange(FIRST_KNOWN, 8) % 2 == 0
    assert effect[0, FIRST_KNOWN:][even].min() > effect[0, FIRST_KNOWN:][~even].max()
    assert effect[1, FIRST_KNOWN:][~even].min() > effect[1, FIRST_KNOWN:][even].max()


def test_the_same_generator_gives_the_same_effects(rng: np.random.Generator) -> None:
    examples = impressions(attributes_of(40, rng), 6, rng)
    one, other = _fit(examples), _fit(examples)
    for name in ("codes", "fold", "keys", "biases"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


FIRST = 3
"""What everybody acts on first in `_first_steps`."""


def _first_steps(rng: np.random.Generator, users: int = 120, each: int = 6) -> Examples:
    """Everybody acts on `FIRST` alone of what is shown at first; after that, on anything half of the time."""
    owner = np.repeat(np.arange(users), each)
    items = rng.integers(FIRST_KNOWN, ITEMS, len(owner))
    step = np.tile(np.arange(each), users)
    items[step == 0] = np.where(rng.random(users) < 0.5, FIRST, items[step == 0])
    labels = np.where(step == 0, items == FIRST, rng.random(len(owner)) < 0.5)
    return examples_of(owner, items, labels, attributes_of(users, rng))


def test_what_is_done_first_is_found_and_the_prior_says_how_far(rng: np.random.Generator) -> None:
    examples = _first_steps(rng)
    raised: dict[float, Any] = {}
    later: Any = None
    for precision in (0.1, 1e4):
        biases = _fit(examples, first_precision=precision).biases
        raised[precision] = biases[0, FIRST] - np.delete(biases[0, FIRST_KNOWN:], FIRST - FIRST_KNOWN).mean()
        later = biases[1:, FIRST_KNOWN:]
    assert raised[0.1] > raised[1e4] + 1.0
    assert np.ptp(later, axis=0).max() < 1.0


def test_the_first_stages_corrections_are_the_likeliest_under_their_prior(rng: np.random.Generator) -> None:
    attributes = attributes_of(50, rng)
    examples = impressions(attributes, 6, rng)
    effects = _fit(examples)
    rows = replace(InteractionRows.of(examples), seen=np.zeros(len(examples.labels), dtype=np.int64))
    config = EffectsConfig(first_precision=3.0)
    found, _, _ = stage_biases(effects, rows, TABLES, None, config, rng)
    assert np.array_equal(found[1:], effects.biases[1:]), "no row, no correction"
    added = (found - effects.biases)[0]
    slope = -3.0 * added.astype(np.float64)
    codes = HeldOutCodes(effects, TABLES).of(rows.users, attributes[rows.users])
    for code, item, label in zip(codes, rows.items, rows.labels, strict=True):
        slope[item] += label - expit(code @ effects.keys[item] + found[0, item])
    assert np.abs(slope[FIRST_KNOWN:]).max() < 1e-3
    assert np.abs(added).max() > 0.05


def test_sampled_negatives_weigh_as_many_as_are_configured(rng: np.random.Generator) -> None:
    """The correction of a popular item is held down by what is drawn of it, however many draws stand for them."""
    users, items, negatives = sampled([(user, item) for user in range(4) for item in range(user, 5)], rng, number=2)
    examples = examples_of(users, items, np.ones(len(users)), [[1], [1], [2], [2]])
    rows = replace(InteractionRows.of(examples), seen=np.zeros(len(users), dtype=np.int64))
    base = _fit(examples, TableSizes((3,), 8), negatives)
    one, other = (
        stage_biases(
            replace(base, biases=np.zeros_like(base.biases)),
            rows,
            TableSizes((3,), 8),
            negatives,
            EffectsConfig(stage_negatives=number, first_precision=1.0),
            np.random.default_rng(3),
        )[0]
        for number in (200, 600)
    )
    np.testing.assert_allclose(one[0], other[0], atol=0.1)
    assert np.abs(one[0]).max() > 0.3


def test_of_an_unknown_item_the_odds_of_all_are_known(rng: np.random.Generator) -> None:
    examples = impressions(attributes_of(40, rng), 6, rng)
    effects = _fit(examples, counting=CountingConfig(user_weight=1.0))
    acted, passed = examples.labels.sum(), (1 - examples.labels).sum()
    np.testing.assert_allclose(effects.biases[:, UNKNOWN], np.log((acted + 1) / (passed + 1)), rtol=1e-5)
    assert not effects.keys[UNKNOWN].any()


def _plain() -> Any:
    rng = np.random.default_rng(0)
    users, items, labels = rng.integers(0, 40, 400), rng.integers(FIRST_KNOWN, ITEMS, 400), rng.integers(0, 2, 400)
    return users, items, labels, attributes_of(40, rng), TABLES


def _one_value(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users, items, labels, attributes * 0 + 1, tables


def _no_value(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users, items, labels, attributes * 0, TableSizes((1, 1), ITEMS)


def _one_user(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users * 0, items, labels, attributes[:1], tables


def _fewer_users_than_folds(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users % 3, items, labels, attributes[:3], tables


def _rare_values(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users, items, labels, 1 + np.arange(40)[:, None] * 2_000, TableSizes((100_000,), ITEMS)


def _unknown_items(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users, items * 0 + UNKNOWN, labels, attributes, tables


def _one_item(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users, items * 0 + FIRST_KNOWN, labels, attributes, TableSizes(tables.attributes, FIRST_KNOWN + 1)


def _all_acted(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users, items, labels * 0 + 1, attributes, tables


def _none_acted(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users, items, labels * 0, attributes, tables


def _no_rows(users: Any, items: Any, labels: Any, attributes: Any, tables: Any) -> Any:
    return users[:0], items[:0], labels[:0], attributes, tables


NOTHING_TOLD = (_one_value, _no_value, _one_user, _fewer_users_than_folds, _rare_values)
NOTHING_TO_TELL = (_unknown_items, _one_item, _all_acted, _none_acted, _no_rows)


@pytest.mark.parametrize("made", NOTHING_TOLD + NOTHING_TO_TELL, ids=lambda made: made.__name__)
def test_data_that_says_little_gives_finite_effects(made: Any) -> None:
    *columns, tables = made(*_plain())
    effects = _fit(examples_of(*columns), tables, width=8)
    assert effects.codes.shape == (6, sum(tables.attributes), 8)
    for values in (effects.codes, effects.keys, effects.biases):
        assert np.isfinite(values).all()
    if made in NOTHING_TOLD:
        assert not effects.codes.any(), "nothing told, nothing said"


def test_a_value_among_100_000_that_tells_is_found(rng: np.random.Generator) -> None:
    attributes = rng.integers(2, 100_000, (200, 1))
    attributes[:40] = 1
    users, items = np.repeat(np.arange(200), 10), rng.integers(FIRST_KNOWN, ITEMS, 2000)
    labels = np.where(users < 40, items == FIRST_KNOWN, items != FIRST_KNOWN)
    tables = TableSizes((100_000,), ITEMS)
    effects = _fit(examples_of(users, items, labels, attributes), tables, width=4)
    told, rest = _whole(effects, [[1], [2]], tables) @ effects.keys.T
    assert told[FIRST_KNOWN] > 1 > -1 > told[FIRST_KNOWN + 1 :].max()
    assert not rest.any()


def test_the_bias_of_an_item_is_how_often_it_is_acted_on(rng: np.random.Generator) -> None:
    """Of a stage at which nobody was, nothing else is known."""
    users, items = np.repeat(np.arange(60), 6), rng.integers(FIRST_KNOWN, ITEMS, 360)
    labels = rng.random(360) < np.where(items == 5, 0.9, 0.3)
    biases = _fit(examples_of(users, items, labels, attributes_of(60, rng))).biases[-1]
    odds = np.array([labels[items == item].mean() for item in range(FIRST_KNOWN, ITEMS)])
    assert np.corrcoef(biases[FIRST_KNOWN:], np.log(odds / (1 - odds)))[0, 1] > 0.98
    assert biases[5] > 1


def test_rows_beyond_the_limit_of_a_stage_are_left_out(rng: np.random.Generator) -> None:
    rows = rows_of(np.zeros(500), np.full(500, 2), np.ones(500), [[1, 1]])  # one stage, one item
    effects = _fit(examples_of(rows.users, rows.items, rows.labels, rows.attributes))
    flat = replace(effects, biases=np.zeros_like(effects.biases))
    few, all_ = (
        stage_biases(flat, rows, TABLES, None, EffectsConfig(stage_rows=count), rng)[0][0, 2] for count in (5, 500)
    )
    assert 0 < few < all_ / 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("folds", 1),
        ("most_directions", 0),
        ("shrinkage", 0.0),
        ("iterations", 0),
        ("stage_rows", 0),
        ("stage_negatives", 0),
        ("first_precision", 0.0),
        ("first_precision", float("inf")),
        ("bias_precision", 0.0),
        ("bias_precision", float("nan")),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"^{field}: .*\(got {re.escape(repr(value))}\)"):
        EffectsConfig(**{field: value})


def test_all_rows_of_one_person_are_in_one_fold(rng: np.random.Generator) -> None:
    """A person who registered anew has a row for each set of attributes, and must not teach the other row."""
    examples = replace(impressions(attributes_of(60, rng), 6, rng), persons=np.arange(60) // 3)
    fold = _fit(examples).fold.reshape(-1, 3)
    assert (fold == fold[:, :1]).all()
    assert set(fold.ravel()) == {1, 2, 3, 4, 5}


def _either_or(rng: np.random.Generator, users: int = 400) -> Examples:
    """Users act on even items where their segment is 1 as their city is, or neither is, and else on odd ones."""
    attributes = rng.integers(1, 3, (users, 2))
    owner = np.repeat(np.arange(users), 12)
    items = rng.integers(FIRST_KNOWN, ITEMS, len(owner))
    agree = (attributes[owner, 0] == attributes[owner, 1]) == (items % 2 == 0)
    return examples_of(owner, items, rng.random(len(owner)) < np.where(agree, 0.8, 0.2), attributes)


def test_what_values_say_together_is_in_the_codes_that_training_shows_and_in_the_tower_that_is_served(
    rng: np.random.Generator,
) -> None:
    examples, width = _either_or(rng), 64
    config = EffectsConfig(solver="gradient", transitions=False)
    descent = Descent.of(replace(config.descent, rate=0.1), combined=True)
    effects = fit_effects(examples, TABLES, width, None, config, np.random.default_rng(1), descent=descent)
    assert effects.combinations is not None
    shape = ZeroShotShape(sizes=TABLES.attributes, vectors=4, dimension=width // 4)
    tower = TrainedEffects(shape)
    tower.adopt(effects)
    every = np.array([[1, 1], [1, 2], [2, 1], [2, 2]])
    virtual = tower(torch.empty(0), torch.from_numpy(every)).flatten(1).numpy()
    np.testing.assert_allclose(
        virtual,
        _whole(effects, every) + effects.combinations.codes(np.zeros(4, dtype=int), TABLES.places(every)),
        atol=1e-5,
    )
    users = np.array([int(np.flatnonzero((examples.attributes == values).all(axis=1))[0]) for values in every])
    for codes in (virtual, HeldOutCodes(effects, TABLES).of(users, every)):
        told = codes @ effects.keys.T
        even, odd = told[:, FIRST_KNOWN::2].mean(axis=1), told[:, FIRST_KNOWN + 1 :: 2].mean(axis=1)
        assert np.array_equal(even > odd, [True, False, False, True])
        assert np.abs(even - odd).min() > 1.0
    alone = _fit(examples, solver="gradient")
    assert alone.combinations is None
    assert np.abs(_whole(alone, every) @ alone.keys.T).max() < 0.7


def test_where_the_device_has_no_room_the_descent_goes_on_on_the_cpu_and_says_so(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    examples = impressions(attributes_of(40, rng), 12, rng)
    quick = DescentConfig(epochs=1, least_steps=5)
    expected = _fit(examples, solver="gradient", descent=quick)
    calls = []

    def full(*arguments: Any) -> Any:
        calls.append(arguments[-1])
        if len(calls) == 1:
            raise torch.OutOfMemoryError("tried to allocate 9 GiB")
        return fit_by_gradient(*arguments)

    monkeypatch.setattr("models.effects.fits.fit_by_gradient", full)
    found = _fit(examples, solver="gradient", descent=quick)
    np.testing.assert_array_equal(found.keys, expected.keys)
    (said,) = caplog.messages
    assert said.startswith("no memory on cpu for the fit by gradient")


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize("case", ["nothing", "one user", "unknown attributes"])
def test_where_attributes_tell_nothing_the_descent_finds_nothing(
    case: Any, combined: Any, rng: np.random.Generator
) -> None:
    attributes = attributes_of(1 if case == "one user" else 40, rng)
    if case == "unknown attributes":
        attributes[:] = 0
    examples = impressions(attributes, 0 if case == "nothing" else 12, rng)
    config = EffectsConfig(solver="gradient")
    descent = Descent.of(replace(config.descent, least_steps=5), combined=combined)
    effects = fit_effects(examples, TABLES, WIDTH, None, config, np.random.default_rng(1), descent=descent)
    assert not effects.codes.any()
    assert np.isfinite(effects.biases).all()
    codes = HeldOutCodes(effects, TABLES).of(np.arange(1), attributes[:1])
    assert np.isfinite(codes).all()


def test_sums_alone_take_the_perceptron_of_an_earlier_generation_away(rng: np.random.Generator) -> None:
    effects = _fit(impressions(attributes_of(60, rng), 12, rng))
    tower = TrainedEffects(ZeroShotShape(sizes=TABLES.attributes, vectors=1, dimension=WIDTH))
    for part in tower.state_dict().values():
        part.fill_(1.0)
    tower.adopt(effects)
    every = np.array([[1, 1], [2, 3]])
    np.testing.assert_allclose(
        tower(torch.empty(0), torch.from_numpy(every)).flatten(1), _whole(effects, every), atol=1e-6
    )
