"""What often follows an item, as an index holds it.

Copied into Triton's environment: standard library and numpy alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import FloatArray, IndexArray


@dataclass(frozen=True, eq=False, slots=True)
class StoredTransitions:
    """What makes a user's vector for the items that follow real behaviour: `sources` (items, H), how much they weigh at
    each number of behaviours seen, `weights` (L + 1,), and by how much less than the one after it each does, `decay`.
    `begins` is the first column of an item's target.
    """

    sources: npt.NDArray[np.float16]
    weights: FloatArray
    decay: float
    begins: int

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "StoredTransitions | None":
        """Out of the file of an index; None where the tower reads none, or an earlier version wrote it."""
        if "sources" not in stored:
            return None
        decay, begins = stored["transition_form"].tolist()
        return cls(stored["sources"], stored["transition_weights"], decay, int(begins))

    def query(self, items: IndexArray) -> FloatArray:
        """(H,) of a user who acted on these items, oldest first: the weight × the sum of their sources, the newest in
        full, each before it `decay` times the one after."""
        decayed = self.decay ** np.arange(len(items) - 1, -1, -1, dtype=np.float32)
        weight = self.weights[min(len(items), len(self.weights) - 1)]
        return np.asarray(weight * (decayed @ self.sources[items].astype(np.float32)), dtype=np.float32)
