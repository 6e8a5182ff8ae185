"""Popularity: every user gets what all users act on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydantic.dataclasses

from foretaste.kernel.configuration import NO_OTHER_FIELDS, PositiveFloat, raises_invalid_input
from foretaste.kernel.values import DAY_MS
from models.data.examples import Batch
from models.rivals.events import Numbers, TrainingEvents
from models.rivals.methods import Material


@dataclass(frozen=True, eq=False)
class ItemScores:
    """The same score for an item whoever asks: `by_item` (item_count,), 0 for an unknown one."""

    by_item: Numbers

    def scores(self, batch: Batch) -> Numbers:
        found: Numbers = self.by_item[batch.candidates]
        return found


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class Popularity:
    """Score of item i: Σ 2^(-(T - t) / half-life) over the actions on i at times t before the split T."""

    half_life_days: PositiveFloat | None = None
    """Age at which an action counts half; None: all count alike, as in the gate's baseline."""

    def fit(self, material: Material) -> ItemScores:
        events = TrainingEvents.of(material)
        weights = events.acted.astype(np.float64)
        if self.half_life_days is not None:
            ages = (material.split.instant_ms - events.times_ms) / DAY_MS
            weights *= np.exp2(-ages / self.half_life_days)
        return ItemScores(
            np.bincount(events.items, weights=weights, minlength=material.encoding.item_count).astype(np.float64)
        )

    def trials(self) -> Sequence["Popularity"]:
        return self, Popularity(30.0), Popularity(7.0), Popularity(2.0), Popularity(0.5)
