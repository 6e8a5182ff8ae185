"""Interaction counts: per user while a window is read, per cell (users with equal attributes) where they are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from models.effects.low_rank import Counts, Doubles
from models.runtime.encoding import IndexArray

MOST_WINDOWS = 16
"""Kept apart in what sampled negatives are expected to be; the two oldest become one."""


@dataclass(frozen=True, eq=False, slots=True)
class SparseCounts:
    """What R users, or cells of users, did with I items, weighted.

    `acted` (R, I): acted on. Passed by: `passed` (R, I), which data with labels tell, and of each of W windows whose
    negatives are sampled, `drawn` (W, R), how many are expected over all items if none were met, shared out by the
    `popularity` (W, I) of that window; `passed` then takes off those that were met.
    """

    acted: sparse.csr_matrix
    passed: sparse.csr_matrix
    drawn: Doubles
    popularity: Doubles

    def counts(self, rows: IndexArray, cell: IndexArray, cells: int) -> Counts:
        """The counts of some rows added up by cell, (C, I): each row lies in its `cell` (R,) of all C = `cells`."""
        member = _member(cell[rows], rows, (cells, len(cell)))
        acted = np.zeros((cells, self.acted.shape[1]))
        _add(acted, member @ self.acted)
        passed = (member @ self.drawn.T) @ self.popularity
        _add(passed, member @ self.passed)
        np.maximum(passed, 0.0, out=passed)
        return Counts(torch.from_numpy(acted).float(), torch.from_numpy(passed).float())

    def by(self, cell: IndexArray, cells: int) -> "SparseCounts":
        """The counts added up by cell, which each row has in `cell` (R,); a row of cell -1 is left out."""
        rows = np.flatnonzero(cell >= 0)
        member = _member(cell[rows], rows, (cells, len(cell)))
        return SparseCounts(
            sparse.csr_matrix(member @ self.acted),
            sparse.csr_matrix(member @ self.passed),
            np.asarray((member @ self.drawn.T).T),
            self.popularity,
        )

    def over(self, column: IndexArray, columns: int) -> "SparseCounts":
        """The counts with item i moved to `column[i]` of so many columns; an item of column -1 is left out."""
        kept = np.flatnonzero(column >= 0)
        moved = _member(kept, column[kept], (len(column), columns))
        popularity = np.zeros((len(self.popularity), columns))
        popularity[:, column[kept]] = self.popularity[:, kept]
        return SparseCounts(
            sparse.csr_matrix(self.acted @ moved), sparse.csr_matrix(self.passed @ moved), self.drawn, popularity
        )

    def __add__(self, other: "SparseCounts") -> "SparseCounts":
        """The sum of both, over the same rows and items; this one is the older."""
        drawn = np.concatenate([self.drawn, other.drawn])
        popularity = np.concatenate([self.popularity, other.popularity])
        sampled = drawn.sum(axis=1) > 0
        drawn, popularity = drawn[sampled], popularity[sampled]
        while len(drawn) > MOST_WINDOWS:
            drawn, popularity = _oldest_together(drawn, popularity)
        return SparseCounts(self.acted + other.acted, self.passed + other.passed, drawn, popularity)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that a file keeps, by name, in single precision, which is that of the fit."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "drawn": self.drawn.astype(np.float32),
            "popularity": self.popularity.astype(np.float32),
        }
        for name, matrix in (("acted", self.acted), ("passed", self.passed)):
            arrays[f"{name}_data"] = matrix.data.astype(np.float32)
            arrays[f"{name}_indices"] = matrix.indices.astype(np.int32)
            arrays[f"{name}_starts"] = matrix.indptr.astype(np.int64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "SparseCounts":
        """The counts that `to_arrays` gave. Raises `KeyError` or `ValueError` for other arrays."""
        drawn, popularity = (arrays[name].astype(np.float64) for name in ("drawn", "popularity"))
        shape = (drawn.shape[1], popularity.shape[1])

        def matrix(name: str) -> sparse.csr_matrix:
            data, *places = (arrays[f"{name}_{part}"] for part in ("data", "indices", "starts"))
            return sparse.csr_matrix((data.astype(np.float64), *places), shape)

        return cls(matrix("acted"), matrix("passed"), drawn, popularity)


@dataclass(frozen=True, eq=False, slots=True)
class UserCells:
    """Users of equal attributes: `values` (C, N), indices within each field; `users` (C,), how many were counted."""

    values: IndexArray
    users: Doubles

    def joined(self, other: "UserCells") -> tuple["UserCells", IndexArray, IndexArray]:
        """The cells of both, and the place in them of each of these cells and of each of the other's."""
        both = np.concatenate([self.values, other.values])
        values, place = np.unique(both, axis=0, return_inverse=True)
        users = np.bincount(place.ravel(), np.concatenate([self.users, other.users]), minlength=len(values))
        own, others = np.split(place.ravel(), [len(self.values)])
        return UserCells(values, users.astype(np.float64)), own, others

    def only(self, kept: IndexArray) -> "UserCells":
        return UserCells(self.values[kept], self.users[kept])


@dataclass(frozen=True, eq=False, slots=True)
class EarlierCounts:
    """What was counted before: `counts` of `cells` over `items` (I,), each of which has come `frequency` (I,) times."""

    cells: UserCells
    items: IndexArray
    frequency: Doubles
    counts: SparseCounts

    @classmethod
    def none(cls, attributes: int) -> "EarlierCounts":
        """No counts, of users with so many attributes."""
        none, empty = np.zeros(0), sparse.csr_matrix((0, 0))
        cells = UserCells(np.zeros((0, attributes), dtype=np.int64), none)
        return cls(cells, none.astype(np.int64), none, SparseCounts(empty, empty, np.zeros((0, 0)), np.zeros((0, 0))))


def _member(of: IndexArray, rows: IndexArray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """A one at each place (of, row)."""
    return sparse.csr_matrix((np.ones(len(rows)), (of, rows)), shape)


def _add(dense: Doubles, matrix: sparse.csr_matrix) -> None:
    """In place: no second dense matrix is made."""
    matrix = matrix.tocoo()
    dense[matrix.row, matrix.col] += matrix.data


def _oldest_together(drawn: Doubles, popularity: Doubles) -> tuple[Doubles, Doubles]:
    """The windows with the first two as one, which keeps what each row and each item has in all."""
    sizes = drawn[:2].sum(axis=1)
    one = (sizes @ popularity[:2]) / sizes.sum()
    return np.vstack([drawn[:2].sum(axis=0), drawn[2:]]), np.vstack([one, popularity[2:]])
