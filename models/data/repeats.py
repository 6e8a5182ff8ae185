"""Acts that repeat an earlier one of the same user on the same item."""

import numpy as np

from models.data.dataset import Dataset

LEAST_SHARE = 0.01
"""Of the acts; from there on what a user did before is no sign of what the user will not do."""


def repeat_share(dataset: Dataset) -> float:
    """The share of the interactions of label 1 whose user had acted on the item at an earlier time."""
    frame = dataset.interactions
    acted = np.flatnonzero(frame["label"].to_numpy() == 1)
    if not len(acted):
        return 0.0
    users, items = (rows[acted] for rows in (dataset.user_rows(frame["user_id"]), dataset.item_rows(frame["item_id"])))
    times = frame["time_ms"].to_numpy(dtype=np.int64)[acted]
    _, first, pair = np.unique(users * len(dataset.items) + items, return_index=True, return_inverse=True)
    return float((times > times[first][pair.ravel()]).mean())  # interactions are sorted by time


def users_repeat(dataset: Dataset) -> bool:
    """Whether users act on items that they acted on before."""
    return repeat_share(dataset) >= LEAST_SHARE
