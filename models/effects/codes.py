"""Fits turned to common keys: the code of each attribute value, and of what values say together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import block_diag
from torch import nn

from models.effects.by_gradient.factors import Combination
from models.effects.counts import Counting, TableSizes
from models.effects.fits import Fits
from models.runtime.encoding import IndexArray

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
RESERVED = 8
"""Numbers at the end of a code that attributes leave at zero, a third of it at most: what answers and first acts tell
stands there (`models.training.questions`), in every generation."""
_ITEMS = 1 << 16
"""Turned at once."""
_LEAST_SQUARE = 1e-12
"""Of a direction, relative to the greatest: what is weaker is rounding."""
_CELLS = 4096
"""Read of the perceptrons, to find in which directions they tell something."""


@dataclass(frozen=True, eq=False, slots=True)
class Combinations:
    """Perceptrons of X hidden units over embeddings of E, beside the codes of 1 + folds fits: relu(e A + b) B.

    `values` (1 + folds, ΣA, E), `first` (1 + folds, N E, X), `bias` (1 + folds, X), `second` (1 + folds, X, H).
    """

    values: Floats
    first: Floats
    bias: Floats
    second: Floats

    def codes(self, fit: IndexArray, places: IndexArray) -> Floats:
        """(B, H) of rows whose values lie at `places` (B, N) among all ΣA, by the `fit` (B,) of each."""
        found = np.zeros((len(places), self.second.shape[2]), dtype=np.float32)
        for number in np.unique(fit):
            own = np.flatnonzero(fit == number)
            read = self.values[number][places[own]].reshape(len(own), -1)
            found[own] = np.maximum(read @ self.first[number] + self.bias[number], 0) @ self.second[number]
        return found


def reserved(width: int) -> int:
    """How many of the numbers of a code of that width attributes leave at zero."""
    return min(RESERVED, width // 3)


def codes_and_keys(
    found: Fits, counting: Counting, tables: TableSizes, width: int
) -> tuple[Floats, Floats, Combinations | None]:
    """Codes (fits, ΣA, H) and keys (items, H) with code · key = W, as nearly as H allows, and the perceptrons of codes.

    The fits are turned to common keys by the singular value decomposition of all their W, one below the other. A key's
    entries are of size 1, so that a code is of the size of an effect; the last of both (`reserved`) are zero.
    """
    fits = found.fits
    codes = np.zeros((len(fits), sum(tables.attributes), width), dtype=np.float32)
    keys = np.zeros((tables.items, width), dtype=np.float32)
    lefts = [fit.left.double().numpy() for fit in fits]
    for number, combination in enumerate(found.combinations):
        lefts[number] = np.concatenate([lefts[number], _combined_codes(combination, counting)])
    small = block_diag(*(np.linalg.qr(left, mode="r") for left in lefts))
    rights = [fit.right.numpy() for fit in fits]
    basis, lengths = _basis(rights)
    _, strength, right = np.linalg.svd((small @ basis) * lengths, full_matrices=False)
    rank, scale = min(width - reserved(width), len(strength)), np.sqrt(len(counting.items))
    widths = np.cumsum([part.shape[1] for part in rights])[:-1]
    parts = np.split(basis / lengths @ right[:rank].T * scale, widths)
    for at in range(0, len(counting.items), _ITEMS):
        chunk = slice(at, at + _ITEMS)
        together = (own[chunk] @ part.astype(np.float32) for own, part in zip(rights, parts, strict=True))
        keys[counting.items[chunk], :rank] = sum(together)
    directions = np.split((basis * lengths) @ right[:rank].T / scale, widths)
    for number, (fit, turned) in enumerate(zip(fits, directions, strict=True)):
        codes[number, counting.value_places, :rank] = fit.left.double().numpy() @ turned
    return codes, keys, _turned(found.combinations, directions, counting, tables, width)


def _basis(rights: Sequence[Floats]) -> tuple[Doubles, Doubles]:
    """V (ΣK, X) and s (X,): the right factors (I, K) side by side are Q diag(s) Vᵀ, with an orthonormal Q that is never
    made, since it would be as large as all of them in double precision."""
    chunks = range(0, max(len(rights[0]), 1), _ITEMS)
    squares = sum(_gram(np.concatenate([part[at : at + _ITEMS] for part in rights], axis=1)) for at in chunks)
    squared, basis = np.linalg.eigh(squares)
    kept = squared > _LEAST_SQUARE * max(squared.max(initial=0.0), 1e-300)
    return basis[:, kept], np.sqrt(squared[kept])


def _gram(rows: Floats) -> Doubles:
    found: Doubles = rows.astype(np.float64).T @ rows.astype(np.float64)
    return found


def _combined_codes(combination: Combination, counting: Counting) -> Doubles:
    """Of some cells from all over the table (X, K), to weigh as much as a code of each value."""
    values = counting.design.values
    chosen = np.unique(np.linspace(0, max(len(values) - 1, 0), min(len(values), _CELLS)).astype(np.int64))
    with torch.inference_mode():
        found: Doubles = combination(values[torch.from_numpy(chosen)]).double().numpy()
    scaled: Doubles = found * (counting.design.size / max(len(chosen), 1)) ** 0.5
    return scaled


def _turned(
    combinations: Sequence[Combination],
    directions: Sequence[Doubles],
    counting: Counting,
    tables: TableSizes,
    width: int,
) -> Combinations | None:
    """The perceptrons over all values, those that are not counted at zero, and with codes (H,)."""
    if not combinations:
        return None

    def stacked(layer: nn.Module, name: str) -> Floats:
        found: Floats = layer.get_parameter(name).detach().numpy()
        return found

    def of_all(combination: Combination) -> Floats:
        table = stacked(combination.values, "weight")
        values = np.zeros((sum(tables.attributes), table.shape[1]), dtype=np.float32)
        values[counting.value_places] = table[:-1]
        return values

    def of_codes(combination: Combination, turned: Doubles) -> Floats:
        second = np.zeros((len(combination.second.weight.T), width), dtype=np.float32)
        second[:, : turned.shape[1]] = stacked(combination.second, "weight").T @ turned
        return second

    parts = (
        [of_all(each) for each in combinations],
        [stacked(each.first, "weight").T for each in combinations],
        [stacked(each.first, "bias") for each in combinations],
        [of_codes(each, turned) for each, turned in zip(combinations, directions, strict=True)],
    )
    # in the order in which a file keeps them: a product over another order differs in its last bits
    return Combinations(*(np.ascontiguousarray(np.stack(part)) for part in parts))
