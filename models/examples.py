"""Impressions as arrays: what one step of training, or one step of evaluation, reads."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.dataset import Dataset
from models.encoding import FIELD_UNKNOWN, PADDING, UNKNOWN, Encoding, IndexArray
from models.histories import Histories
from models.sampling import NegativeSampler

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """U moments of a user, and the R candidates met at them.

    A moment is a user, a time and a context: `users` (U,) rows of `Dataset.users`, `attributes` (U, N), `context`
    (U, C), and the behaviour before it, `items` and `actions` (U, L). `candidates` (R,) with `labels` (R,) belong to
    the moments in rows `owner` (R,).
    """

    users: IndexArray
    attributes: IndexArray
    context: IndexArray
    items: IndexArray
    actions: IndexArray
    candidates: IndexArray
    labels: npt.NDArray[np.float32]
    owner: IndexArray

    def hidden(self, moments: Flags) -> "Batch":
        """The same with the behaviour of the flagged `moments` (U,) taken away: new users, made."""
        return replace(
            self,
            items=np.where(moments[:, None], PADDING, self.items),
            actions=np.where(moments[:, None], PADDING, self.actions),
        )

    def with_unknowns(self, share: float, rng: np.random.Generator) -> "Batch":
        """The same with a random share of all known values made unknown, so that unknown's embeddings are learned."""

        def forget(values: IndexArray, unknown: int) -> IndexArray:
            return np.where((rng.random(values.shape) < share) & (values != PADDING), unknown, values)

        return replace(
            self,
            attributes=forget(self.attributes, FIELD_UNKNOWN),
            context=forget(self.context, FIELD_UNKNOWN),
            items=forget(self.items, UNKNOWN),
            actions=forget(self.actions, UNKNOWN),
            candidates=forget(self.candidates, UNKNOWN),
        )


@dataclass(frozen=True, eq=False)
class Examples:
    """Interactions of a data frame, gathered into G moments of one user, time and context each.

    The rows of moment g are `starts[g]` to `starts[g + 1]`. `attributes` (users, N) has a row for each of
    `Dataset.users`.
    """

    users: IndexArray
    times_ms: IndexArray
    context: IndexArray
    starts: IndexArray
    items: IndexArray
    labels: npt.NDArray[np.float32]
    attributes: IndexArray
    histories: Histories

    @classmethod
    def of(cls, dataset: Dataset, frame: pd.DataFrame, encoding: Encoding, histories: Histories) -> "Examples":
        """All of `frame`, which is a part of the dataset's interactions."""
        context = _columns(frame, encoding)
        users = dataset.user_rows(frame["user_id"])
        keys = np.column_stack([frame["time_ms"].to_numpy(dtype=np.int64), users, context])
        moments, group = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(group, kind="stable")
        return cls(
            users=moments[:, 1],
            times_ms=moments[:, 0],
            context=moments[:, 2:],
            starts=np.searchsorted(group[order], np.arange(len(moments) + 1)).astype(np.int64),
            items=encoding.encode_items(frame["item_id"].tolist())[order],
            labels=frame["label"].to_numpy(dtype=np.float32)[order],
            attributes=encode_users(dataset, encoding),
            histories=histories,
        )

    @property
    def sizes(self) -> IndexArray:
        """Rows of each of the G moments."""
        return np.diff(self.starts)

    def batch(self, moments: IndexArray, sampler: NegativeSampler | None = None, negatives: int = 4) -> Batch:
        """Moments (U,) with their behaviour and rows; with a `sampler`, each row brings that many negatives."""
        users, sizes = self.users[moments], self.sizes[moments]
        owner = np.repeat(np.arange(len(moments)), sizes)
        rows = np.arange(len(owner)) + np.repeat(self.starts[moments] - np.cumsum(sizes) + sizes, sizes)
        candidates, labels = self.items[rows], self.labels[rows]
        if sampler is not None:
            drawn = sampler.sample(users[owner], negatives).ravel()
            given = drawn != PADDING  # a user who has met everything has no negatives
            candidates = np.concatenate([candidates, drawn[given]])
            labels = np.concatenate([labels, np.zeros(int(given.sum()), dtype=np.float32)])
            owner = np.concatenate([owner, np.repeat(owner, negatives)[given]])
        items, actions, _ = self.histories.before(users, self.times_ms[moments])
        return Batch(users, self.attributes[users], self.context[moments], items, actions, candidates, labels, owner)


def batches(sizes: IndexArray, rows: int, rng: np.random.Generator | None = None) -> Iterator[IndexArray]:
    """Cut G moments of these `sizes` into batches of about `rows` rows, shuffled where a generator is given.

    The last batch takes up a remainder of less than half a batch: batch normalisation wants no batch of one row.
    """
    order = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
    filled = np.cumsum(sizes[order])
    total = int(filled[-1]) if len(filled) else 0
    count = max(round(total / rows), 1)
    cuts = np.searchsorted(filled, np.arange(1, count) * (total / count), side="left") + 1
    return (part for part in np.split(order, cuts) if len(part))


def encode_users(dataset: Dataset, encoding: Encoding) -> IndexArray:
    """Attributes of every row of `Dataset.users`, (users, N)."""
    columns = [field.encode(dataset.users[name].tolist()) for name, field in encoding.attributes.items()]
    return np.column_stack(columns)


def _columns(frame: pd.DataFrame, encoding: Encoding) -> IndexArray:
    columns = [field.encode(frame[name].tolist()) for name, field in encoding.context.items()]
    return np.column_stack(columns) if columns else np.zeros((len(frame), 0), dtype=np.int64)
