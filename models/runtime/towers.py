"""The towers as served: raw values in, vectors or scores out.

This module is copied into Triton's environment beside each generation's artifact, so it holds the standard library,
numpy (1.26 and 2) and onnxruntime alone. A value that is merely unknown never fails here; a request that is malformed
raises `BadRequest`, for that request only.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime

from foretaste.kernel.values import FloatArray, Scalar
from models.runtime import layout
from models.runtime.encoding import Encoding, IndexArray

Provider: TypeAlias = str | tuple[str, dict[str, Any]]

CPU: tuple[Provider, ...] = ("CPUExecutionProvider",)
NO_VIRTUAL = (1, 1)
"""Shape of a single zero that stands for "no virtual behaviour", whatever M and D are."""


class BadRequest(ValueError):
    """A request that cannot be read; the message names the field."""


@dataclass(frozen=True)
class RankingRequest:
    """One user and K candidates, raw. `virtual` is (M, D), or one zero of shape `NO_VIRTUAL`."""

    attributes: Mapping[str, Scalar]
    context: Mapping[str, Scalar]
    items: Sequence[str]
    actions: Sequence[str]
    virtual: FloatArray
    candidates: Sequence[str]


@dataclass(frozen=True)
class EncodedRequest:
    """A `RankingRequest` as indices: (1, N), (1, C), (1, L), (1, L), (1, M, D) and (K,)."""

    attributes: IndexArray
    context: IndexArray
    items: IndexArray
    actions: IndexArray
    virtual: FloatArray
    candidates: IndexArray


class ServedZeroShot:
    """The zero-shot tower of the generation in a folder."""

    def __init__(self, folder: Path, *, providers: Sequence[Provider] = CPU, threads: int = 1) -> None:
        self._encoding = _encoding(folder)
        self._session = _session(folder / layout.ZERO_SHOT, providers, threads)
        _, self._vectors, self._dimension = self._session.get_outputs()[0].shape

    def run(self, rows: Sequence[Mapping[str, Scalar]]) -> FloatArray:
        """Virtual behaviour (B, M, D) of the raw attributes of B users, which may be none."""
        if not rows:
            return np.zeros((0, self._vectors, self._dimension), dtype=np.float32)
        (virtual,) = self._session.run(None, {"attributes": self._encoding.encode_attributes(rows)})
        return virtual  # type: ignore[no-any-return]  # onnxruntime ships no types


class ServedRanking:
    """The ranking tower of the generation in a folder."""

    def __init__(self, folder: Path, *, providers: Sequence[Provider] = CPU, threads: int = 1) -> None:
        self._encoding = _encoding(folder)
        self._session = _session(folder / layout.RANKING, providers, threads)
        shapes = {graph_input.name: graph_input.shape for graph_input in self._session.get_inputs()}
        self._virtual_shape: tuple[int, int] = tuple(shapes["virtual"][1:])

    def encode(self, request: RankingRequest) -> EncodedRequest:
        """A request as indices.

        Raises `BadRequest` for behaviour of unequal columns, or virtual behaviour of another shape.
        """
        if len(request.items) != len(request.actions):
            raise BadRequest(f"behaviour: {len(request.items)} items but {len(request.actions)} actions")
        shape = request.virtual.shape
        if shape != self._virtual_shape and (shape != NO_VIRTUAL or request.virtual.any()):
            raise BadRequest(f"virtual_behaviour: expected the shape {self._virtual_shape}, got {shape}")
        items, actions = self._encoding.encode_behaviour(request.items, request.actions)
        return EncodedRequest(
            attributes=self._encoding.encode_attributes([request.attributes]),
            context=self._encoding.encode_context([request.context]),
            items=items[None],
            actions=actions[None],
            virtual=np.broadcast_to(request.virtual, self._virtual_shape)[None],
            candidates=self._encoding.encode_items(request.candidates),
        )

    def run(self, requests: Sequence[EncodedRequest]) -> list[FloatArray]:
        """Probabilities (K,) of each request, all in one pass; K may differ, and be 0."""
        counts = [len(request.candidates) for request in requests]
        if not sum(counts):
            return [np.zeros(0, dtype=np.float32) for _ in requests]
        feed = {
            "attributes": np.concatenate([request.attributes for request in requests]),
            "context": np.concatenate([request.context for request in requests]),
            "items": np.concatenate([request.items for request in requests]),
            "actions": np.concatenate([request.actions for request in requests]),
            "virtual": np.concatenate([request.virtual for request in requests]),
            "candidates": np.concatenate([request.candidates for request in requests]),
            "owner": np.repeat(np.arange(len(requests)), counts),
        }
        (scores,) = self._session.run(None, feed)
        return np.split(scores, np.cumsum(counts)[:-1])


def decode_object(field: str, text: str | bytes) -> dict[str, Any]:
    """A JSON object; an empty text is an empty one. Raises `BadRequest` naming the field."""
    if not text:
        return {}
    try:
        decoded = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"{field}: not JSON ({error})") from error
    if not isinstance(decoded, dict):
        raise BadRequest(f"{field}: expected a JSON object, got {type(decoded).__name__}")
    return decoded


def decode_texts(field: str, decoded: Mapping[str, Any], name: str) -> list[str]:
    """A list of strings in a decoded object; a missing one is empty. Raises `BadRequest` naming the field."""
    values = decoded.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise BadRequest(f"{field}.{name}: expected a list of strings")
    return values


def providers_of(kind: str, device: str) -> tuple[Provider, ...]:
    """What onnxruntime runs on in a Triton instance group of this kind. Raises `RuntimeError` where it cannot."""
    if kind == "CPU":
        return CPU
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise RuntimeError(f"instance kind {kind} needs onnxruntime-gpu; this onnxruntime has no CUDAExecutionProvider")
    return ("CUDAExecutionProvider", {"device_id": device}), *CPU


def _encoding(folder: Path) -> Encoding:
    return Encoding.from_json((folder / layout.ENCODING).read_text(encoding="utf-8"))


def _session(path: Path, providers: Sequence[Provider], threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
