"""What is asked of items that were made new, and how a method that never learned of them is asked."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import Attributes
from models.data.dataset import Dataset
from models.data.examples import Batch
from models.effects.item_kinds import kinds_of
from models.rivals.methods import Ranker
from models.rivals.towers import TowerRanker
from models.runtime.encoding import PADDING, UNKNOWN, Encoding, IndexArray
from models.study.fold import NEW_ITEMS, SEED, Fold, ProtocolName
from models.training.item_kinds import with_kinds

UNKNOWN_ROW = "new items unknown"
"""The probe that reads every new item as an unknown one, as towers do of an item that was not registered."""
_ROUNDS = 50


def served_encoding(fold: Fold) -> Encoding:
    """The vocabulary of towers that learned from the fold, after all items that were made new were registered."""
    encoding = fold.encoding.with_kinds(kinds_of(fold.encoding))
    items = fold.dataset.items.iloc[sorted(fold.new_items)]
    names = list(encoding.item_attributes)
    registered: dict[str, Attributes] = {
        str(item): dict(zip(names, values, strict=True))
        for item, *values in items[["item_id", *names]].itertuples(index=False, name=None)
    }
    encoding.add_items(registered)
    return encoding


def new_negatives(  # flat
    fold: Fold, whole: Dataset, users: IndexArray, items: IndexArray, encoding: Encoding, count: int
) -> tuple[IndexArray, npt.NDArray[np.bool_]]:
    """(E, count) indices of new items for E events of `users` (E,), and (E,) whether each of `items` (E,) is drawable.

    Drawn by how often they were acted on before the split in the `whole` data set, never one that the user ever met;
    `PADDING` where none is found. An item of the same kind as a drawable one is one too: its row is the same.
    """
    rows = np.array(sorted(fold.new_items), dtype=np.int64)
    frame = whole.interactions
    of_item, times = whole.item_rows(frame["item_id"]), frame["time_ms"].to_numpy(dtype=np.int64)
    acted = (times < fold.split.instant_ms) & (frame["label"].to_numpy() == 1)
    weights = np.bincount(of_item[acted], minlength=len(whole.items))[rows].astype(np.float64)
    index = encoding.encode_items(whole.items["item_id"].tolist())
    drawable = np.isin(items, index[rows[weights > 0.0]])
    if not weights.any():
        return np.full((len(users), count), PADDING, dtype=np.int64), drawable
    met = np.unique(whole.user_rows(frame["user_id"]) * len(whole.items) + of_item)
    rng, share = np.random.default_rng(SEED), weights / weights.sum()
    owner = np.repeat(users, count)
    found, open_slots = np.full(len(owner), -1, dtype=np.int64), np.arange(len(owner))
    for _ in range(_ROUNDS):
        drawn = rng.choice(rows, len(open_slots), p=share)
        fresh = ~np.isin(owner[open_slots] * len(whole.items) + drawn, met)
        found[open_slots[fresh]] = drawn[fresh]
        open_slots = open_slots[~fresh]
    return np.where(found >= 0, index[found], PADDING).reshape(len(users), count), drawable


def as_asked(ranker: Ranker, protocol: ProtocolName, encoding: Encoding) -> Ranker:
    """The ranker that answers the questions of a protocol, for one that learned with this `encoding`."""
    return with_new_items(ranker, encoding) if protocol == NEW_ITEMS else ranker


def with_new_items(ranker: Ranker, encoding: Encoding) -> Ranker:
    """A ranker that takes new items: towers read their kinds, any other method an unknown item."""
    if isinstance(ranker, TowerRanker):
        served = with_kinds(replace(ranker.trained, model=ranker.trained.model.cpu()))
        served.model.to(ranker.device)
        return replace(ranker, trained=served)
    return UnknownItems(ranker, encoding.first_kind)


@dataclass(frozen=True, eq=False)
class UnknownItems:
    """Reads whatever is not below `first_kind` as an unknown item."""

    ranker: Ranker
    first_kind: int

    def scores(self, batch: Batch) -> npt.NDArray[np.float64]:
        known = replace(batch, candidates=self._known(batch.candidates), items=self._known(batch.items))
        return self.ranker.scores(known)

    def _known(self, items: IndexArray) -> IndexArray:
        return np.where(items < self.first_kind, items, UNKNOWN)
