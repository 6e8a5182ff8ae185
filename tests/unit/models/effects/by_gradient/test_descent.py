"""The factors by gradient: what they come to, and the parts beside the sum of codes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional

from foretaste.kernel.errors import ForetasteError, InvalidInput
from models.effects.by_gradient.batches import Batches
from models.effects.by_gradient.descent import _slopes, fit_by_gradient
from models.effects.by_gradient.factors import DescentConfig, Factors, GradientFit
from models.effects.by_gradient.rows import SparseRows
from models.effects.cells import SparseCounts
from models.effects.discrepancy import discrepancy
from models.effects.low_rank import (
    Counts,
    Design,
    Fit,
    Penalty,
    Weights,
    _logits,
    _loss,
    begin,
    fitted,
    slope_at_zero,
    strength,
)

pytestmark = pytest.mark.usefixtures("one_thread")
CELLS, ITEMS, SIZE = 60, 30, 8
CPU = torch.device("cpu")
PLAIN = DescentConfig(combined_directions=0)
OF_ITEMS = Design(torch.arange(ITEMS).unsqueeze(1) % 3, 3)


def _problem(rng: np.random.Generator, items: Design | None = None) -> tuple[SparseRows, Counts, Design]:
    """Cells of two attributes of four values each; what is acted on depends on both, sampled negatives on none."""
    values = np.stack([np.arange(CELLS) % 4, 4 + np.arange(CELLS) // 4 % 4], axis=1)
    tastes, keys = rng.normal(size=(SIZE, 2)), rng.normal(size=(2, ITEMS))
    share = np.exp(tastes[values].sum(axis=1) @ keys)
    acted = rng.poisson(40 * share / share.sum(axis=1, keepdims=True)).astype(float)
    popularity = acted.sum(axis=0) / acted.sum()
    counts = SparseCounts(
        sparse.csr_matrix(acted), sparse.csr_matrix(acted.shape), 4 * acted.sum(axis=1)[None], popularity[None]
    )
    rows = np.arange(CELLS)
    return SparseRows(counts), counts.counts(rows, rows, CELLS), Design(torch.from_numpy(values), SIZE, items)


def _start(counts: Counts, design: Design, share: float = 0.1) -> tuple[Penalty, Fit]:
    weights = Weights.of(counts, design)
    threshold = share * strength(slope_at_zero(counts, design, weights), seed=1)
    return Penalty(threshold, weights, 0.5), begin(counts, design, weights, threshold, 4, seed=1)


def _fitted(*arguments: Any) -> GradientFit:
    return fit_by_gradient(*arguments).found()


def _loss_of(fit: Fit, counts: Counts, design: Design, penalty: Penalty) -> float:
    return _loss(counts, penalty, fit, _logits(design, fit))


@pytest.mark.parametrize("items", [None, OF_ITEMS], ids=["items alone", "items of kinds"])
@pytest.mark.parametrize(("pool", "tolerance"), [(4096, 0.002), (ITEMS // 2, 0.1)], ids=["all items", "a pool"])
def test_it_comes_to_about_the_least_loss(items: Any, pool: Any, tolerance: Any, rng: np.random.Generator) -> None:
    """Of the way from the first step to what L-BFGS finds, all but `tolerance` is gone."""
    rows, counts, design = _problem(rng, items)
    penalty, first = _start(counts, design)
    begun, least = (
        _loss_of(fit, counts, design, penalty) for fit in (first, fitted(counts, design, penalty, first, 400))
    )
    found = _fitted(rows, design, penalty, first, replace(PLAIN, batch=CELLS // 2, pool=pool), 1, CPU)
    assert begun > least + 10
    assert _loss_of(found.fit, counts, design, penalty) - least < tolerance * (begun - least)
    assert found.combination is None


def _two_windows(rows: SparseRows) -> SparseRows:
    return SparseRows(rows.counts + replace(rows.counts, popularity=rows.counts.popularity[:, ::-1]))


@pytest.mark.parametrize("pool", [4096, 6], ids=["all items", "a pool"])
def test_the_slopes_are_those_of_the_loss(pool: Any, rng: np.random.Generator) -> None:
    """Of the rest beyond the pool, of a bound that is never below it."""
    rows, _, design = _problem(rng)
    batch = Batches(_two_windows(rows), design, pool, CPU).batch(torch.tensor([7, 3, 40]))
    codes, keys, bias = (torch.randn(shape, requires_grad=True) for shape in ((3, 2), (ITEMS, 2), (ITEMS,)))
    item, expected_of = batch.used[batch.place], batch.used[len(batch.item_starts) :]
    assert len(expected_of) == (ITEMS if pool > ITEMS else pool + (ITEMS - pool) // 4)
    z = (codes[batch.row] * keys[item]).sum(1) + bias[item]
    loss = (batch.met * functional.softplus(z) - batch.acted * z).sum()
    near, far = expected_of.split([batch.of_pool.shape[1], batch.of_rest.shape[1]])
    loss = loss + (batch.drawn.T @ batch.of_pool * functional.softplus(codes @ keys[near].T + bias[near])).sum()
    effect, b = codes @ keys[far].T, bias[far]
    bound = functional.softplus(b) + b.sigmoid() * effect + (b / 2).tanh() / (4 * b) * effect.square()
    assert bool((bound >= functional.softplus(b + effect) - 1e-6).all())
    loss = 0.5 * (loss + (batch.drawn.T @ batch.of_rest * bound).sum())
    loss.backward()
    slopes = _slopes(codes.detach(), keys.detach()[batch.used], bias.detach()[batch.used], batch, 0.5)
    torch.testing.assert_close(slopes.codes, codes.grad)
    for own, parameter in ((slopes.keys, keys), (slopes.bias, bias)):
        found = torch.zeros_like(parameter).index_add(0, batch.used, own)
        torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-4)


def test_the_rest_comes_in_parts_that_make_up_the_whole(rng: np.random.Generator) -> None:
    rows, _, design = _problem(rng)
    batches, found = Batches(rows, design, 4, CPU), torch.zeros(ITEMS)
    for _ in range(4):
        batch = batches.batch(torch.tensor([0]))
        near, far = batch.used[len(batch.item_starts) :].split([4, batch.of_rest.shape[1]])
        found[near] = batch.of_pool[0]
        found[far] += batch.of_rest[0] / 4
    np.testing.assert_allclose(found, rows.counts.popularity[0], rtol=1e-5)


def test_a_batch_holds_all_entries_of_its_rows(rng: np.random.Generator) -> None:
    rows, _, design = _problem(rng)
    chosen = torch.tensor([7, 3, 40, 7])
    batch = Batches(rows, design, 4096, CPU).batch(chosen)
    acted = torch.zeros(len(chosen), ITEMS)
    acted[batch.row, batch.used[batch.place]] = batch.acted
    np.testing.assert_array_equal(acted, rows.counts.acted[chosen.numpy()].todense())


def test_rare_items_beyond_the_pool_are_no_likelier_than_they_are(rng: np.random.Generator) -> None:
    """From the least loss over all items: with a pool of a hundredth of them, the others' biases stay."""
    cells, items = 400, 1600
    popularity = (1.0 + np.arange(items)) ** -0.8
    popularity /= popularity.sum()
    acted = rng.poisson(8 * popularity, (cells, items)).astype(float)
    shares = acted.sum(axis=0) / acted.sum()
    counts = SparseCounts(
        sparse.csr_matrix(acted), sparse.csr_matrix(acted.shape), 4 * acted.sum(axis=1)[None], shares[None]
    )
    design, number = Design(torch.from_numpy(np.arange(cells)[:, None] % 4), 4), np.arange(cells)
    dense = counts.counts(number, number, cells)
    penalty, first = _start(dense, design, share=0.6)
    least = fitted(dense, design, penalty, first, 400)
    found = _fitted(SparseRows(counts), design, penalty, least, replace(PLAIN, pool=16), 1, CPU).fit
    rare = torch.from_numpy((acted.sum(axis=0) > 0) & (acted.sum(axis=0) <= 10))
    assert rare.sum() > 500
    assert abs(float((found.bias - least.bias)[rare].mean())) < 0.1


