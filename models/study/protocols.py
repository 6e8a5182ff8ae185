"""What is asked of every method: whose events, ranked with which behaviour, against which candidates.

*hidden*: time split; the new users first act at or after the instant, and all their events are ranked with behaviour
hidden; the warm users' events after it with what they had really done strictly before each.
*first_steps*: the first `STEPS` events of each new user, each ranked with exactly the behaviour strictly earlier, by
how much that is.
*random_40*, *random_40_steps*: the same two of users who are made new, a random 40 % of all: whatever they did before
the instant is taken out of the data, so that it is in nobody's counts, vocabulary, negatives or history. The warm users
of *random_40* are all others.

*new_items*: a random 20 % of the items are made new: whatever was done with them before the instant is taken out. Their
events after it are ranked against other new items, of new users with behaviour hidden, of warm ones with what they had
done strictly before. The attributes of all these items are registered at the instant.

Where data have no labels, an event whose item could not have been drawn for another event is not asked: of items that
nobody had acted on before the instant the only candidates are right ones, and whoever puts the unknown first would win.

In all of them a user is as old at an event as a product would know: the time since the registration, or since the
user's first event where the data have none; of a user who is made new, the first that is left. Hidden are the
behaviours, not the age: the events of a hidden user are ranked as of a user of that age of whom nothing was seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.kernel.errors import ForetasteError
from models.data.dataset import Dataset
from models.data.examples import Batch, batches, encode_users
from models.data.histories import Histories
from models.data.indices import field_indices, item_indices
from models.data.sampling import NegativeSampler
from models.data.vocabulary import item_counts
from models.rivals.methods import Ranker
from models.runtime.account_age import age_bins
from models.runtime.encoding import PADDING, IndexArray
from models.study.fold import BY_STEPS, NEW_ITEMS, SEED, Fold, ProtocolName, sharing
from models.study.new_items import new_negatives, served_encoding

NEW, WARM = "new", "warm"
SEEN = {"0": (0, 0), "1-2": (1, 2), "3-5": (3, 5), "6-10": (6, 10), "11-20": (11, 20)}
"""Groups of the first steps: the fewest and the most behaviours seen."""
STEPS = 20
NEGATIVES = 4
BATCH_ROWS = 16384


@dataclass(frozen=True, eq=False)
class Questions:
    """R rows, each a candidate of one of U moments; a moment is a user, an instant and a context.

    `users`, `times_ms`, `ages` (bins of the accounts' ages), `hidden` (U,); `context` (U, C). `owner`, `candidates`,
    `labels` (R,) and `group` (R,), the position in `groups`. `hidden` moments show no behaviour, the others what lies
    strictly before their instant. `repeat` (R,): the event that a row is of repeats one that the same user had acted on
    before.
    """

    protocol: ProtocolName
    groups: tuple[str, ...]
    users: IndexArray
    times_ms: IndexArray
    context: IndexArray
    ages: IndexArray
    hidden: npt.NDArray[np.bool_]
    owner: IndexArray
    candidates: IndexArray
    labels: npt.NDArray[np.int8]
    group: IndexArray
    repeat: npt.NDArray[np.bool_]
    attributes: IndexArray
    histories: Histories

    @property
    def user_of_row(self) -> IndexArray:
        """(R,) rows of `Dataset.users`."""
        return self.users[self.owner]

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[tuple[IndexArray, Batch]]:
        """The rows (their positions) and the batch that asks them, whose labels are all 0: nobody can read them."""
        order = np.argsort(self.owner, kind="stable")
        sizes = np.bincount(self.owner, minlength=len(self.users))
        starts = np.r_[0, np.cumsum(sizes)]
        for moments in batches(sizes, rows):
            asked = order[starts[moments[0]] : starts[moments[-1] + 1]]
            yield asked, self._batch(moments, asked)

    def _batch(self, moments: IndexArray, asked: IndexArray) -> Batch:
        users = self.users[moments]
        times_ms = self.times_ms[moments]
        items, actions, seen = self.histories.before(users, times_ms)
        return Batch(
            users=users,
            attributes=self.attributes[users],
            context=self.context[moments],
            items=items,
            actions=actions,
            candidates=self.candidates[asked],
            labels=np.zeros(len(asked), dtype=np.float32),
            owner=self.owner[asked] - moments[0],
            times_ms=times_ms,
            seen=seen,
            ages=self.ages[moments],
        ).hidden(self.hidden[moments])

    def scores(self, ranker: Ranker) -> npt.NDArray[np.float32]:
        """(R,), as the cache keeps them. Raises `ForetasteError` for scores that are not finite, or not one a row."""
        scores = np.empty(len(self.owner), dtype=np.float32)
        for rows, batch in self.batches():
            found = np.asarray(ranker.scores(batch))
            if found.shape != rows.shape or not np.isfinite(found).all():
                raise ForetasteError(f"{ranker!r} gave scores that are not one finite number a candidate")
            scores[rows] = found
        return scores


@dataclass(frozen=True, eq=False)
class _Events:
    """E test events in time order: `users`, `times_ms`, `items`, `labels` (E,), `context` (E, C), and of each `seen`
    (E,), the behaviours strictly earlier, whether it is a `repeat` (E,) of one of them, and `ages` (E,), the bin of the
    account's age. `negatives` (E, 4) of each, none (E, 0) for data with labels of their own, and whether its item is
    `drawable` (E,), as a negative of another event: only such an event is asked."""

    users: IndexArray
    times_ms: IndexArray
    items: IndexArray
    labels: npt.NDArray[np.int8]
    context: IndexArray
    seen: IndexArray
    repeat: npt.NDArray[np.bool_]
    ages: IndexArray
    negatives: IndexArray
    drawable: npt.NDArray[np.bool_]
    histories: Histories
    attributes: IndexArray

    @classmethod
    def of(cls, fold: Fold) -> "_Events":
        frame, encoding = fold.split.test, fold.encoding
        users = fold.dataset.user_rows(frame["user_id"])
        times = frame["time_ms"].to_numpy(dtype=np.int64)
        items = item_indices(fold.dataset, encoding, frame["item_id"]).astype(np.int64)
        negatives, drawable = _negatives(fold, users, times, items)
        histories = Histories.of(fold.dataset, encoding)
        columns = [field_indices(field, frame[name]).astype(np.int64) for name, field in encoding.context.items()]
        return cls(
            users=users,
            times_ms=times,
            items=items,
            labels=frame["label"].to_numpy(dtype=np.int8),
            context=np.hstack(columns) if columns else np.zeros((len(frame), 0), dtype=np.int64),
            seen=_seen(histories, users, times),
            repeat=_repeats(fold.dataset)[len(fold.split.train) :],
            ages=age_bins(fold.dataset.registrations_ms[users], times, encoding.age_bounds),
            negatives=negatives,
            drawable=drawable,
            histories=histories,
            attributes=encode_users(fold.dataset, encoding),
        )


def _seen(histories: Histories, users: IndexArray, times_ms: IndexArray, chunk: int = 65536) -> IndexArray:
    """(E,) behaviours strictly earlier, as far as the towers can see them; in chunks, for each fills (chunk, L)."""
    parts = range(0, len(users), chunk)
    counted = [histories.before(users[at : at + chunk], times_ms[at : at + chunk])[2] for at in parts]
    return np.concatenate([np.zeros(0, dtype=np.int64), *counted])


def _repeats(dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Of each interaction (E,), whether its user had acted on the same item at a strictly earlier time."""
    frame = dataset.interactions
    times = frame["time_ms"].to_numpy(dtype=np.int64)
    pairs = dataset.user_rows(frame["user_id"]) * len(dataset.items) + dataset.item_rows(frame["item_id"])
    acted = np.flatnonzero(frame["label"].to_numpy() == 1)
    distinct, first = np.unique(pairs[acted], return_index=True)  # the earliest: interactions are sorted by time
    if not len(distinct):
        return np.zeros(len(frame), dtype=np.bool_)
    places = np.minimum(np.searchsorted(distinct, pairs), len(distinct) - 1)
    repeated: npt.NDArray[np.bool_] = (distinct[places] == pairs) & (times[acted[first[places]]] < times)
    return repeated


def _negatives(
    fold: Fold, users: IndexArray, times_ms: IndexArray, items: IndexArray
) -> tuple[IndexArray, npt.NDArray[np.bool_]]:
    """(E, 4) negatives by popularity in the training window, and (E,) whether each of `items` (E,) is drawable.

    Never an item that the user ever met, on either side of the instant; where users repeat what they did, never one
    that the user met at that moment.
    """
    if fold.dataset.has_labels:
        return np.zeros((len(users), 0), dtype=np.int64), np.ones(len(users), dtype=np.bool_)
    counts = item_counts(fold.learning, fold.encoding, fold.split.instant_ms)
    sampler = NegativeSampler(fold.dataset, fold.encoding, counts, np.random.default_rng(SEED))
    return sampler.sample(users, NEGATIVES, times_ms), sampler.drawable(items)


def questions(fold: Fold, protocols: Sequence[ProtocolName]) -> Mapping[ProtocolName, Questions]:
    """The questions of each protocol; of those that share their new users a test event has the same candidates."""
    found = {}
    for names in sharing(protocols):
        under = fold.under(names[0])
        if names == (NEW_ITEMS,):
            found[NEW_ITEMS] = _of_new_items(under, fold.dataset)
            continue
        table = _Events.of(under)
        for name in names:
            found[name] = _first_steps(name, under, table) if name in BY_STEPS else _hidden(name, under, table)
    return {name: found[name] for name in protocols}


def _hidden(protocol: ProtocolName, fold: Fold, table: _Events) -> Questions:
    new = np.isin(table.users, fold.new_users)
    return _questions(protocol, (NEW, WARM), fold, table, hidden=new, group=np.where(new, 0, 1))


def _of_new_items(fold: Fold, whole: Dataset) -> Questions:
    """`whole` is the data set with all that was done with the items that were made new."""
    encoding = served_encoding(fold)
    table = _Events.of(replace(fold, encoding=encoding))
    if not whole.has_labels:
        negatives, drawable = new_negatives(fold, whole, table.users, table.items, encoding, NEGATIVES)
        table = replace(table, negatives=negatives, drawable=drawable)
    new = np.isin(table.users, fold.new_users)
    group = np.where(table.items >= encoding.first_kind, np.where(new, 0, 1), -1)
    return _questions(NEW_ITEMS, (NEW, WARM), fold, table, hidden=new, group=group)


def _first_steps(protocol: ProtocolName, fold: Fold, table: _Events) -> Questions:
    new = np.isin(table.users, fold.new_users)
    place = pd.Series(table.users).groupby(table.users).cumcount().to_numpy()
    group = np.full(len(table.users), -1, dtype=np.int64)
    for position, (least, most) in enumerate(SEEN.values()):
        group[new & (place < STEPS) & (least <= table.seen) & (table.seen <= most)] = position
    return _questions(protocol, tuple(SEEN), fold, table, hidden=np.zeros_like(new), group=group)


def _questions(
    protocol: ProtocolName,
    groups: tuple[str, ...],
    fold: Fold,
    table: _Events,
    *,
    hidden: npt.NDArray[np.bool_],
    group: IndexArray,
) -> Questions:
    """The questions of the events that are drawable and have a `group` (E,) of 0 or more.

    A user's hidden moments of one context and one bin of age are one, at the split: behaviour is hidden, and how long
    the user has been one is not.
    """
    asked = np.flatnonzero((group >= 0) & table.drawable)
    times = np.where(hidden, fold.split.instant_ms, table.times_ms)[asked]
    keys = np.column_stack([times, table.users[asked], hidden[asked], table.ages[asked], table.context[asked]])
    moments, owner = np.unique(keys, axis=0, return_inverse=True)
    owner = owner.ravel()
    given = table.negatives[asked] != PADDING  # a user who has met everything has no negatives
    of_negative = np.nonzero(given)[0]
    of_event = np.column_stack([owner, group[asked], table.repeat[asked]])
    rows = np.concatenate([of_event, of_event[of_negative]])
    return Questions(
        protocol=protocol,
        groups=groups,
        users=moments[:, 1],
        times_ms=moments[:, 0],
        context=moments[:, 4:],
        ages=moments[:, 3],
        hidden=moments[:, 2].astype(np.bool_),
        owner=rows[:, 0],
        candidates=np.concatenate([table.items[asked], table.negatives[asked][given]]),
        labels=np.concatenate([table.labels[asked], np.zeros(len(of_negative), dtype=np.int8)]),
        group=rows[:, 1],
        repeat=rows[:, 2].astype(np.bool_),
        attributes=table.attributes,
        histories=table.histories,
    )
