"""What items share by their attributes: the key of an item is its own and the sum of its attribute values' keys.

An item that was counted rarely has then the key of its kind, and one that was not counted at all too.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.sparse.linalg import cg

from models.effects.low_rank import Design, Doubles, Fit, Weights
from models.runtime.encoding import FIELD_UNKNOWN, FIRST_KNOWN, IndexArray

Floats = npt.NDArray[np.float32]
LEAST_ITEMS = 2
"""With a value: one of a single item says nothing that the item's own key does not."""
_TOLERANCE = 1e-6


def design_of_items(features: IndexArray, items: IndexArray) -> Design | None:
    """Which attribute values make up the keys of `items` (I,), of all items' `features` (items, F); None for none.

    A value of one counted item, or of all, is counted as none, and so is an unknown one. Its `values` are of all items.
    """
    if not features.shape[1]:
        return None
    sizes = features.max(axis=0, initial=0) + 1
    offsets = np.cumsum([0, *sizes])
    places = np.where(features == FIELD_UNKNOWN, offsets[-1], features + offsets[:-1])
    numbers = np.bincount(places[items].ravel(), minlength=offsets[-1] + 1)
    numbers[-1] = 0
    counted = np.flatnonzero((numbers >= LEAST_ITEMS) & (numbers < len(items)))
    if not len(counted):
        return None
    column = np.full(len(numbers), len(counted))
    column[counted] = np.arange(len(counted))
    return Design(torch.from_numpy(column[places]), len(counted))


def separated_keys(fit: Fit, design: Design, weights: Weights) -> Fit:
    """A fit whose `right` are keys (I, K), as own keys and those of attribute values, (I + B, K): the pair of least
    penalty that add up to them."""
    if design.items is None:
        return fit
    keys = fit.right.double().numpy()
    count = len(keys)
    shared = shared_keys(keys, design.items, weights.items.double().numpy())
    own = keys - _members(design.items) @ shared
    return fit._replace(right=torch.from_numpy(np.concatenate([own, shared]).reshape(count + len(shared), -1)).float())


def combined_keys(fit: Fit, design: Design) -> Fit:
    """The fit with the keys (I, K) in place of their parts."""
    return fit._replace(right=design.of_items(fit.right))


def shared_keys(keys: Doubles, items: Design, weights: Doubles) -> Doubles:
    """Q (B, K) of attribute values where ‖S (V - A Q)‖² + ‖T Q‖² is least, for keys V (I, K).

    A (I, B) tells which item has which value; `weights` (I + B,) are the diagonals of S and T.
    """
    member = _members(items)
    of_items, of_values = np.square(weights[: len(keys)]), np.square(weights[len(keys) :])
    matrix = (member.T @ sparse.diags(of_items) @ member + sparse.diags(of_values)).tocsr()
    wanted = member.T @ (of_items[:, None] * keys)
    scale = sparse.diags(1 / matrix.diagonal())
    columns = [cg(matrix, column, rtol=_TOLERANCE, M=scale)[0] for column in wanted.T]
    return np.stack(columns, axis=1) if columns else np.zeros((items.size, 0))


def add_keys_of_kind(keys: Floats, counted: IndexArray, of_all: Design, weights: Weights) -> None:
    """In place, into keys (items, K): of what is not among `counted` (I,), the keys that its attributes have among what
    is. `of_all` is the design of all items."""
    of_counted = replace(of_all, values=of_all.values[counted])
    shared = shared_keys(keys[counted].astype(np.float64), of_counted, weights.items.double().numpy())
    others = np.setdiff1d(np.arange(FIRST_KNOWN, len(keys)), counted)
    keys[others] = _members(replace(of_all, values=of_all.values[others])) @ shared


def _members(items: Design) -> sparse.csr_matrix:
    """(I, B): a one where an item has a value."""
    values = items.values.numpy()
    rows, columns = np.nonzero(values < items.size)
    shape = (len(values), items.size)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, values[rows, columns])), shape)
