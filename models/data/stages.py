"""The stages of many users at once: `foretaste.kernel.users.Stage`, told by how many behaviours were seen."""

from typing import Any

import numpy as np

from models.runtime.encoding import IndexArray


def stages_of(seen: IndexArray, warm_after: int) -> IndexArray:
    """(B,) places in `foretaste.kernel.users.STAGES`, for numbers of behaviours seen (B,)."""
    stages: IndexArray = (seen > 0).astype(np.int64) + ~reads_virtual(seen, warm_after)
    return stages


def reads_virtual(seen: Any, warm_after: int) -> Any:
    """(B,) True for a cold or warming user, who reads virtual behaviour; of an array or a tensor `seen` (B,)."""
    return seen < warm_after
