"""Recent over overall popularity: every user gets what is acted on more of late than it was before."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pydantic.dataclasses

from foretaste.kernel.configuration import NO_OTHER_FIELDS, PositiveFloat, raises_invalid_input
from foretaste.kernel.values import DAY_MS
from models.rivals.events import Numbers, TrainingEvents
from models.rivals.methods import Material
from models.rivals.popularity import ItemScores


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class RecentPopularity:
    """A rule that learns nothing of users, and knows what popularity alone does not: the season.

    With n(i) of N actions on item i within the last `days` before the split, m(i) of M in all, and c pseudo-actions,

        score(i) = log[(n + c) / (N m / M + c)],

    which is 0 for an item that keeps its share, or was never met. Against negatives that are drawn by overall
    popularity this ratio is what a rule without users can know.
    """

    days: PositiveFloat = 7.0
    """How much counts as recent."""
    shrinkage: PositiveFloat = 10.0
    """c."""

    def fit(self, material: Material) -> ItemScores:
        events = TrainingEvents.of(material)
        begin = material.split.instant_ms - self.days * DAY_MS
        overall = _counts(events.items[events.acted], material)
        recent = _counts(events.items[events.acted & (events.times_ms >= begin)], material)
        expected = overall * (recent.sum() / max(overall.sum(), 1.0))
        return ItemScores(np.log((recent + self.shrinkage) / (expected + self.shrinkage)))

    def trials(self) -> Sequence["RecentPopularity"]:
        return (
            self,
            *(replace(self, days=days) for days in (self.days / 2, self.days / 4, 2 * self.days)),
            replace(self, shrinkage=self.shrinkage / 5),
        )


def _counts(items: "np.typing.NDArray[np.int64]", material: Material) -> Numbers:
    """(item_count,): how often each of `items` (E,) is named."""
    return np.bincount(items, minlength=material.encoding.item_count).astype(np.float64)
