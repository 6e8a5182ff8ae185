"""What a data set holds, and what training would make of it: `foretaste data check`."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from foretaste.kernel.values import is_missing, texts_of
from models.data.dataset import Dataset
from models.data.indices import as_numbers
from models.data.sampling import LEAST_REPEATS, repeat_share
from models.data.schema import FieldKind
from models.data.split import split_by_time
from models.data.times import utc_text
from models.data.vocabulary import SeenValues
from models.runtime.account_age import NEVER_REGISTERED
from models.runtime.fields import ListEncoder, NumericEncoder, VectorEncoder
from models.training.data import TrainingData

FIRST_EVENTS = "no column: the first event of each user stands for the registration"
MOST_VALUES = 10
"""Values of a categorical field that are shown, the most frequent ones."""


def summarise(dataset: Dataset) -> dict[str, Any]:
    """What the data hold, how training would split them and what it would read in them; fit for JSON.

    Raises the `InvalidInput` that training would: everything is prepared as for it.
    """
    says = dataset.description
    split = split_by_time(dataset)
    data = TrainingData.of(dataset, split)
    if data.sampler is not None:
        data.sampler(np.random.default_rng(0))
    frame = dataset.interactions
    unknown = data.encoding.unknown_items(dataset.items["item_id"].tolist())
    rows_of_unknown = np.isin(dataset.item_rows(split.test["item_id"]), dataset.item_rows(unknown))
    return {
        "name": says.name,
        "users": len(dataset.users),
        "items": len(dataset.items),
        "interactions": len(frame),
        "repeated_rows": int(frame.duplicated().sum()),
        "repeats": _repeats(repeat_share(dataset), sampled=data.sampler is not None),
        **({} if dataset.behaviours is None else {"behaviours": len(dataset.behaviours)}),
        "labels": dataset.has_labels,
        "positive_share": round(float(frame["label"].mean()), 4),
        "first": utc_text(float(frame["time_ms"].iloc[0])),
        "last": utc_text(float(frame["time_ms"].iloc[-1])),
        "split": utc_text(split.instant_ms),
        "before_the_split": len(split.train),
        "after_the_split": len(split.test),
        "test_rows_of_unknown_items": int(rows_of_unknown.sum()),
        "cold_users": len(split.cold_users),
        "warm_users": len(split.warm_users),
        "registrations": _registrations(dataset),
        "attributes": _fields(dataset.users, says.users.attributes),
        "item_attributes": _fields(dataset.items, says.items.attributes),
        "context": _fields(frame, says.interactions.context),
        "actions": _named(dataset.behaviour["action"])["most_frequent"],
        "not_numbers": [asdict(each) for each in dataset.not_numbers],
        "fingerprint": dataset.fingerprint,
    }


def _repeats(share: float, *, sampled: bool) -> str:
    """How many of the acts repeat an earlier one of the same user and item, and what that means for negatives."""
    found = f"{100 * share:.3g} % of the events repeat an earlier one"
    if not sampled:
        return found
    negatives = "at that moment" if share >= LEAST_REPEATS else "ever"
    return f"{found}; a negative is an item that the user did not meet {negatives}"


def _registrations(dataset: Dataset) -> dict[str, Any]:
    """What tells when users registered, and of how many nothing does, or what lies after their first event: until then
    the age of such an account is unknown."""
    firsts, found = dataset.first_events_ms, dataset.registrations_ms
    known = found != NEVER_REGISTERED
    column = dataset.description.users.registered
    return {
        "from": FIRST_EVENTS if column is None else f"column {column!r}",
        "unknown": int(np.count_nonzero(~known)),
        "after_the_first_event": int(np.count_nonzero(known & (firsts != NEVER_REGISTERED) & (found > firsts))),
    }


def _fields(frame: pd.DataFrame, fields: Mapping[str, FieldKind]) -> dict[str, dict[str, Any]]:
    return {name: {"kind": kind, **_SUMMARIES.get(kind, _named)(frame[name])} for name, kind in fields.items()}


def _named(column: "pd.Series[Any]") -> dict[str, Any]:
    """Of a categorical column: how many rows have no value, how many values there are, and the most frequent."""
    counts = SeenValues(column, np.ones(len(column), dtype=np.bool_)).counts()
    frequent = sorted(counts, key=lambda text: (-counts[text], text))[:MOST_VALUES]
    return {
        "missing_share": _share(len(column) - sum(counts.values()), len(column)),
        "values": len(counts),
        "most_frequent": {text: counts[text] for text in frequent},
    }


def _numbers(column: "pd.Series[Any]") -> dict[str, Any]:
    """Of a numeric column: how many rows have no number, and the smallest, the middle and the largest of the others."""
    numbers = as_numbers(column)
    known = numbers[~np.isnan(numbers)]
    ends = {"least": known.min(), "median": np.median(known), "most": known.max()} if len(known) else {}
    return {
        "missing_share": _share(len(numbers) - len(known), len(numbers)),
        "values": len(np.unique(known)),
        **{name: float(value) for name, value in ends.items()},
    }


def _lists(column: "pd.Series[Any]") -> dict[str, Any]:
    """Of lists: how many rows have none, how long the others are, how many values there are, the most frequent."""
    known = [texts_of(value) for value in column.tolist() if not is_missing(value)]
    counts = Counter(text for texts in known for text in texts)
    frequent = sorted(counts, key=lambda text: (-counts[text], text))[:MOST_VALUES]
    return {
        "missing_share": _share(len(column) - len(known), len(column)),
        "mean_length": round(float(np.mean([len(texts) for texts in known])), 2) if known else 0.0,
        "values": len(counts),
        "most_frequent": {text: counts[text] for text in frequent},
    }


def _vectors(column: "pd.Series[Any]") -> dict[str, Any]:
    """Of vectors: how many rows have none, their length, and how many rows have one of another length."""
    lengths = Counter(len(value) for value in column.tolist() if not is_missing(value))
    dimension, count = lengths.most_common(1)[0] if lengths else (0, 0)
    return {
        "missing_share": _share(len(column) - lengths.total(), len(column)),
        "length": dimension,
        "of_another_length": lengths.total() - count,
    }


_SUMMARIES: Mapping[str, Callable[["pd.Series[Any]"], dict[str, Any]]] = {
    NumericEncoder.kind: _numbers,
    ListEncoder.kind: _lists,
    VectorEncoder.kind: _vectors,
}
"""By kind of field; of another kind as of a categorical one."""


def _share(count: int, of: int) -> float:
    return round(count / of, 4)
