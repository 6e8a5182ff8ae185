"""Training rows as other libraries read them: in memory, each row with its own copy of the user's history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.data.dataset import Dataset
from models.data.examples import Batch, Examples, batches
from models.data.histories import Histories
from models.data.sampling import NegativeSampler
from models.data.split import TimeSplit
from models.data.vocabulary import item_counts
from models.runtime.encoding import PADDING, Encoding, FieldEncoder, IndexArray

Integers = npt.NDArray[np.int32]
CHUNK = 65_536
"""Rows gathered at a time."""


@dataclass(frozen=True, eq=False, slots=True)
class PeerRows:
    """R rows: the user's attributes, the context, the candidate with its attributes, and the behaviour before."""

    fields: Mapping[str, Integers]
    """(R,) each: attributes, context and candidates' attributes, by group and name (`user_age`)."""
    sizes: Mapping[str, int]
    """Number of values of each field, the unknown value included."""
    items: Integers
    """(R,): candidates."""
    item_count: int
    history: Integers
    """(R, L), oldest first, then `PADDING` (0)."""
    lengths: Integers
    """(R,): number of history items that are not padding."""
    labels: npt.NDArray[np.float32]
    """(R,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> "PeerRows":
        """The first `count` rows."""
        return replace(
            self,
            fields={name: values[:count] for name, values in self.fields.items()},
            items=self.items[:count],
            history=self.history[:count],
            lengths=self.lengths[:count],
            labels=self.labels[:count],
        )


@dataclass(frozen=True, slots=True)
class RowSample:
    """Which rows are drawn, as `TrainingConfig` draws those of an epoch."""

    rows: int | None
    """Number of rows, about; None: all."""
    negatives: int
    batch: int
    seed: int


def peer_rows(dataset: Dataset, split: TimeSplit, encoding: Encoding, draw: RowSample) -> PeerRows:
    """Rows from before the split: positives with sampled negatives (or the data's own labels), histories attached.

    Raises `InvalidInput` for data that no negative can be sampled from.
    """
    rng = np.random.default_rng(draw.seed)
    counts = item_counts(dataset, encoding, split.instant_ms)
    sampler = None if dataset.has_labels else NegativeSampler(dataset, encoding, counts, rng)
    examples = Examples.of(dataset, split.train, encoding, Histories.of(dataset, encoding))
    sizes = examples.sizes * (1 if sampler is None else 1 + draw.negatives)
    share = 1.0 if draw.rows is None else min(draw.rows / sizes.sum(), 1.0)
    drawn = rng.permutation(len(sizes))[: max(round(share * len(sizes)), 1)]
    parts = (examples.batch(drawn[part], sampler, draw.negatives) for part in batches(sizes[drawn], CHUNK))
    rows = _joined([_expanded(part, encoding) for part in parts])
    alone = len(rows) % draw.batch == 1  # a last batch of one row cannot be normalised
    return rows.first(len(rows) - alone)


def _expanded(batch: Batch, encoding: Encoding) -> PeerRows:
    """The rows of a batch, with the attributes, context and history of each moment copied to all of its rows."""
    owner = batch.owner
    fields = {
        **_named("user", encoding.attributes, batch.attributes[owner]),
        **_named("context", encoding.context, batch.context[owner]),
        **_named("item", encoding.item_attributes, encoding.item_features[batch.candidates]),
    }
    groups = (("user", encoding.attributes), ("context", encoding.context), ("item", encoding.item_attributes))
    return PeerRows(
        fields=fields,
        sizes={name: size for group, found in groups for name, size in _sizes(group, found).items()},
        items=batch.candidates.astype(np.int32),
        item_count=encoding.item_count,
        history=batch.items.astype(np.int32)[owner],
        lengths=(batch.items != PADDING).sum(axis=1).astype(np.int32)[owner],
        labels=batch.labels,
    )


def _sizes(group: str, fields: Mapping[str, FieldEncoder]) -> dict[str, int]:
    """Of each column, by group and field, and its place in one of several: an item and a user may share names."""
    found = {}
    for name, field in fields.items():
        for place, size in enumerate(field.sizes):
            found[f"{group}_{name}" + (f"_{place}" if len(field.sizes) > 1 else "")] = size
    return found


def _named(group: str, fields: Mapping[str, FieldEncoder], values: IndexArray) -> dict[str, Integers]:
    """The columns of `values` (R, F), named as `_sizes` does."""
    columns = values.T.astype(np.int32)
    return dict(zip(_sizes(group, fields), columns, strict=True))


def _joined(parts: Sequence[PeerRows]) -> PeerRows:
    first = parts[0]
    return replace(
        first,
        fields={name: np.concatenate([part.fields[name] for part in parts]) for name in first.fields},
        items=np.concatenate([part.items for part in parts]),
        history=np.concatenate([part.history for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )
