"""Weeks of a dataset as the training log would hold them: rankings with the features as served, and behaviours."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from features.log.rows import BEHAVIOURS, RANKINGS, conformed
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Logged
from models.data.dataset import Dataset
from models.data.histories import Histories
from models.data.indices import item_indices
from models.data.sampling import NegativeSampler
from models.data.vocabulary import fit_encoding, item_counts
from models.runtime.account_age import NEVER_REGISTERED
from models.runtime.encoding import FIRST_KNOWN, PADDING, Encoding, IndexArray

WEEK_MS = 7 * 86_400_000
_AT_ONCE = 16_384
"""Rankings whose behaviour is looked up together."""
_Texts = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Week:
    """A week, numbered from 1: from `since_ms` on and before `until_ms` (epoch milliseconds)."""

    number: int
    since_ms: int
    until_ms: int


def weeks_of(dataset: Dataset, since_ms: int, until_ms: int | None = None, most: int | None = None) -> list[Week]:
    """The weeks from an instant on, one after the other, for as long as each holds a new user and ends by `until_ms`.

    `most` of them. Raises `InvalidInput` where there are fewer than two: the first one's generations are all the same.
    """
    times_ms = dataset.interactions["time_ms"].to_numpy(dtype=np.int64)
    starts = first_times(dataset)
    end = int(times_ms.max()) if until_ms is None else until_ms - WEEK_MS
    weeks: list[Week] = []
    for begin in range(since_ms, end + 1, WEEK_MS):
        if len(weeks) == most or not ((begin <= starts) & (starts < begin + WEEK_MS)).any():
            break
        weeks.append(Week(len(weeks) + 1, begin, begin + WEEK_MS))
    if len(weeks) < 2:
        raise InvalidInput("weeks", len(weeks), f"a replay needs two weeks with new users from {since_ms} ms on")
    return weeks


def first_times(dataset: Dataset) -> IndexArray:
    """(users,) the time of the first event of each of `Dataset.users`; the greatest integer for one without events."""
    found = np.full(len(dataset.users), np.iinfo(np.int64).max)
    for table in (dataset.interactions, dataset.behaviour):
        np.minimum.at(found, dataset.user_rows(table["user_id"]), table["time_ms"].to_numpy(dtype=np.int64))
    return found


def up_to(dataset: Dataset, until_ms: int) -> Dataset:
    """The dataset without all that happened at or after an instant."""
    done = dataset.behaviours
    return replace(
        dataset,
        interactions=dataset.interactions[dataset.interactions["time_ms"] < until_ms],
        behaviours=None if done is None else done[done["time_ms"] < until_ms],
    )


def log_of(dataset: Dataset, week: Week, negatives: int, seed: int) -> Logged:
    """The training log of a week: its rankings and behaviours.

    All events of one user, time and context are one ranking, with the behaviour strictly earlier. Where the data have
    no labels, each event brings `negatives` items that were popular before the week and that the user had not met by
    its end, or at that moment where users repeat what they did: nothing here depends on what comes later. An event
    whose item nobody had acted on before the week is left out, since it would always be right.
    """
    known = up_to(dataset, week.until_ms)
    encoding = fit_encoding(known, week.until_ms)
    context = list(known.description.interactions.context)
    events = known.interactions[known.interactions["time_ms"] >= week.since_ms]
    events = events.drop_duplicates(["user_id", "item_id", "time_ms", "label", *context])  # a ranking shows it once
    sampler = _sampler(known, week, encoding, seed)
    if sampler is not None:
        events = sampler.drawable_rows(events)
    users = known.user_rows(events["user_id"])
    contexts, context_of = _contexts(events, context)
    keys = np.column_stack([events["time_ms"].to_numpy(dtype=np.int64), users, context_of])
    moments, owner = np.unique(keys, axis=0, return_inverse=True)
    owner = owner.ravel()
    drawn = np.zeros((len(events), 0), dtype=np.int64)
    if sampler is not None:
        drawn = sampler.sample(keys[:, 1], negatives, keys[:, 0])
    given = drawn != PADDING  # a user who has met everything has none
    items = item_indices(known, encoding, events["item_id"])
    shown, owners = np.concatenate([items, drawn[given]]), np.concatenate([owner, owner[np.nonzero(given)[0]]])
    order = np.argsort(owners, kind="stable")
    ids = np.array([f"{week.number}.{place}" for place in range(len(moments))], dtype=object)
    names = known.users["user_id"].to_numpy(dtype=object)
    acted_items, actions = _behaviour(Histories.of(known, encoding), encoding, moments[:, 1], moments[:, 0])
    rankings = {
        "ranking_id": ids,
        "user_id": names[moments[:, 1]],
        "at": _times(moments[:, 0]),
        "items": _lists(np.bincount(owners, minlength=len(moments)), _named(encoding.items)[shown[order]]),
        "context": contexts[moments[:, 2]],
        "attributes": _attributes(known)[moments[:, 1]],
        "behaviour_items": acted_items,
        "behaviour_actions": actions,
        "registered_at": _times(known.registrations_ms[moments[:, 1]]),
    }
    acted = np.flatnonzero(events["label"].to_numpy() == 1)
    behaviours = {
        "user_id": names[users[acted]],
        "item_id": events["item_id"].to_numpy(dtype=object)[acted],
        "at": _times(events["time_ms"].to_numpy(dtype=np.int64)[acted]),
        "action": events["action"].to_numpy(dtype=object)[acted],
        "ranking_id": ids[owner[acted]],
    }
    return Logged(conformed(pa.table(rankings), RANKINGS), conformed(pa.table(behaviours), BEHAVIOURS))


def _sampler(known: Dataset, week: Week, encoding: Encoding, seed: int) -> NegativeSampler | None:
    """Draws by popularity before the week; None for data with labels."""
    if known.has_labels:
        return None
    counts = item_counts(known, encoding, week.since_ms)
    return NegativeSampler(known, encoding, counts, np.random.default_rng([seed, week.number]))


def _contexts(events: pd.DataFrame, fields: list[str]) -> tuple[_Texts, IndexArray]:
    """Distinct contexts as JSON texts, and the index of each event's context (E,)."""
    if not fields:
        return np.array(["{}"], dtype=object), np.zeros(len(events), dtype=np.int64)
    place = events.groupby(fields, dropna=False, observed=True, sort=False).ngroup().to_numpy()
    _, firsts = np.unique(place, return_index=True)
    return _json(events[fields].iloc[firsts]), place.astype(np.int64)