def test_more_is_never_taken_off_an_entry_than_is_expected_of_it(rng: np.random.Generator) -> None:
    """Windows that became one share out what is expected anew; what was met is taken off as it was counted."""
    rows, _, design = _problem(rng)
    counts = rows.counts
    taken = -3 * counts.acted
    batch = Batches(SparseRows(replace(counts, passed=taken)), design, 4096, CPU).batch(torch.arange(CELLS))
    expected = (batch.drawn.T @ batch.of_pool)[
        batch.row, batch.used[len(batch.item_starts) :].argsort()[batch.used[batch.place]]
    ]
    assert bool((batch.met - batch.acted + expected >= -1e-4).all())


def _either_or(rng: np.random.Generator) -> tuple[SparseRows, Counts, Design]:
    """Half of the items are acted on where two values agree, the others where they do not: no sum can tell which."""
    values = np.stack([np.arange(CELLS) % 2, 2 + np.arange(CELLS) // 2 % 2], axis=1)
    agree = (values[:, 0] == values[:, 1] - 2)[:, None] == (np.arange(ITEMS) % 2 == 0)
    acted = rng.binomial(20, np.where(agree, 0.7, 0.3)).astype(float)
    counts = SparseCounts(
        sparse.csr_matrix(acted), sparse.csr_matrix(20 - acted), np.zeros((0, CELLS)), np.zeros((0, ITEMS))
    )
    rows = np.arange(CELLS)
    return SparseRows(counts), counts.counts(rows, rows, CELLS), Design(torch.from_numpy(values), 4)


def _told(found: GradientFit, design: Design, rows: SparseRows) -> float:
    """Of entries, whether the logit is on the side that most of the cell's users are on: the share."""
    codes = design.of_cells(found.fit.left)
    if found.combination is not None:
        with torch.inference_mode():
            codes = codes + found.combination(design.values)
    z = torch.addmm(found.fit.bias, codes, found.fit.right.T).numpy()
    acted, passed = (np.asarray(each.todense()) for each in (rows.counts.acted, rows.counts.passed))
    return float(((z > 0) == (acted > passed))[acted != passed].mean())


def test_a_perceptron_tells_what_no_sum_of_values_can(rng: np.random.Generator) -> None:
    rows, counts, design = _either_or(rng)
    weights = Weights.of(counts, design)
    penalty = Penalty(1.0, weights, 0.5)
    first = begin(counts, design, weights, 1.0, 2, seed=1)
    alone, together = (
        _fitted(rows, design, penalty, first, DescentConfig(combined_directions=directions, rate=0.1), 1, CPU)
        for directions in (0, 2)
    )
    assert _told(alone, design, rows) < 0.7
    assert _told(together, design, rows) > 0.9


def test_one_seed_gives_the_same_factors(rng: np.random.Generator) -> None:
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)
    config = DescentConfig(combined_directions=2, reconstruction=0.1, discrepancy=0.1, least_steps=20, pool=8)
    one, same, other = (_fitted(rows, design, penalty, first, config, seed, CPU) for seed in (1, 1, 2))
    for own, again in zip(one.fit, same.fit, strict=True):
        assert torch.equal(own, again)
    assert not torch.equal(one.fit.right, other.fit.right)


def test_the_papers_losses_draw_the_codes_of_behaviour_and_attributes_together(rng: np.random.Generator) -> None:
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)
    batch = Batches(rows, design, 4096, CPU).batch(torch.arange(CELLS))

    def apart(config: DescentConfig) -> float:
        factors = fit_by_gradient(rows, design, penalty, first, config, 1, CPU).eval()
        assert factors.encoder is not None
        with torch.inference_mode():
            return float(discrepancy(factors.codes(batch.values), factors.encoder(batch)))

    plain = apart(replace(PLAIN, reconstruction=1.0))
    drawn = apart(replace(PLAIN, reconstruction=1.0, discrepancy=10.0))
    assert plain > 0.02
    assert drawn < plain / 2


