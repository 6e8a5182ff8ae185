"""A generation's map of behaviour as it was exported, and the place of a new virtual behaviour on it. No torch."""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from foretaste.kernel.errors import DamagedArtifact, InvalidInput
from foretaste.kernel.service_ports import MapPlace
from foretaste.kernel.values import FloatArray

NEAREST = 3
"""Known virtual behaviours that place a new one."""
_SAME = 1e-3
"""Of the mean distance from the centre: nearer than so, a virtual behaviour is a known one."""

Floats = npt.NDArray[np.float64]


class StoredMap(BaseModel):
    """`map.json`: R real and V virtual behaviours; V virtual ones in C principal components of their M·D numbers."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    format: Literal[1] = 1
    shape: tuple[int, int]
    """(M, D)."""
    real: list[tuple[float, float]]
    virtual: list[tuple[float, float]]
    mean: list[float]
    """(M·D,)."""
    components: list[list[float]]
    """(C, M·D)."""
    known: list[list[float]]
    """(V, C)."""

    @model_validator(mode="after")
    def _fits(self) -> "StoredMap":
        width, count = self.shape[0] * self.shape[1], len(self.components)
        fits = len(self.mean) == width and all(len(each) == width for each in self.components)
        if not fits or not self.known or len(self.known) != len(self.virtual):
            raise ValueError("the parts of the map do not fit together")
        if any(len(each) != count for each in self.known):
            raise ValueError("a known virtual behaviour has another number of components")
        return self

    def place(self, vectors: FloatArray) -> MapPlace:
        """The mean of the points of the `NEAREST` known ones, weighted by 1 / distance; one of them is where it is.

        Raises `InvalidInput` for vectors of another shape.
        """
        if vectors.shape != self.shape:
            raise InvalidInput("virtual_behaviour", list(vectors.shape), f"expected the shape {list(self.shape)}")
        reduced = np.array(self.components) @ (vectors.flatten().astype(np.float64) - np.array(self.mean))
        known = np.array(self.known)
        scale = max(float(np.linalg.norm(known, axis=1).mean()), 1e-12)
        distances: Floats = np.linalg.norm(known - reduced, axis=1) / scale
        nearest = np.argsort(distances, kind="stable")[:NEAREST]
        if distances[nearest[0]] < _SAME:
            nearest = nearest[:1]
        weights = 1 / np.maximum(distances[nearest], _SAME)
        x, y = np.average(np.array(self.virtual)[nearest], axis=0, weights=weights)
        return MapPlace(float(x), float(y), float(distances[nearest[0]]))


def read_map(path: Path) -> StoredMap | None:
    """None where the generation has none. Raises `DamagedArtifact` without a generation, and for a malformed map."""
    if not path.parent.is_dir():
        raise DamagedArtifact(f"{path.parent} is missing")
    if not path.is_file():
        return None
    try:
        return StoredMap.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DamagedArtifact(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise DamagedArtifact(f"{path} is malformed: {error.errors(include_url=False)[0]['msg']}") from error
