"""The table of items against attribute values: what people with each value act on more, or less, than everybody."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pydantic.dataclasses

from foretaste.kernel.configuration import NO_OTHER_FIELDS, PositiveFloat, raises_invalid_input
from models.data.examples import Batch, encode_users
from models.rivals.events import Numbers, TrainingEvents
from models.rivals.methods import Material
from models.runtime.encoding import IndexArray, sizes_of


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Counts of the pairs of an item and an attribute value that occur; all other pairs count 0.

    Sparse, since a catalogue and an attribute may have a million values each. `keys` (K,) rising, `counts` (K,).
    """

    offsets: IndexArray
    """(N,): where each attribute's values begin in one numbering of all values."""
    values: int
    """Values of all attributes together."""
    keys: IndexArray
    counts: Numbers

    @classmethod
    def of(cls, sizes: Sequence[int], items: IndexArray, attributes: IndexArray) -> "PairCounts":
        """Count E rows: `items` (E,) met by users with `attributes` (E, N) of so many `sizes` (N)."""
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        values = int(np.sum(sizes))
        keys, counts = np.unique(items[:, None] * values + offsets + attributes, return_counts=True)
        return cls(offsets, values, keys, counts.astype(np.float64))

    def of_pairs(self, items: IndexArray, attributes: IndexArray) -> Numbers:
        """(R, N) counts of `items` (R,) with each of `attributes` (R, N)."""
        if not len(self.keys):
            return np.zeros(attributes.shape)
        wanted = items[:, None] * self.values + self.offsets + attributes
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[places] == wanted, self.counts[places], 0.0)


@dataclass(frozen=True, eq=False)
class LogOddsRanker:
    """The fitted table; `exposures` is None where every event was a chance for every item (data without labels)."""

    method: "ItemAttribute"
    actions: PairCounts
    exposures: PairCounts | None
    value_totals: Numbers
    """(V,): rows of users with each attribute value, all attributes in one numbering."""
    rates: Numbers
    """(item_count,): p, the share of an item's chances at which it was acted on, one more action added."""

    def scores(self, batch: Batch) -> Numbers:
        attributes = batch.attributes[batch.owner]
        scores: Numbers = self.log_odds(batch.candidates, attributes).sum(axis=1)
        if self.method.popularity:
            scores += _logit(self.rates[batch.candidates])
        return scores

    def log_odds(self, items: IndexArray, attributes: IndexArray) -> Numbers:
        """(R, N): how much likelier than everybody users with each of `attributes` (R, N) act on `items` (R,)."""
        rate = self.rates[items][:, None]
        acted = self.actions.of_pairs(items, attributes)
        chances = (
            self.value_totals[self.actions.offsets + attributes]
            if self.exposures is None
            else self.exposures.of_pairs(items, attributes)
        )
        c = self.method.shrinkage
        found: Numbers = np.log((acted + c) / (chances - acted + c * (1 - rate) / rate)) - _logit(rate)
        return found


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class ItemAttribute:
    """Naive Bayes over the attributes, with shrinkage.

    For item i and value v of an attribute: n actions at e chances (impressions of i by users with v; in data without
    labels, all events of those users). With p the item's own rate, (acted + 1) / (events + items), and c
    pseudo-actions at that rate,

        log-odds(i, v) = log[(n + c) / (e - n + c (1 - p) / p)] - log[p / (1 - p)],

    which is 0 where nothing was seen. The score is its sum over the attributes, an unknown value being one like others.
    """

    shrinkage: PositiveFloat = 30.0
    """c: pseudo-actions of an item and a value; the item's own rate is not shrunk by them."""
    popularity: bool = False
    """Add log[p / (1 - p)], the item's own log-odds; without it, an item's popularity says nothing."""

    def fit(self, material: Material) -> LogOddsRanker:
        events = TrainingEvents.of(material)
        labelled = material.dataset.has_labels
        sizes = sizes_of(material.encoding.attributes)
        attributes = encode_users(material.dataset, material.encoding)[events.users]
        actions = PairCounts.of(sizes, events.items[events.acted], attributes[events.acted])
        count = material.encoding.item_count
        acted = np.bincount(events.items[events.acted], minlength=count).astype(np.float64)
        if labelled:
            chances = np.bincount(events.items, minlength=count).astype(np.float64)
            overall = (acted.sum() + 1) / (len(events.items) + 2)
        else:
            chances = np.full(count, float(len(events.items)))
            overall = 1 / count
        return LogOddsRanker(
            method=self,
            actions=actions,
            exposures=PairCounts.of(sizes, events.items, attributes) if labelled else None,
            value_totals=np.bincount((actions.offsets + attributes).ravel(), minlength=actions.values).astype(float),
            rates=(acted + 1) / (chances + 1 / overall),
        )

    def trials(self) -> Sequence["ItemAttribute"]:
        return (
            self,
            replace(self, shrinkage=self.shrinkage / 3),
            replace(self, shrinkage=self.shrinkage / 10),
            replace(self, shrinkage=self.shrinkage / 30),
            replace(self, popularity=not self.popularity),
        )


def _logit(share: Numbers) -> Numbers:
    found: Numbers = np.log(share / (1 - share))
    return found
