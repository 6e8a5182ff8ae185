"""What a user's first acts tell of taste, beside what the towers have learned.

In the directions in which answers to questions are read (`models.training.questions`), with keys k that are centred
over p(i), the share of item i in what everybody acts on, a user of taste u ~ N(0, I) acts on i with probability
p(i) exp(k(i) · u) / Z(u). One Newton step from the prior over n acts j₁ … jₙ on known items gives, with
Σ = Σ_i p(i) k(i) k(i)ᵀ,

    û = (I + n Σ)⁻¹ Σ_d k(j_d),    log Z(û) ≈ ½ ûᵀ Σ û.

The towers know a part of that already: û counts `WEIGHT`, and n in the matrix `TEMPER` times. Copied into Triton's
environment: standard library and numpy alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from foretaste.kernel.values import FloatArray, IndexArray

ENOUGH = 20
"""Acts from which on this tells nothing that the towers do not know."""
WEIGHT = 0.5
TEMPER = 4.0


class ActPosterior(NamedTuple):
    """How acts move taste in T directions."""

    steps: FloatArray
    """(1 + `ENOUGH`, T, T): from the sum of the keys of so many acts to û; the last, of `ENOUGH` and more, is zero."""
    spread: FloatArray
    """(T, T): Σ."""

    @classmethod
    def of(cls, spread: FloatArray) -> "ActPosterior":
        """For keys of these second moments Σ (T, T)."""
        second = spread.astype(np.float64)
        found = [WEIGHT * np.linalg.inv(np.eye(len(second)) + TEMPER * acts * second) for acts in range(ENOUGH)]
        steps = np.stack([*found, np.zeros_like(second)])
        return cls(steps.astype(np.float32), spread.astype(np.float32))

    def of_keys_times(self, weight: float) -> "ActPosterior":
        """The same û · k for keys `weight` times as long."""
        return ActPosterior(self.steps / np.float32(weight**2), self.spread * np.float32(weight**2))


@dataclass(frozen=True, eq=False, slots=True)
class StoredActs:
    """An index's part: the `steps` of an `ActPosterior`, and `columns` (T,), û's places in virtual behaviour."""

    steps: FloatArray
    columns: IndexArray

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "StoredActs | None":
        """Out of the file of an index; None where acts tell nothing, or an earlier version wrote it."""
        return cls(stored["act_steps"], stored["act_columns"]) if "act_steps" in stored else None

    def taste(self, vectors: FloatArray) -> FloatArray:
        """û (T,) of n acts, by the vectors (n, H) of their items, which are known."""
        step = self.steps[min(len(vectors), ENOUGH)]
        return np.asarray(step @ vectors[:, self.columns].sum(axis=0), dtype=np.float32)
