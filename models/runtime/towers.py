"""The towers as served: indices in, vectors or scores out.

This module is copied into Triton's environment beside each generation's artifact, so it holds the standard library,
numpy (1.26 and 2) and onnxruntime alone. Raw values become indices where they are known: see `Encoding`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as refusals

from foretaste.kernel.values import FloatArray, IndexArray
from models.runtime import layout
from models.runtime.refusals import BadRequest

REQUIRED, OPTIONAL = ("attributes", "context", "items", "actions"), ("age", "passed_over")
"""Columns of the rows of users, in this order; of the optional ones those that the tower reads. A caller of an earlier
version may not send these, of which 0 is the unknown age and no item."""
T = TypeVar("T")
A = TypeVar("A")
Provider: TypeAlias = str | tuple[str, dict[str, Any]]

CPU: tuple[Provider, ...] = ("CPUExecutionProvider",)
REFUSALS = (refusals.Fail, refusals.InvalidArgument, refusals.RuntimeException)
"""What a graph raises for indices that it has no row for; ONNX Runtime's errors have no base of their own."""


def run_together(batches: Sequence[T | BadRequest], run: Callable[[list[T]], list[A]]) -> list[A | BadRequest]:
    """The answer to each batch, of one run of all of them; what is no batch is its own answer.

    Where the graph refuses what it gets, each batch is run alone, so that only the one with the fault fails.
    """
    good = [batch for batch in batches if not isinstance(batch, BadRequest)]
    try:
        answers = iter(run(good) if good else [])
    except REFUSALS as error:
        refused = BadRequest(f"indices: {error}")
        if len(good) == 1:
            return [batch if isinstance(batch, BadRequest) else refused for batch in batches]
        return [found for batch in batches for found in run_together([batch], run)]
    return [batch if isinstance(batch, BadRequest) else next(answers) for batch in batches]


class ServedZeroShot:
    """The zero-shot tower of the generation in a folder."""

    def __init__(self, folder: Path, *, providers: Sequence[Provider] = CPU, threads: int = 1) -> None:
        self._session = _session(folder / layout.ZERO_SHOT, providers, threads)
        _, self._fields = self._session.get_inputs()[0].shape
        _, self._vectors, self._dimension = self._session.get_outputs()[0].shape

    def check(self, attributes: IndexArray) -> None:
        """Raises `BadRequest` unless there is a column a field."""
        if attributes.ndim != 2 or attributes.shape[1] != self._fields:  # noqa: PLR2004  # (B, N)
            raise BadRequest(f"attributes: expected the shape (users, {self._fields}), got {attributes.shape}")

    def run(self, attributes: IndexArray) -> FloatArray:
        """Virtual behaviour (B, M, D) of encoded attributes (B, N); B may be 0."""
        if not len(attributes):
            return np.zeros((0, self._vectors, self._dimension), dtype=np.float32)
        (virtual,) = self._session.run(None, {"attributes": attributes})
        return virtual  # type: ignore[no-any-return]  # onnxruntime ships no types


class ServedRanking:
    """The ranking tower of the generation in a folder."""

    def __init__(self, folder: Path, *, providers: Sequence[Provider] = CPU, threads: int = 1) -> None:
        self._session = _session(folder / layout.RANKING, providers, threads)
        shapes = {graph_input.name: graph_input.shape for graph_input in self._session.get_inputs()}
        self._columns: dict[str, slice | int] = {}
        widths = [0]
        for name in (*REQUIRED, *(each for each in OPTIONAL if each in shapes)):
            start, (_, *inner) = widths[-1], shapes[name]
            widths.append(start + (int(inner[0]) if inner else 1))
            self._columns[name] = slice(start, widths[-1]) if inner else start
        self._width = widths[-1]
        self._of_earlier_callers = widths[len(REQUIRED) : -1]
        self._virtual_shape: tuple[int, int] = tuple(shapes["virtual"][1:])

    def checked(self, users: IndexArray, virtual: FloatArray) -> IndexArray:
        """The rows of users (U, W), filled up where a caller of an earlier version does not send all.

        Raises `BadRequest` for rows or virtual behaviour of another shape than the generation's.
        """
        if users.ndim == 2 and users.shape[1] in self._of_earlier_callers:  # noqa: PLR2004  # (U, W)
            users = np.pad(users, ((0, 0), (0, self._width - users.shape[1])))
        if users.ndim != 2 or users.shape[1] != self._width:  # noqa: PLR2004  # (U, W)
            raise BadRequest(f"users: expected the shape (users, {self._width}), got {users.shape}")
        if virtual.shape[1:] != self._virtual_shape:
            raise BadRequest(f"virtual_behaviour: expected the shape {self._virtual_shape}, got {virtual.shape[1:]}")
        return users

    def run(self, users: IndexArray, virtual: FloatArray, candidates: IndexArray, owner: IndexArray) -> FloatArray:
        """Probabilities (R,) of `candidates` (R,), each for the user in row `owner` (R,); R may be 0.

        `users` (U, W) as `Encoding.encode_users` makes them, `virtual` (U, M, D).
        """
        if not len(candidates):
            return np.zeros(0, dtype=np.float32)
        feed: dict[str, IndexArray | FloatArray] = {name: users[:, columns] for name, columns in self._columns.items()}
        feed |= {"virtual": virtual, "candidates": candidates, "owner": owner}
        (scores,) = self._session.run(None, feed)
        return scores  # type: ignore[no-any-return]  # onnxruntime ships no types


def providers_of(kind: str, device: str) -> tuple[Provider, ...]:
    """What onnxruntime runs on in a Triton instance group of this kind. Raises `RuntimeError` where it cannot."""
    if kind == "CPU":
        return CPU
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise RuntimeError(f"instance kind {kind} needs onnxruntime-gpu; this onnxruntime has no CUDAExecutionProvider")
    return ("CUDAExecutionProvider", {"device_id": device}), *CPU


def _session(path: Path, providers: Sequence[Provider], threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
