"""What a study learns from and what it judges by: one instant, and the users whom a protocol makes new."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset
from models.data.histories import Histories
from models.data.split import TimeSplit, split_by_time
from models.data.vocabulary import fit_encoding
from models.rivals.methods import Material
from models.runtime.account_age import NEVER_REGISTERED
from models.runtime.encoding import Encoding, IndexArray

ProtocolName: TypeAlias = Literal["hidden", "first_steps", "random_40", "random_40_steps", "new_items"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
NEW_ITEMS: ProtocolName = "new_items"
OF_USERS: tuple[ProtocolName, ...] = tuple(name for name in PROTOCOLS if name != NEW_ITEMS)
"""Protocols that ask of new users; the other one asks of new items."""
MAKES_NEW: tuple[ProtocolName, ...] = ("random_40", "random_40_steps")
"""Protocols that make users new; the others ask of those who are new by themselves."""
BY_STEPS: tuple[ProtocolName, ...] = ("first_steps", "random_40_steps")
"""Protocols whose groups are those of `SEEN`."""
MADE_NEW = 0.4
"""Of the users, made new by those protocols."""
MADE_NEW_ITEMS = 0.2
"""Of the items, made new by `NEW_ITEMS`."""
VALIDATION_SHARE = 0.8
"""Of the training interactions, before the instant of the validation window."""
SEED = 1
"""Of the candidates and of who is made new: the same for every method and every seed of a method."""


@dataclass(frozen=True, eq=False)
class Fold:
    """One instant: what lies before it to learn from, what comes after it to judge by.

    `dataset` holds all that may be looked at, `learning` only what lies before the instant. `made_new`: rows of the
    users whom a protocol made new, of whom `dataset` therefore holds nothing before the instant. `depth`: inside how
    many others it lies; at each depth others are made new, for those of the fold around it have nothing left.
    """

    dataset: Dataset
    split: TimeSplit
    encoding: Encoding
    learning: Dataset
    depth: int = 0
    made_new: frozenset[int] = field(default_factory=frozenset)
    new_items: frozenset[int] = field(default_factory=frozenset)
    """Rows of the items that a protocol made new: `dataset` holds nothing of them before the instant either."""

    @classmethod
    def of(cls, dataset: Dataset, instant_ms: int | None = None, depth: int = 0) -> "Fold":
        """The fold at `instant_ms`, at what `dataset.yaml` says, or after 80 % of the interactions."""
        split = split_by_time(dataset, instant_ms)
        learning = replace(dataset, interactions=split.train)
        return cls(dataset, split, fit_encoding(learning, split.instant_ms), learning, depth)

    @cached_property
    def validation(self) -> "Fold":
        """Inside the training period, split again after its own 80 %: whoever begins later is a held-out new user."""
        times = self.split.train["time_ms"]
        return Fold.of(self.learning, int(times.iloc[int(VALIDATION_SHARE * len(times))]), self.depth + 1)

    def under(self, protocol: ProtocolName) -> "Fold":
        """The fold that a protocol asks of: this one, or the one with users or items made new."""
        if protocol == NEW_ITEMS:
            return self._with_items_made_new
        return self._with_users_made_new if protocol in MAKES_NEW else self

    @cached_property
    def _with_users_made_new(self) -> "Fold":
        """A random `MADE_NEW` of the users, without all that they did before the instant."""
        drawn = np.random.default_rng(SEED + self.depth).random(len(self.dataset.users))
        new = np.flatnonzero(drawn < MADE_NEW)
        instant = self.split.instant_ms
        dataset = _without_past(self.dataset, lambda frame: self.dataset.user_rows(frame["user_id"]), new, instant)
        dataset = replace(dataset, registered_ms=_registered_anew(dataset, new, instant))
        return replace(Fold.of(dataset, instant, self.depth), made_new=frozenset(new.tolist()))

    @cached_property
    def _with_items_made_new(self) -> "Fold":
        """A random `MADE_NEW_ITEMS` of the items, without all that was done with them before the instant."""
        drawn = np.random.default_rng(SEED + self.depth).random(len(self.dataset.items))
        new, instant = np.flatnonzero(drawn < MADE_NEW_ITEMS), self.split.instant_ms
        dataset = _without_past(self.dataset, lambda frame: self.dataset.item_rows(frame["item_id"]), new, instant)
        return replace(Fold.of(dataset, instant, self.depth), new_items=frozenset(new.tolist()))

    @property
    def new_users(self) -> IndexArray:
        """Rows of the users whom the protocols take for new: those made new, or those who first act after the split."""
        if self.made_new:
            return np.array(sorted(self.made_new), dtype=np.int64)
        return self.dataset.user_rows(self.split.cold_users)

    def material(self, protocol: ProtocolName, seed: int, threads: int = 1, device: str = "cpu") -> Material:
        """What a method learns from under a protocol; the same for those that share their new users."""
        fold = self.under(protocol)
        histories = Histories.of(fold.learning, fold.encoding)
        split = replace(fold.split, test=fold.split.test.iloc[:0], cold_users=(), warm_users=())
        return Material(fold.learning, split, fold.encoding, histories, seed, threads, device)  # type: ignore[arg-type]


def sharing(protocols: Sequence[ProtocolName]) -> list[tuple[ProtocolName, ...]]:
    """Protocols by what a method learns from under them: users and items that are made new want fits of their own."""
    by_themselves = tuple(name for name in OF_USERS if name not in MAKES_NEW)
    parts = [tuple(name for name in protocols if name in part) for part in (by_themselves, MAKES_NEW, (NEW_ITEMS,))]
    return [part for part in parts if part]


def _without_past(
    dataset: Dataset, rows_of: Callable[[pd.DataFrame], IndexArray], new: IndexArray, instant_ms: int
) -> Dataset:
    """The dataset without what lies before the instant in its tables, of users or items whose rows are in `new`.

    `rows_of` tells these rows of a table's rows (R,).
    """

    def left(frame: pd.DataFrame) -> pd.DataFrame:
        past = (frame["time_ms"] < instant_ms).to_numpy() & np.isin(rows_of(frame), new)
        return frame[~past].reset_index(drop=True)

    behaviours = None if dataset.behaviours is None else left(dataset.behaviours)
    return replace(dataset, interactions=left(dataset.interactions), behaviours=behaviours)


def _registered_anew(dataset: Dataset, users: IndexArray, instant_ms: int) -> IndexArray | None:
    """The column of first registrations, where it has one, as if `users` had none before the instant: the first event
    that is left of each stands for it."""
    if dataset.registered_ms is None:
        return None
    found = dataset.registered_ms.copy()
    anew = users[(found[users] != NEVER_REGISTERED) & (found[users] < instant_ms)]
    found[anew] = dataset.first_events_ms[anew]
    return found


def check_protocols(names: Sequence[str]) -> tuple[ProtocolName, ...]:
    """The protocols of these names, in the order of `PROTOCOLS`. Raises `InvalidInput` naming one that is unknown."""
    if not names:
        raise InvalidInput("protocols", list(names), f"names none of {', '.join(PROTOCOLS)}")
    for name in names:
        if name not in PROTOCOLS:
            raise InvalidInput("protocols", name, f"expected one of {', '.join(PROTOCOLS)}")
    return tuple(known for known in PROTOCOLS if known in names)
