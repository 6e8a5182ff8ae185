"""The training rows as arrays: what the rivals that count things count."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse

from foretaste.kernel.errors import InvalidInput
from models.data.examples import encode_users
from models.data.indices import item_indices
from models.rivals.methods import Material
from models.runtime.encoding import IndexArray

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainingEvents:
    """E training rows: `users` (rows of `Dataset.users`), `items` (indices), `times_ms` and `acted`, each (E,)."""

    users: IndexArray
    items: IndexArray
    times_ms: IndexArray
    acted: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, material: Material) -> "TrainingEvents":
        train = material.split.train
        return cls(
            users=material.dataset.user_rows(train["user_id"]),
            items=item_indices(material.dataset, material.encoding, train["item_id"]).astype(np.int64),
            times_ms=train["time_ms"].to_numpy(dtype=np.int64),
            acted=train["label"].to_numpy() == 1,
        )


@dataclass(frozen=True, eq=False)
class TrainingBehaviour:
    """The U training users with behaviour: `users` (U,) rows of `Dataset.users`, their
    `attributes` (U, N) and `matrix` (U, item_count), how often each acted on each item."""

    users: IndexArray
    attributes: IndexArray
    matrix: scipy.sparse.csr_matrix

    @classmethod
    def of(cls, material: Material) -> "TrainingBehaviour":
        """The behaviour before the split. Raises `InvalidInput` where nobody acted on anything."""
        events = TrainingEvents.of(material)
        if not events.acted.any():
            raise InvalidInput("interactions", 0, "training holds no behaviour of any user to learn from")
        users, rows = np.unique(events.users[events.acted], return_inverse=True)
        shape = (len(users), material.encoding.item_count)
        # duplicates add up in the conversion from coordinates
        matrix = scipy.sparse.coo_matrix((np.ones(len(rows)), (rows, events.items[events.acted])), shape=shape).tocsr()
        return cls(users, encode_users(material.dataset, material.encoding)[users], matrix)
