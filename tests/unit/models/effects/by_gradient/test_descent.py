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
from models.effects.by_gradient.descent import _slopes, descended
from models.effects.by_gradient.factors import DescentConfig, Factors, Found
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


def _start(counts: Counts, design: Design) -> tuple[Penalty, Fit]:
    weights = Weights.of(counts, design)
    threshold = 0.1 * strength(slope_at_zero(counts, design, weights), seed=1)
    return Penalty(threshold, weights, 0.5), begin(counts, design, weights, threshold, 4, seed=1)


def _loss_of(fit: Fit, counts: Counts, design: Design, penalty: Penalty) -> float:
    return _loss(counts, penalty, fit, _logits(design, fit))


@pytest.mark.parametrize("items", [None, OF_ITEMS], ids=["items alone", "items of kinds"])
@pytest.mark.parametrize(("pool", "tolerance"), [(4096, 0.002), (ITEMS // 2, 0.05)], ids=["all items", "a pool"])
def test_it_comes_to_about_the_least_loss(items: Any, pool: Any, tolerance: Any, rng: np.random.Generator) -> None:
    """Of the way from the first step to what L-BFGS finds, all but `tolerance` is gone."""
    rows, counts, design = _problem(rng, items)
    penalty, first = _start(counts, design)
    begun, least = (
        _loss_of(fit, counts, design, penalty) for fit in (first, fitted(counts, design, penalty, first, 400))
    )
    found = descended(rows, design, penalty, first, replace(PLAIN, batch=CELLS // 2, pool=pool), 1, CPU)
    assert begun > least + 10
    assert _loss_of(found.fit, counts, design, penalty) - least < tolerance * (begun - least)
    assert found.combination is None


@pytest.mark.parametrize("pool", [4096, 6], ids=["all items", "a pool"])
def test_the_slopes_are_those_of_the_loss(pool: Any, rng: np.random.Generator) -> None:
    rows, _, design = _problem(rng)
    two_windows = SparseRows(rows.counts + replace(rows.counts, popularity=rows.counts.popularity[:, ::-1]))
    batch = Batches(two_windows, design, pool, CPU, seed=1).batch(torch.tensor([7, 3, 40]))
    codes, keys, bias = (torch.randn(shape, requires_grad=True) for shape in ((3, 2), (ITEMS, 2), (ITEMS,)))
    item, of_pool = batch.used[batch.place], batch.used[len(batch.item_starts) :]
    assert len(of_pool) == min(pool, ITEMS)
    z = (codes[batch.row] * keys[item]).sum(1) + bias[item]
    loss = (batch.met * functional.softplus(z) - batch.acted * z).sum()
    expected = batch.drawn.T @ batch.ratio
    loss = 0.5 * (loss + (expected * functional.softplus(codes @ keys[of_pool].T + bias[of_pool])).sum())
    loss.backward()
    slopes = _slopes(codes.detach(), keys.detach()[batch.used], bias.detach()[batch.used], batch, 0.5)
    torch.testing.assert_close(slopes.codes, codes.grad)
    for own, parameter in ((slopes.keys, keys), (slopes.bias, bias)):
        torch.testing.assert_close(torch.zeros_like(parameter).index_add(0, batch.used, own), parameter.grad)


def test_a_batch_holds_all_entries_of_its_rows(rng: np.random.Generator) -> None:
    rows, _, design = _problem(rng)
    chosen = torch.tensor([7, 3, 40, 7])
    batch = Batches(rows, design, 4096, CPU, seed=1).batch(chosen)
    acted = torch.zeros(len(chosen), ITEMS)
    acted[batch.row, batch.used[batch.place]] = batch.acted
    np.testing.assert_array_equal(acted, rows.counts.acted[chosen.numpy()].todense())


def test_a_pool_stands_for_all_items_on_average(rng: np.random.Generator) -> None:
    rows, _, design = _problem(rng)
    batches, found = Batches(rows, design, 8, CPU, seed=1), torch.zeros(ITEMS)
    for _ in range(3000):
        batch = batches.batch(torch.tensor([0]))
        found.index_add_(0, batch.used[len(batch.item_starts) :], batch.ratio[0] / 3000)
    np.testing.assert_allclose(found, rows.counts.popularity[0], atol=0.003)


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


def _told(found: Found, design: Design, rows: SparseRows) -> float:
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
        descended(rows, design, penalty, first, DescentConfig(combined_directions=directions, rate=0.1), 1, CPU)
        for directions in (0, 2)
    )
    assert _told(alone, design, rows) < 0.7
    assert _told(together, design, rows) > 0.9


def test_one_seed_gives_the_same_factors(rng: np.random.Generator) -> None:
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)
    config = DescentConfig(combined_directions=2, reconstruction=0.1, discrepancy=0.1, least_steps=20, pool=8)
    one, same, other = (descended(rows, design, penalty, first, config, seed, CPU) for seed in (1, 1, 2))
    for own, again in zip(one.fit, same.fit, strict=True):
        assert torch.equal(own, again)
    assert not torch.equal(one.fit.right, other.fit.right)


def test_the_papers_losses_draw_the_codes_of_behaviour_and_attributes_together(rng: np.random.Generator) -> None:
    """Eq. 5 with a weight against eq. 5 without: the factors are found with it, and are other ones."""
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)

    def spread(config: DescentConfig) -> float:
        codes = design.of_cells(descended(rows, design, penalty, first, config, 1, CPU).fit.left)
        return float(codes.norm())

    plain = spread(replace(PLAIN, reconstruction=0.1))
    drawn = spread(replace(PLAIN, reconstruction=0.1, discrepancy=10.0))
    assert abs(drawn - plain) > 0.05 * plain


def test_what_a_code_of_behaviour_tells_of_items_is_learned_with_the_keys(rng: np.random.Generator) -> None:
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)
    plain, with_losses = (
        descended(rows, design, penalty, first, replace(PLAIN, reconstruction=weight), 1, CPU).fit
        for weight in (0.0, 1.0)
    )
    assert not torch.allclose(plain.right, with_losses.right, atol=1e-2)
    assert _loss_of(with_losses, counts, design, penalty) < _loss_of(first, counts, design, penalty) * 1.05


def test_factors_that_are_not_finite_are_an_error(rng: np.random.Generator) -> None:
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)
    broken = first._replace(bias=torch.full_like(first.bias, torch.nan))
    with pytest.raises(ForetasteError, match="not finite"):
        descended(rows, design, penalty, broken, DescentConfig(least_steps=2), 1, CPU)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch", 0), ("pool", 1), ("rate", 0.0), ("combined_directions", -1), ("discrepancy", -0.1)],
)
def test_a_setting_that_cannot_be_is_refused_by_field_and_value(field: Any, value: Any) -> None:
    with pytest.raises(InvalidInput, match=field):
        replace(DescentConfig(), **{field: value})


def test_no_directions_are_fitted_too(rng: np.random.Generator) -> None:
    rows, counts, design = _problem(rng)
    penalty, first = _start(counts, design)
    none = Fit(first.bias, first.left[:, :0], first.right[:, :0])
    found = descended(rows, design, penalty, none, replace(PLAIN, least_steps=50), 1, CPU)
    assert found.fit.left.shape == (SIZE, 0)
    assert Factors(design, penalty, none, PLAIN).keys(torch.arange(ITEMS)).shape == (ITEMS, 0)
    assert discrepancy(torch.zeros(3, 0), torch.zeros(4, 0)) == 0
