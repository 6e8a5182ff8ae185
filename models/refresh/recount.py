"""What a refresh adds its counts to: those of its base, unless somebody is in them who was erased since.

Counts are sums over users, from which nobody can be taken out again. Where somebody who was erased is in them, the log
is counted anew, which holds that user no more: on top of the first counts, of what was there before the log, or on
nothing where the user is in those too. Whoever comes back is counted again, and that erasure is known as done.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.effects.state import SavedCounts
from models.generations.counted import CountedUsers, Erasures
from models.refresh.records import CountsBasis, CountsFrom
from models.runtime import layout
from models.training.trained import Trained


def basis_of(folder: Path, erased: Erasures) -> CountsBasis:
    """For a refresh of the generation in a folder."""
    if not erased or not folder.is_dir():
        return CountsBasis(CountsFrom.BASE, None, erased)
    counted = CountedUsers.read(folder)
    if counted is not None and not counted.hold_some(erased):
        return CountsBasis(CountsFrom.BASE, None, erased)
    if counted is None or counted.first_counts is None or counted.first_hold_some(erased):
        return CountsBasis(CountsFrom.NOTHING, 0, erased)
    return CountsBasis(CountsFrom.FIRST, SavedCounts.load(counted.first_counts).until_ms, erased)


def with_counts(base: Trained, folder: Path, counts: CountsFrom) -> Trained:
    """The base of a refresh with the counts, and the popularity, that this adds to."""
    if counts is CountsFrom.BASE:
        return base
    if counts is CountsFrom.NOTHING:
        return replace(base, counts=None, popularity=np.zeros_like(base.popularity))
    first = SavedCounts.load(folder / layout.FIRST_COUNTS)
    acted = np.zeros_like(base.popularity)
    acted[first.past.items] = np.asarray(first.past.counts.acted.sum(axis=0)).ravel()
    return replace(base, counts=first, popularity=acted / max(acted.sum(), 1.0))


def counted_with(folder: Path, counts: CountsFrom, user_ids: Sequence[str], erased: Erasures) -> CountedUsers | None:
    """Who is in the counts of a refresh of the generation in a folder, with the users of its window; None where the
    generation's own do not tell. `erased`: what its basis was taken by."""
    if counts is CountsFrom.NOTHING:
        return CountedUsers.of(user_ids, erased)
    counted = CountedUsers.read(folder)
    if counted is None:
        return None
    earlier = counted.before(folder) if counts is CountsFrom.BASE else counted.first_alone()
    return earlier.adding(user_ids, erased)
