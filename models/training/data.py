"""What a run learns from, whatever it came from: a dataset up to its split, or a window of the training log."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset
from models.data.examples import Examples
from models.data.histories import Histories, PastBehaviour
from models.data.sampling import NegativeSampler
from models.data.split import TimeSplit
from models.data.vocabulary import fit_encoding, item_counts
from models.runtime.encoding import FIRST_KNOWN, Encoding, IndexArray


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The examples that a run learns from, and what they were encoded with.

    `users` are the rows of `examples.attributes` that were learned from, each once. `counts` (item_count,): how often
    each item was acted on. `sampler` makes the sampler of negatives from a generator; None where the examples have
    labels of their own. What comes at or after `split_ms` was not learned from.
    """

    encoding: Encoding
    examples: Examples
    users: IndexArray
    counts: IndexArray
    split_ms: int
    sampler: Callable[[np.random.Generator], NegativeSampler] | None = None

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        split: TimeSplit,
        encoding: Encoding | None = None,
        histories: PastBehaviour | None = None,
    ) -> "TrainingData":
        """The data before the split. `histories`: the behaviour that may be seen; by default all of the dataset's.

        Raises `InvalidInput` for data of one class.
        """
        encoding = encoding or fit_encoding(dataset, split.instant_ms)
        counts = item_counts(dataset, encoding, split.instant_ms)
        if dataset.has_labels:
            _check_labels(split.train["label"].to_numpy(), dataset.description.interactions.label)
        elif np.count_nonzero(counts) < 2:  # noqa: PLR2004  # one to meet, one not to
            raise InvalidInput("interactions", int(np.count_nonzero(counts)), "training needs two items at least")
        # what comes after the split must not tell what is no negative
        past = replace(dataset, interactions=split.train)
        return cls(
            encoding=encoding,
            examples=Examples.of(dataset, split.train, encoding, histories or Histories.of(dataset, encoding)),
            users=dataset.user_rows(split.train["user_id"].drop_duplicates()),
            counts=counts,
            split_ms=split.instant_ms,
            sampler=None if dataset.has_labels else partial(NegativeSampler, past, encoding, counts),
        )

    @classmethod
    def of_examples(cls, examples: Examples, encoding: Encoding, split_ms: int) -> "TrainingData":
        """Examples made elsewhere, with labels of their own. Raises `InvalidInput` for none, or for one class."""
        _check_labels(examples.labels, "label")
        counts = np.bincount(examples.items[examples.labels == 1], minlength=encoding.item_count).astype(np.int64)
        counts[:FIRST_KNOWN] = 0
        return cls(encoding, examples, np.unique(examples.users).astype(np.int64), counts, split_ms)


def _check_labels(labels: npt.NDArray[Any], column: str | None) -> None:
    kinds = np.unique(labels)
    if len(kinds) < 2:  # noqa: PLR2004  # two classes
        only = int(kinds[0]) if len(kinds) else None
        raise InvalidInput(f"interactions, column {column!r}", only, "training needs labels of both kinds")
