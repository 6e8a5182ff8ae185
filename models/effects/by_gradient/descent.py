"""The factors of attribute effects by gradient, over counts of which only what was seen is kept.

Shapes: C rows (cells of users), N attributes, G attribute values in all, I items, B values of item attributes, K
directions, E entries of a batch.

What is made least is what `models.effects.low_rank` makes least, by Adam over batches of rows. The entries that were
seen are all read. What is expected of sampled negatives is one number a row times one an item: over the pool of items
of which most are expected it is exact, and over the rest it is bounded by a parabola about each item's bias, since
those items' keys are small. Were the rest sampled, Adam would take the few great slopes of a rare item for as little as
its many small ones, and think it likelier than it is. A row counts by its users, each of whom counts as n interactions
to a power, so that it is regularised by user.

A code may have a part beside the sum: a perceptron over all of a row's values (`Combination`), for what they say
together. And the paper's losses may be added (eqs. 3 to 5), a behaviour encoder beside the attributes', both of whose
codes must tell behaviour and attributes, and be of one distribution: they are weighed by `reconstruction` and
`discrepancy`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.effects.by_gradient.batches import Batches, RowBatch
from models.effects.by_gradient.factors import BehaviourEncoder, DescentConfig, Factors
from models.effects.by_gradient.rows import SparseRows
from models.effects.discrepancy import discrepancy
from models.effects.low_rank import Design, Fit, Penalty

_PARTS_RATE = 0.02
"""Of the perceptron and the encoder, relative to `rate`."""
_NEAR_ZERO = 0.1
"""Of a bias, below which series are exact enough and quotients are not."""
_DISCREPANCY_ROWS = 512
"""Of a batch, among which eq. 5 compares: its cost grows with their square."""


class Slopes(NamedTuple):
    """Of what a batch loses: in its codes (C, K), and in the keys (X, K) and biases (X,) of X items."""

    codes: Tensor
    keys: Tensor
    bias: Tensor


def fit_by_gradient(
    rows: SparseRows,
    design: Design,
    penalty: Penalty,
    first: Fit,
    config: DescentConfig,
    seed: int,
    device: torch.device,
) -> Factors:
    """The factors of about the least loss, from `first` on, and all that was learned beside them."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        factors = Factors(design, penalty, first, config).to(device).train()
        data = Batches(rows, design, config.pool, device)
        if not len(data):
            return factors
        size = min(config.batch or min(max(len(data) // 64, 512), 8192), len(data))
        steps = max(config.epochs * -(-len(data) // size), config.least_steps)
        optimiser = _optimiser(factors, config)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        order = torch.zeros(0, dtype=torch.int64, device=device)
        for _ in range(steps):
            while len(order) < size:
                order = torch.cat([order, torch.randperm(len(data), device=device)])
            chosen, order = order[:size], order[size:]
            optimiser.zero_grad()
            _differentiate(factors, data.batch(chosen), penalty, len(data) / size, data.met, config)
            optimiser.step()
            schedule.step()
    return factors


def _optimiser(factors: Factors, config: DescentConfig) -> torch.optim.Optimizer:
    """Adam, each of the factors at a rate relative to its size."""
    groups: list[dict[str, Any]] = [{"params": [factors.bias], "lr": config.rate}]
    for factor, size in zip((factors.left, factors.right), factors.sizes, strict=True):
        groups.append({"params": [factor], "lr": config.rate * size})
    parts = [part for part in (factors.combination, factors.encoder) if part is not None]
    others = [parameter for part in parts for parameter in part.parameters()]
    groups.append({"params": others, "lr": config.rate * _PARTS_RATE, "weight_decay": config.decay})
    return torch.optim.AdamW(groups, weight_decay=0.0, fused=True)


def _differentiate(
    factors: Factors, batch: RowBatch, penalty: Penalty, share: float, met: float, config: DescentConfig
) -> None:
    """Set the gradients of the loss of a batch that stands for `share` times as many rows, over what was `met` in all.

    Those of the log loss are written out: through autograd a step takes four times as long.
    """
    codes, keys, bias = factors.codes(batch.values), factors.keys(batch.used), factors.biases(batch.used)
    slopes = _slopes(codes.detach(), keys.detach(), bias.detach(), batch, share / met)
    of_keys, of_bias = slopes.keys, slopes.bias
    outputs, given = [codes], [slopes.codes]
    if factors.encoder is not None:
        q = factors.encoder(batch)
        more = _slopes(q.detach(), keys.detach(), bias.detach(), batch, config.reconstruction * share / met)
        of_keys, of_bias = of_keys + more.keys, of_bias + more.bias
        others = config.reconstruction * _of_attributes(factors.encoder, codes, q, batch.values)
        if config.discrepancy:
            others = others + config.discrepancy * discrepancy(codes[:_DISCREPANCY_ROWS], q[:_DISCREPANCY_ROWS])
        outputs, given = [*outputs, q, others], [*given, more.codes, torch.ones_like(others)]
    torch.autograd.backward([*outputs, keys, bias], [*given, of_keys, of_bias])
    with torch.no_grad():
        of_factors = penalty.threshold / met
        ridges = (factors.bias, penalty.bias_precision / met), (factors.left, of_factors), (factors.right, of_factors)
        for parameter, precision in ridges:
            if parameter.grad is not None:
                parameter.grad.add_(parameter, alpha=precision)


def _slopes(codes: Tensor, keys: Tensor, bias: Tensor, batch: RowBatch, weight: float) -> Slopes:
    """Of Σ (acted + passed) log(1 + eᶻ) - acted z, times `weight`, for the items `used`."""
    sizes = [len(batch.item_starts), batch.of_pool.shape[1], batch.of_rest.shape[1]]
    parts = list(zip(torch.split(keys, sizes), torch.split(bias, sizes), strict=True))
    drawn = weight * batch.drawn
    found = [
        _of_entries(codes, *parts[0], batch, weight),
        _of_pool(codes, *parts[1], drawn, batch.of_pool),
        _of_rest(codes, *parts[2], drawn, batch.of_rest),
    ]
    of_codes = found[0].codes.add_(found[1].codes).add_(found[2].codes)
    return Slopes(of_codes, torch.cat([each.keys for each in found]), torch.cat([each.bias for each in found]))


def _of_entries(codes: Tensor, keys: Tensor, bias: Tensor, batch: RowBatch, weight: float) -> Slopes:
    z = (codes.index_select(0, batch.row) * keys.index_select(0, batch.place)).sum(1)
    error = (z + bias.index_select(0, batch.place)).sigmoid_().mul_(batch.met).sub_(batch.acted).mul_(weight)
    by_item, rows = error.index_select(0, batch.by_item), batch.row.index_select(0, batch.by_item)
    of_codes = functional.embedding_bag(batch.place, keys, batch.row_starts, mode="sum", per_sample_weights=error)
    of_keys = functional.embedding_bag(rows, codes, batch.item_starts, mode="sum", per_sample_weights=by_item)
    one = codes.new_ones(len(codes), 1)
    of_bias = functional.embedding_bag(rows, one, batch.item_starts, mode="sum", per_sample_weights=by_item)
    return Slopes(of_codes, of_keys, of_bias.squeeze(1))


def _of_pool(codes: Tensor, keys: Tensor, bias: Tensor, drawn: Tensor, popularity: Tensor) -> Slopes:
    """Of Σ drawn popularity log(1 + eᶻ), over all windows: a window's part is one number a row times one an item."""
    p = torch.addmm(bias, codes, keys.T).sigmoid_()
    of_codes, of_keys, of_bias = torch.zeros_like(codes), torch.zeros_like(keys), torch.zeros_like(bias)
    for of_row, of_item in zip(drawn.unsqueeze(2), popularity.unsqueeze(2), strict=True):
        of_codes += of_row * (p @ (of_item * keys))
        of_keys += of_item * (p.T @ (of_row * codes))
        of_bias += (of_item * (p.T @ of_row)).squeeze(1)
    return Slopes(of_codes, of_keys, of_bias)


def _of_rest(codes: Tensor, keys: Tensor, bias: Tensor, drawn: Tensor, popularity: Tensor) -> Slopes:
    """Of Σ popularity (D log(1 + eᵇ) + σ(b) key · m + λ(b) key · M key), never below the same sum of log(1 + eᶻ).

    z is b + code · key; D, m (K,) and M (K, K) are the sums of `drawn`, drawn × code and drawn × code codeᵀ. The bound
    touches at code · key = 0, with λ(b) = tanh(b / 2) / 4b (T. Jaakkola and M. Jordan, 2000). The series to second
    order, with half of σ'(b), is no bound: where b falls it lets great effects cost nothing.
    """
    of_codes, of_keys, of_bias = torch.zeros_like(codes), torch.zeros_like(keys), torch.zeros_like(bias)
    p, curve, steepening = _bound(bias)
    for of_row, of_item in zip(drawn, popularity, strict=True):
        mean, square = of_row @ codes, codes.T @ (of_row.unsqueeze(1) * codes)
        turned, first, second = keys @ square, (of_item * p).unsqueeze(1), (2 * of_item * curve).unsqueeze(1)
        of_keys += first * mean + second * turned
        of_bias += of_item * (p * of_row.sum() + p * (1 - p) * (keys @ mean) + steepening * (turned * keys).sum(1))
        of_codes += of_row.unsqueeze(1) * ((first * keys).sum(0) + codes @ (keys.T @ (second * keys)))
    return Slopes(of_codes, of_keys, of_bias)


def _bound(bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """σ(b), λ(b) and λ'(b)."""
    safe = torch.where(bias.abs() < _NEAR_ZERO, torch.full_like(bias, _NEAR_ZERO), bias)
    t = (safe / 2).tanh()
    curve, steepening = t / (4 * safe), ((1 - t * t) * safe / 2 - t) / (4 * safe * safe)
    near = bias.abs() < _NEAR_ZERO
    curve = torch.where(near, 0.125 - bias.square() / 96, curve)
    return bias.sigmoid(), curve, torch.where(near, -bias / 48, steepening)


def _of_attributes(encoder: BehaviourEncoder, p: Tensor, q: Tensor, values: Tensor) -> Tensor:
    """How badly either code tells which values (C, N) a row has, a mean over all values."""
    size = encoder.attributes.out_features
    wanted = torch.zeros(len(p), size + 1, device=p.device).scatter_(1, values, 1.0)[:, :-1]
    told = torch.cat([encoder.attributes(p), encoder.attributes(q)])
    return functional.binary_cross_entropy_with_logits(told, torch.cat([wanted, wanted]))