def _attributes(known: Dataset) -> _Texts:
    return _json(known.users[list(known.description.users.attributes)])


def _json(rows: pd.DataFrame) -> _Texts:
    """A JSON text a row; what is missing is null."""
    texts = [json.dumps({name: _plain(value) for name, value in row.items()}) for row in rows.to_dict("records")]
    return np.array(texts, dtype=object)


def _plain(value: Any) -> Any:
    """The value as a JSON type."""
    if pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _behaviour(histories: Histories, encoding: Encoding, users: IndexArray, times_ms: IndexArray) -> tuple[Any, Any]:
    """Items and actions done strictly before each moment (G,), newest last, as lists of texts."""
    parts = []
    for begin in range(0, len(users), _AT_ONCE):
        items, actions, seen = histories.before(users[begin : begin + _AT_ONCE], times_ms[begin : begin + _AT_ONCE])
        parts.append((items[items != PADDING], actions[items != PADDING], seen))
    items, actions, sizes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _lists(sizes, _named(encoding.items)[items]), _lists(sizes, _named(encoding.actions)[actions])


def _named(texts: Sequence[str]) -> _Texts:
    """(F + texts,) the texts by index; the first F indices, which stand for no text, are None."""
    return np.array([None] * FIRST_KNOWN + list(texts), dtype=object)


def _lists(sizes: IndexArray, values: _Texts) -> Any:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), pa.array(values, pa.large_string()))


def _times(times_ms: IndexArray) -> Any:
    """As the log has them; none for `NEVER_REGISTERED`."""
    return pa.array(times_ms * 1000, pa.timestamp("us", tz="UTC"), mask=times_ms == NEVER_REGISTERED)
