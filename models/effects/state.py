"""What a fit of the attributes' effects leaves for the next: the counts it was fitted to, and where it ended.

It holds no user's id, but a cell of one user is that user's behaviour: it is to be kept as the log is.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foretaste.kernel.errors import InvalidInput
from models.effects.cells import EarlierCounts, SparseCounts, UserCells
from models.effects.decayed_counts import PopularityState
from models.effects.low_rank import Fit
from models.effects.seen_bias import Evidence
from models.effects.transitions import TransitionCounts
from models.runtime.encoding import IndexArray

_FORMAT = 1
_Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class SavedCounts:
    """Sufficient statistics of all windows so far.

    `fit` of all users over the items of `past`, and over the attribute values `counted_values` (G, 2): the field, and
    the index in it. `noise`: the strength of the strongest direction that noise alone would tell. `until_ms`: what lies
    before it was counted. Indices never move, so that what is new merely has no counts. `popularity`: that with time;
    None where none was counted. `transitions` likewise.
    """

    past: EarlierCounts
    fit: Fit
    counted_values: IndexArray
    noise: float
    evidence: Evidence
    until_ms: int
    popularity: PopularityState | None = None
    transitions: TransitionCounts | None = None

    def grown(self, attributes: tuple[int, ...], items: int, evidence_bins: int) -> "SavedCounts":
        """For tables of so many rows. Raises `InvalidInput` where those cannot have grown from what was counted."""
        values = self.past.cells.values
        if values.shape[1] != len(attributes):
            problem = f"counts of {values.shape[1]} attributes are no start for as many as these"
            raise InvalidInput("attributes", len(attributes), problem)
        counted = [int(most) for most in values.max(axis=0, initial=-1)]
        if any(most >= rows for most, rows in zip(counted, attributes, strict=True)):
            raise InvalidInput("attributes", attributes, f"values up to {counted} were counted, beyond these tables")
        if self.evidence.slope.shape[1] > items:
            raise InvalidInput("items", items, f"{self.evidence.slope.shape[1]} rows were counted")
        if self.transitions is not None and self.transitions.pairs.shape[0] > items:
            raise InvalidInput("items", items, f"transitions of {self.transitions.pairs.shape[0]} rows were counted")
        return replace(self, evidence=self.evidence.grown(items, evidence_bins))

    def start(self, bias: Tensor, items: IndexArray, value_places: IndexArray, offsets: IndexArray) -> Fit:
        """`fit` over other `items` (I,) and values at `value_places` (G,), where each field begins at its offset (N,).

        What is new there has no effects yet, and the `bias` (I,) that is given.
        """
        of_item = _rows(self.past.items, items)
        of_value = _rows(offsets[self.counted_values[:, 0]] + self.counted_values[:, 1], value_places)
        known = torch.from_numpy(of_item >= 0)
        return Fit(
            torch.where(known, _picked(self.fit.bias.unsqueeze(1), of_item).squeeze(1), bias),
            _picked(self.fit.left, of_value),
            _picked(self.fit.right, of_item),
        )

    def save(self, path: Path) -> None:
        """Write it as one compressed file, in single precision."""
        past, evidence = self.past, self.evidence
        arrays: dict[str, npt.NDArray[Any]] = {
            "format": np.array(_FORMAT),
            "noise": np.array(self.noise),
            "until_ms": np.array(self.until_ms),
            "told": self.counted_values.astype(np.int32),
            "cells": past.cells.values.astype(np.int32),
            "cell_users": past.cells.users,
            "items": past.items.astype(np.int32),
            "frequency": past.frequency,
            "stage_rows": evidence.rows,
            "stage_read": evidence.read,
            "stage_slope": evidence.slope.astype(np.float32),
            "stage_curvature": evidence.curvature.astype(np.float32),
        }
        arrays |= {f"fit_{name}": part.numpy() for name, part in self.fit._asdict().items()}
        arrays |= past.counts.to_arrays()
        if self.popularity is not None:
            arrays |= self.popularity.to_arrays()
        if self.transitions is not None:
            arrays |= self.transitions.to_arrays()
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its one option

    @classmethod
    def load(cls, path: Path) -> "SavedCounts":
        """Raises `InvalidInput` naming the file where it is none that `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls._of(dict(file))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InvalidInput("counts", str(path), f"are not saved counts: {error}") from error

    @classmethod
    def _of(cls, arrays: _Arrays) -> "SavedCounts":
        if int(arrays["format"]) != _FORMAT:
            raise ValueError(f"their format is {arrays['format']}, not {_FORMAT}")
        cells = UserCells(arrays["cells"].astype(np.int64), arrays["cell_users"].astype(np.float64))
        frequency = arrays["frequency"].astype(np.float64)
        past = EarlierCounts(cells, arrays["items"].astype(np.int64), frequency, SparseCounts.from_arrays(arrays))
        rows, read = (arrays[f"stage_{name}"].astype(np.float64) for name in ("rows", "read"))
        slope, curvature = (arrays[f"stage_{name}"].astype(np.float32) for name in ("slope", "curvature"))
        fit = Fit(*(torch.from_numpy(arrays[f"fit_{name}"]) for name in Fit._fields))
        counted_values = arrays["told"].astype(np.int64)
        evidence, until_ms = Evidence(rows, read, slope, curvature), int(arrays["until_ms"])
        popularity, transitions = PopularityState.from_arrays(arrays), TransitionCounts.from_arrays(arrays)
        return cls(past, fit, counted_values, float(arrays["noise"]), evidence, until_ms, popularity, transitions)


def _rows(had: IndexArray, wanted: IndexArray) -> IndexArray:
    """For each of `wanted` its place among the rising `had`; -1 where it is not there."""
    if not len(had):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(had, wanted), len(had) - 1)
    return np.where(had[place] == wanted, place, -1)


def _picked(table: Tensor, rows: IndexArray) -> Tensor:
    """Rows of a table, zeros for a row of -1."""
    spare = torch.cat([table, table.new_zeros(1, table.shape[1])])
    return spare[torch.from_numpy(rows)]
