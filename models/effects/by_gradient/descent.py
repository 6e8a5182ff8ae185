"""The factors of attribute effects by gradient, over counts of which only what was seen is kept.

Shapes: C rows (cells of users, or users), N attributes, G attribute values in all, I items, B values of item
attributes, K directions, E entries of a batch, P items of its pool.

What is made least is what `models.effects.low_rank` makes least, by Adam over batches of rows: the entries that were
seen are all read, and what is expected of sampled negatives is estimated over a pool of items, drawn anew for each
batch by how often they are expected. Where all items find room in the pool, it is exact. A row counts by its users,
each of whom counts as n interactions to a power, so that it is regularised by user.

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
from models.effects.by_gradient.factors import BehaviourEncoder, DescentConfig, Factors, Found
from models.effects.by_gradient.rows import SparseRows
from models.effects.discrepancy import discrepancy
from models.effects.low_rank import Design, Fit, Penalty

_PARTS_RATE = 0.02
"""Of the perceptron and the encoder, relative to `rate`."""


class Slopes(NamedTuple):
    """Of what a batch loses in its codes (C, K), and in the keys (X, K) and b (X,) of the items used."""

    codes: Tensor
    keys: Tensor
    bias: Tensor


def descended(
    rows: SparseRows,
    design: Design,
    penalty: Penalty,
    first: Fit,
    config: DescentConfig,
    seed: int,
    device: torch.device,
) -> Found:
    """The factors of about the least loss, from `first` on. Raises `ForetasteError` where they are not finite."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        factors = Factors(design, penalty, first, config).to(device).train()
        data = Batches(rows, design, config.pool, device, seed)
        size = min(config.batch or min(max(len(data) // 64, 512), 8192), len(data))
        steps = max(config.epochs * -(-len(data) // size), config.least_steps)
        optimiser = _optimiser(factors, config)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        order = torch.zeros(0, dtype=torch.int64, device=device)
        for _ in range(steps):
            while len(order) < size:
                order = torch.cat([order, torch.randperm(len(data), generator=data.generator, device=device)])
            chosen, order = order[:size], order[size:]
            optimiser.zero_grad()
            _differentiate(factors, data.batch(chosen), penalty, len(data) / size, data.met, config)
            optimiser.step()
            schedule.step()
    return factors.found()


def _optimiser(factors: Factors, config: DescentConfig) -> torch.optim.Optimizer:
    """Adam, each of the factors at a rate relative to its size."""
    groups: list[dict[str, Any]] = [{"params": [factors.bias], "lr": config.rate}]
    for factor in (factors.left, factors.right):
        size = float(factor.detach().square().mean().sqrt()) if factor.numel() else 0.0
        groups.append({"params": [factor], "lr": config.rate * max(size, 1e-6)})
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
        others = config.discrepancy * discrepancy(codes, q)
        if config.reconstruction:
            more = _slopes(q.detach(), keys.detach(), bias.detach(), batch, config.reconstruction * share / met)
            of_keys, of_bias = of_keys + more.keys, of_bias + more.bias
            outputs, given = [*outputs, q], [*given, more.codes]
            others = others + config.reconstruction * (_of_attributes(factors.encoder, codes, q, batch.values))
        outputs, given = [*outputs, others], [*given, torch.ones_like(others)]
    torch.autograd.backward([*outputs, keys, bias], [*given, of_keys, of_bias])
    with torch.no_grad():
        ridges = (
            (factors.bias, penalty.bias_precision),
            (factors.left, penalty.threshold),
            (factors.right, penalty.threshold),
        )
        for parameter, precision in ridges:
            if parameter.grad is not None:
                parameter.grad.add_(parameter, alpha=precision / met)


def _slopes(codes: Tensor, keys: Tensor, bias: Tensor, batch: RowBatch, weight: float) -> Slopes:
    """Of Σ (acted + passed) log(1 + eᶻ) - acted z, times `weight`."""
    count = len(batch.item_starts)
    (keys, of_pool), (bias, pool_bias) = keys.tensor_split([count]), bias.tensor_split([count])
    z = (codes.index_select(0, batch.row) * keys.index_select(0, batch.place)).sum(1)
    error = (z + bias.index_select(0, batch.place)).sigmoid_().mul_(batch.met).sub_(batch.acted).mul_(weight)
    by_item = error.index_select(0, batch.by_item)
    of_codes = functional.embedding_bag(batch.place, keys, batch.row_starts, mode="sum", per_sample_weights=error)
    rows = batch.row.index_select(0, batch.by_item)
    of_keys = functional.embedding_bag(rows, codes, batch.item_starts, mode="sum", per_sample_weights=by_item)
    of_bias = torch.zeros_like(bias).index_add_(0, batch.place, error)
    if not len(of_pool):
        return Slopes(of_codes, of_keys, of_bias)
    p = torch.addmm(pool_bias, codes, of_pool.T).sigmoid_()
    drawn, ratio = weight * batch.drawn.unsqueeze(2), batch.ratio.unsqueeze(2)
    keys_slope, bias_slope = torch.zeros_like(of_pool), torch.zeros_like(pool_bias)
    for each_drawn, each_ratio in zip(drawn, ratio, strict=True):  # a window's part is one number a row and an item
        of_codes += each_drawn * (p @ (each_ratio * of_pool))
        keys_slope += each_ratio * (p.T @ (each_drawn * codes))
        bias_slope += each_ratio.squeeze(1) * (each_drawn.T @ p).squeeze(0)
    return Slopes(of_codes, torch.cat([of_keys, keys_slope]), torch.cat([of_bias, bias_slope]))


def _of_attributes(encoder: BehaviourEncoder, p: Tensor, q: Tensor, values: Tensor) -> Tensor:
    """How badly either code tells which values (C, N) a row has, a mean over all values."""
    size = encoder.attributes.out_features
    wanted = torch.zeros(len(p), size + 1, device=p.device).scatter_(1, values, 1.0)[:, :-1]
    told = torch.cat([encoder.attributes(p), encoder.attributes(q)])
    return functional.binary_cross_entropy_with_logits(told, torch.cat([wanted, wanted]))
