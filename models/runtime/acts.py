"""What a user's first acts tell of taste, beside what the towers have learned.

In the directions in which answers to questions are read (`models.training.questions`), with keys k that are centred
over p(i), the share of item i in what everybody acts on, a user of taste u ~ N(0, I) acts on i with probability
p(i) exp(k(i) · u) / Z(u). One Newton step from the prior over n acts j₁ … jₙ on known items gives, with
Σ = Σ_i p(i) k(i) k(i)ᵀ,

    û = (I + n Σ)⁻¹ Σ_d k(j_d),    log Z(û) ≈ ½ ûᵀ Σ û.

Of p known items i₁ … i_p that were shown and not chosen, the sum of keys is less by n / (n + p) Σ_d k(i_d): acts are
then told from the mean of n draws from everybody's taste, which is 0, and of what was passed over.

The towers know a part of that already: û counts `WEIGHT`, and n in the matrix `TEMPER` times. Copied into Triton's
environment: standard library and numpy alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from foretaste.kernel.values import FIRST_ACTS, FloatArray, IndexArray

WEIGHT = 0.5
TEMPER = 4.0


class ActPosterior(NamedTuple):
    """How acts move taste in T directions."""

    steps: FloatArray
    """(1 + `FIRST_ACTS`, T, T): from the sum of the keys of so many acts to û; the last is zero, and for all beyond."""
    spread: FloatArray
    """(T, T): Σ."""

    @classmethod
    def of(cls, spread: FloatArray) -> "ActPosterior":
        """For keys of these second moments Σ (T, T)."""
        second = spread.astype(np.float64)
        found = [WEIGHT * np.linalg.inv(np.eye(len(second)) + TEMPER * acts * second) for acts in range(FIRST_ACTS)]
        steps = np.stack([*found, np.zeros_like(second)])
        return cls(steps.astype(np.float32), spread.astype(np.float32))

    def of_keys_times(self, weight: float) -> "ActPosterior":
        """For keys `weight` times as long; û · k stays as it is, and below a weight of 1 it is that share of it."""
        square = np.float32(weight**2)
        return ActPosterior(min(weight, 1.0) / square * self.steps, self.spread * square)


@dataclass(frozen=True, eq=False, slots=True)
class StoredActs:
    """An index's part: the `steps` of an `ActPosterior`, and `columns` (T,), û's places in virtual behaviour."""

    steps: FloatArray
    columns: IndexArray

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "StoredActs | None":
        """Out of the file of an index; None where acts tell nothing, or an earlier version wrote it."""
        return cls(stored["act_steps"], stored["act_columns"]) if "act_steps" in stored else None

    def taste(self, acted: FloatArray, passed_over: FloatArray) -> FloatArray:
        """û (T,), by the vectors (n, H) and (p, H) of what was acted on and of what was passed over, all known."""
        acts = len(acted)
        if not acts:
            return np.zeros(len(self.columns), dtype=np.float32)
        share = acts / (acts + len(passed_over))
        evidence = acted[:, self.columns].sum(axis=0) - share * passed_over[:, self.columns].sum(axis=0)
        return np.asarray(self.steps[min(acts, FIRST_ACTS)] @ evidence, dtype=np.float32)
