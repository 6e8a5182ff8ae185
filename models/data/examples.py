"""Impressions as arrays: what one step of training, or one step of evaluation, reads."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.data.dataset import Dataset
from models.data.histories import PastBehaviour
from models.data.indices import Flags, Indices, field_indices, item_indices
from models.data.sampling import NegativeSampler
from models.runtime.account_age import UNKNOWN_AGE, age_bins
from models.runtime.encoding import FIELD_UNKNOWN, PADDING, UNKNOWN, Encoding, IndexArray

MOST_ROWS = 512
"""Of a moment, so that no batch grows with how many events of a user share a time."""


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """U moments of a user, and the R candidates met at them.

    A moment is a user, a time and a context: `users` (U,) rows of `Dataset.users`, `attributes` (U, N), `context`
    (U, C), `times_ms` (U,), and the behaviour before it, `items` and `actions` (U, L), of which `seen` (U,) are no
    padding. `ages` (U,) are the bins of the accounts' ages. `candidates` (R,) with `labels` (R,) belong to the moments
    in rows `owner` (R,).
    """

    users: IndexArray
    attributes: IndexArray
    context: IndexArray
    items: IndexArray
    actions: IndexArray
    candidates: IndexArray
    labels: npt.NDArray[np.float32]
    owner: IndexArray
    times_ms: IndexArray
    seen: IndexArray
    ages: IndexArray

    def hidden(self, moments: Flags) -> "Batch":
        """The batch with the behaviour of the flagged `moments` (U,) taken away: users made new, of their own age."""
        return replace(
            self,
            items=np.where(moments[:, None], PADDING, self.items),
            actions=np.where(moments[:, None], PADDING, self.actions),
            seen=np.where(moments, 0, self.seen),
        )

    def with_unknowns(self, share: float, rng: np.random.Generator) -> "Batch":
        """The batch with a random share of all known values made unknown, so that unknown's embeddings are learned."""

        def forget(values: IndexArray, unknown: int) -> IndexArray:
            return np.where((rng.random(values.shape) < share) & (values != PADDING), unknown, values)

        return replace(
            self,
            attributes=forget(self.attributes, FIELD_UNKNOWN),
            context=forget(self.context, FIELD_UNKNOWN),
            items=forget(self.items, UNKNOWN),
            actions=forget(self.actions, UNKNOWN),
            candidates=forget(self.candidates, UNKNOWN),
            ages=np.where(rng.random(len(self.ages)) < share, UNKNOWN_AGE, self.ages),
        )


@dataclass(frozen=True, eq=False)
class Examples:
    """Interactions of a data frame, gathered into G moments of one user, time and context each.

    The rows of moment g are `starts[g]` to `starts[g + 1]`, at most `MOST_ROWS`: a moment of more is cut.
    `attributes` (users, N) has a row for each of `Dataset.users`; `ages` (G,) are the bins of the accounts' ages, all
    unknown where the encoding has none.
    """

    users: Indices
    times_ms: IndexArray
    context: Indices
    starts: IndexArray
    items: Indices
    labels: npt.NDArray[np.float32]
    attributes: IndexArray
    histories: PastBehaviour
    ages: IndexArray
    persons: IndexArray | None = None
    """(users,): the number of the person whom each row of users is, where one person has several; None: each is one's
    own."""

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        frame: pd.DataFrame,
        encoding: Encoding,
        histories: PastBehaviour,
        registered_ms: IndexArray | None = None,
    ) -> "Examples":
        """The examples of `frame`, which is a part of the dataset's interactions.

        `registered_ms` (R,): when the user of each row had registered first, as it was known then; None: as the dataset
        has it of each user (`Dataset.registrations_ms`).
        """
        users = dataset.user_rows(frame["user_id"]).astype(np.int32)
        times_ms = frame["time_ms"].to_numpy(dtype=np.int64)
        context = _side_by_side(
            [field_indices(field, frame[name]) for name, field in encoding.context.items()], len(frame)
        )
        order = np.lexsort([*context.T[::-1], users, times_ms])
        begins = _begins([key[order] for key in (times_ms, users, *context.T)])
        first = order[begins]
        if registered_ms is None:
            registered_ms = dataset.registrations_ms[users]
        return cls(
            users=users[first],
            times_ms=times_ms[first],
            context=context[first],
            starts=np.append(begins, len(order)),
            items=item_indices(dataset, encoding, frame["item_id"])[order],
            labels=frame["label"].to_numpy(dtype=np.float32)[order],
            attributes=encode_users(dataset, encoding),
            histories=histories,
            ages=age_bins(registered_ms[first], times_ms[first], encoding.age_bounds),
        )

    @property
    def sizes(self) -> IndexArray:
        """Rows of each of the G moments."""
        return np.diff(self.starts)

    def rows_of(self, moments: IndexArray) -> tuple[IndexArray, IndexArray]:
        """The rows of moments (U,), one moment after the other: the place of each row's moment, and the row, (R,)."""
        starts = self.starts[moments]
        sizes = self.starts[moments + 1] - starts
        owner = np.repeat(np.arange(len(moments)), sizes)
        return owner, np.arange(len(owner)) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)

    def batch(self, moments: IndexArray, sampler: NegativeSampler | None = None, negatives: int = 4) -> Batch:
        """Moments (U,) with their behaviour and rows; with a `sampler`, each row brings that many negatives."""
        users = self.users[moments].astype(np.int64)
        owner, rows = self.rows_of(moments)
        candidates, labels = self.items[rows].astype(np.int64), self.labels[rows]
        if sampler is not None:
            drawn = sampler.sample(users[owner], negatives, self.times_ms[moments][owner]).ravel()
            given = drawn != PADDING  # a user who has met everything has no negatives
            candidates = np.concatenate([candidates, drawn[given]])
            labels = np.concatenate([labels, np.zeros(int(given.sum()), dtype=np.float32)])
            owner = np.concatenate([owner, np.repeat(owner, negatives)[given]])
        times_ms = self.times_ms[moments]
        items, actions, seen = self.histories.before(users, times_ms)
        context = self.context[moments].astype(np.int64)
        attributes = self.attributes[users]
        ages = self.ages[moments]
        return Batch(users, attributes, context, items, actions, candidates, labels, owner, times_ms, seen, ages)


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
    columns = [field_indices(field, dataset.users[name]) for name, field in encoding.attributes.items()]
    return _side_by_side(columns, len(dataset.users)).astype(np.int64)


def _side_by_side(columns: list[Indices], rows: int) -> Indices:
    return np.hstack(columns) if columns else np.zeros((rows, 0), dtype=np.int32)


def _begins(keys: list[npt.NDArray[Any]]) -> IndexArray:
    """Where each moment begins in sorted `keys` (R,), and every `MOST_ROWS` rows within one."""
    rows = len(keys[0])
    new = np.ones(rows, dtype=np.bool_)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    begins = np.flatnonzero(new)
    sizes = np.diff(begins, append=rows)
    if (sizes <= MOST_ROWS).all():
        return begins
    parts = -(-sizes // MOST_ROWS)
    within = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    cut: IndexArray = np.repeat(begins, parts) + within * MOST_ROWS
    return cut
