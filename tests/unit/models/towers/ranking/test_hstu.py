import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.towers.ranking.hstu import BACK_BINS, TransductionUnit

PLACES, D = 6, 4


@pytest.fixture
def unit() -> TransductionUnit:
    torch.manual_seed(0)
    found = TransductionUnit(D)
    with torch.no_grad():
        found.back.normal_()
    return found.eval()


def _answer(unit: TransductionUnit, x: Any, there: Any) -> Any:
    places = torch.arange(PLACES)
    back = places.unsqueeze(1) - places
    bins = back.clamp(min=1).float().log2().floor().clamp(max=BACK_BINS - 1).long()
    seen = (back >= 0).float() * torch.as_tensor(there).float().unsqueeze(1)
    with torch.no_grad():
        return unit(x, seen, bins).numpy()


def _by_hand(unit: TransductionUnit, x: Any, there: Any, place: int) -> Any:
    """One place of one sequence, a head and a key at a time."""
    u, v, q, k = functional.silu(unit.parts(unit.before(x))).chunk(4, dim=1)
    keys = [key for key in range(place + 1) if there[key]]
    width = D // 2
    heads = []
    for head in range(2):
        own = slice(head * width, (head + 1) * width)
        total = torch.zeros(width)
        for key in keys:
            bias = unit.back[head, int(math.log2(max(place - key, 1)))]
            total = total + functional.silu(q[place, own] @ k[key, own] + bias) / len(keys) * v[key, own]
        heads.append(total)
    return x[place] + unit.together(unit.after(torch.cat(heads)) * u[place])


def test_a_layer_is_what_its_formula_says(unit: TransductionUnit) -> None:
    x, there = torch.randn(1, PLACES, D), [1, 1, 0, 1, 1, 1]
    found = _answer(unit, x, [there])
    for place in range(PLACES):
        with torch.no_grad():
            expected = _by_hand(unit, x[0], there, place).numpy()
        np.testing.assert_allclose(found[0, place], expected, rtol=1e-4, atol=1e-5)


def test_no_place_knows_of_what_came_later(unit: TransductionUnit) -> None:
    x = torch.randn(1, PLACES, D)
    changed = x.clone()
    changed[0, 4:] += 1.0
    one, other = (_answer(unit, each, [[1] * PLACES]) for each in (x, changed))
    assert np.array_equal(one[0, :4], other[0, :4])
    assert not np.allclose(one[0, 4:], other[0, 4:])


def test_what_is_not_there_is_not_read(unit: TransductionUnit) -> None:
    x, there = torch.randn(1, PLACES, D), [[1, 0, 1, 1, 1, 1]]
    changed = x.clone()
    changed[0, 1] += 1.0
    one, other = (_answer(unit, each, there) for each in (x, changed))
    assert np.array_equal(np.delete(one, 1, axis=1), np.delete(other, 1, axis=1))


def test_what_counts_half_is_attended_to_by_half(unit: TransductionUnit) -> None:
    x = torch.randn(1, PLACES, D)
    attended = []
    unit.after.register_forward_pre_hook(lambda _, given: attended.append(given[0].clone()))
    for weight in (0.0, 0.5, 1.0):
        _answer(unit, x, [[weight, 1, 1, 1, 1, 1]])
    none, half, whole = (each[0, -1] for each in attended)
    torch.testing.assert_close(half - 5 / 6 * none, (whole - 5 / 6 * none) / 2, rtol=1e-4, atol=1e-5)


def test_an_odd_dimension_has_one_head() -> None:
    x = torch.randn(2, PLACES, 5)
    assert (
        TransductionUnit(5)(x, torch.ones(2, PLACES, PLACES), torch.zeros(PLACES, PLACES, dtype=torch.long)).shape
        == x.shape
    )