def test_a_code_of_behaviour_tells_what_its_row_acts_on(rng: np.random.Generator) -> None:
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)
    factors = fit_by_gradient(rows, design, penalty, first, replace(PLAIN, reconstruction=1.0), 1, CPU).eval()
    batch = Batches(rows, design, 4096, CPU).batch(torch.arange(CELLS))
    assert factors.encoder is not None
    with torch.inference_mode():
        z = factors.encoder(batch) @ factors.keys(torch.arange(ITEMS)).T + factors.bias
    acted = torch.from_numpy(rows.counts.acted.toarray())
    share = acted / acted.sum(1, keepdim=True)
    likeness = np.corrcoef((z - z.mean(0)).ravel(), (share - share.mean(0)).ravel())[0, 1]
    assert likeness > 0.5


def test_what_decays_is_small(rng: np.random.Generator) -> None:
    rows, counts, design = _either_or(rng)
    weights = Weights.of(counts, design)
    first = begin(counts, design, weights, 1.0, 2, seed=1)

    def size(decay: float) -> float:
        config = DescentConfig(combined_directions=2, decay=decay)
        combination = _fitted(rows, design, Penalty(1.0, weights, 0.5), first, config, 1, CPU).combination
        assert combination is not None
        return float(combination.second.weight.detach().norm())

    assert size(100.0) < size(0.0) / 2


def test_factors_that_are_not_finite_are_an_error(rng: np.random.Generator) -> None:
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)
    broken = first._replace(bias=torch.full_like(first.bias, torch.nan))
    with pytest.raises(ForetasteError, match="not finite"):
        _fitted(rows, design, penalty, broken, DescentConfig(least_steps=2), 1, CPU)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch", 0), ("pool", 0), ("rate", 0.0), ("combined_directions", -1), ("discrepancy", 0.1)],
)
def test_a_setting_that_cannot_be_is_refused_by_field_and_value(field: Any, value: Any) -> None:
    with pytest.raises(InvalidInput, match=field):
        replace(DescentConfig(), **{field: value})


def test_no_directions_are_fitted_too(rng: np.random.Generator) -> None:
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)
    none = Fit(first.bias, first.left[:, :0], first.right[:, :0])
    for config in (PLAIN, replace(PLAIN, reconstruction=0.1, discrepancy=0.1)):
        found = _fitted(rows, design, penalty, none, replace(config, least_steps=50), 1, CPU)
        assert found.fit.left.shape == (SIZE, 0)
    assert Factors(design, penalty, none, PLAIN).keys(torch.arange(ITEMS)).shape == (ITEMS, 0)
    assert discrepancy(torch.zeros(3, 0), torch.zeros(4, 0)) == 0
