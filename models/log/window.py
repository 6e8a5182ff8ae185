"""A window of the training log: rankings with the features that were served, and their outcomes."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ranking import EARLY_MS
from foretaste.kernel.values import MAX_BEHAVIOUR, canonical, number
from models.data.dataset import Dataset
from models.data.examples import Examples
from models.data.indices import Indices
from models.log.columns import Fields, Lists
from models.log.histories import ServedHistories
from models.log.schema import LOG, LogSchema
from models.runtime.account_age import NEVER_REGISTERED
from models.runtime.encoding import Encoding, IndexArray
from models.runtime.fields import KINDS


@dataclass(frozen=True, eq=False, slots=True)
class LogNames:
    """What the numbers in a window stand for: ids and actions by number, and raw values by number and field.

    `user_of_row` and `attributes_of_row` (rows,): the user of each row of users, and the attributes as served, -1 for
    none.
    """

    users: Sequence[str]
    items: Sequence[str]
    actions: Sequence[str]
    user_of_row: Indices
    attributes_of_row: Indices
    attributes: Fields
    contexts: Fields


class DrawnOrders(NamedTuple):
    """D rankings whose order was drawn: (D,) the row of the first item among those of `LogWindow.examples`, how many
    items each shows, and the probability that the first one stood there."""

    first: IndexArray
    sizes: IndexArray
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LogWindow:
    """G rankings in order of time, each with the items shown, R in all; parts of one window share the rows of users.

    A row of users is a user with attributes as they were served once: who signed up again with others has two. `users`,
    `times_ms`, `contexts` (numbers of `names.contexts`), `generations` (the ranking tower's, 0 for none), `warm_after`
    (0 for none), `registered_ms` (the first registration as known then, `NEVER_REGISTERED` for unknown), `served_by`
    and `first_probabilities` (that the first item stood there, nan where no order was drawn) are (G,). `shown` has a
    list of items a ranking, each with the action that it was answered by, -1 for none; `behaviour` the behaviour as
    served, newest last.

    Every ranking before `until_ms` is here, but those before the window. Of the whole window, before it was cut:
    `open_rankings`, left out since their outcome is not known yet; `unanswered`, behaviours that answer no ranking in
    it; `skipped`, files that could not be read; `strangers`, rankings left out of users of whom nothing is known.
    """

    times_ms: IndexArray
    users: Indices
    contexts: Indices
    generations: IndexArray
    warm_after: IndexArray
    registered_ms: IndexArray
    served_by: npt.NDArray[np.object_]
    first_probabilities: npt.NDArray[np.float64]
    shown: Lists
    behaviour: Lists
    names: LogNames
    until_ms: int
    open_rankings: int = 0
    unanswered: int = 0
    skipped: tuple[str, ...] = ()
    strangers: int = 0

    def __len__(self) -> int:
        return len(self.times_ms)

    @property
    def labels(self) -> npt.NDArray[np.int8]:
        """(R,) 1 for an item that was acted on, else 0."""
        return (self.shown.actions >= 0).astype(np.int8)

    @property
    def user_of_row(self) -> IndexArray:
        """(rows,) the number of the person behind each row of users."""
        return self.names.user_of_row.astype(np.int64)

    def before(self, time_ms: int) -> "LogWindow":
        """The rankings before a moment."""
        end = int(np.searchsorted(self.times_ms, time_ms))
        return replace(self._between(0, end), until_ms=min(time_ms, self.until_ms))

    def since(self, time_ms: int) -> "LogWindow":
        """The rankings at a moment or later."""
        return self._between(int(np.searchsorted(self.times_ms, time_ms)), len(self))

    def _between(self, first: int, end: int) -> "LogWindow":
        one = slice(first, end)
        return replace(
            self,
            times_ms=self.times_ms[one],
            users=self.users[one],
            contexts=self.contexts[one],
            generations=self.generations[one],
            warm_after=self.warm_after[one],
            registered_ms=self.registered_ms[one],
            served_by=self.served_by[one],
            first_probabilities=self.first_probabilities[one],
            shown=self.shown.between(first, end),
            behaviour=self.behaviour.between(first, end),
        )

    def histories(self, encoding: Encoding) -> ServedHistories:
        """The behaviour as served, for the rows and times of this window alone."""
        items, actions = encoding.encode_items(self.names.items), encoding.encode_actions(self.names.actions)
        rows = len(self.names.user_of_row)
        return ServedHistories.of(self.users, self.times_ms, rows, self.behaviour, items, actions)

    def examples(self, encoding: Encoding) -> Examples:
        """Every ranking in order of time, the same rows in the same order whatever the encoding."""
        dataset = self._dataset(LogSchema.of(encoding), None)
        registered_ms = np.repeat(self.registered_ms, self.shown.sizes)
        found = Examples.of(dataset, dataset.interactions, encoding, self.histories(encoding), registered_ms)
        return replace(found, persons=self.user_of_row)

    @property
    def drawn_orders(self) -> DrawnOrders:
        """The rankings of two items and more whose order was drawn."""
        order = np.lexsort((self.users, self.times_ms))  # as `Examples.of` has them: no row of users has two at a time
        sizes, probabilities = self.shown.sizes[order], self.first_probabilities[order]
        known = (probabilities > 0) & (sizes > 1)  # nan is not greater
        first = np.cumsum(sizes) - sizes
        return DrawnOrders(first[known], sizes[known], probabilities[known])

    def dataset(self, schema: LogSchema, catalogue: pd.DataFrame | None = None) -> Dataset:
        """The window as any other dataset, for vocabularies, bins and counts.

        `catalogue` is what is known of items (`read_catalogue`); without it every attribute of an item is missing.
        `Dataset.users` are the rows of users, and `items` all that the log names, those of other parts of the window
        too: of this part is who and what has a row in the events. `behaviours` tell which items and actions there are,
        not when: they are what each user was last served with, at that time, and what was acted on. Who had done what
        before a ranking is for `histories` to say, and never for `Histories.of`.

        Raises `InvalidInput` where nothing can be learned: no ranking, or no item that was acted on, or none that was
        not.
        """
        if not len(self):
            left_out = (
                f"no ranking before {self.until_ms} ms whose outcome is known, {self.open_rankings} are still open"
            )
            raise InvalidInput(LOG, 0, left_out)
        kinds = np.unique(self.labels)
        if len(kinds) < 2:  # noqa: PLR2004  # two classes
            problem = (
                f"{len(self.shown.items)} impressions of {len(self)} rankings have one outcome; training needs both"
            )
            raise InvalidInput(f"{LOG}, label", kinds.tolist(), problem)
        return replace(self._dataset(schema, catalogue), fingerprint=self._fingerprint())

    def notices(self, schema: LogSchema) -> list[str]:
        """What a person should know of the fields that the log and the schema do not share, a sentence each."""
        notices: list[str] = []
        for what, ours, fields in (
            ("attribute", schema.attributes, self.names.attributes),
            ("context field", schema.context, self.names.contexts),
        ):
            notices += [f"the log has no {what} {name!r}: it is unknown" for name in sorted(ours.keys() - fields.names)]
            gained = sorted(fields.names - ours.keys())
            notices += [f"the log has a new {what} {name!r}: it is not read before a cold start" for name in gained]
        notices += self._notices_of_ages()
        if self.strangers:
            notices.append(f"{self.strangers} rankings of users who neither registered nor ever acted are left out")
        if self.skipped:
            notices.append(f"{len(self.skipped)} of the log's files could not be read: {', '.join(self.skipped)}")
        return notices

    def _notices_of_ages(self) -> list[str]:
        unknown = int(np.count_nonzero(self.registered_ms == NEVER_REGISTERED))
        ahead = int(np.count_nonzero(self.registered_ms > self.times_ms + EARLY_MS))
        counts = (("that do not tell when their user registered", unknown), ("before their user's registration", ahead))
        return [f"rankings {which}, whose account's age is unknown: {count}" for which, count in counts if count]

    def _dataset(self, schema: LogSchema, catalogue: pd.DataFrame | None) -> Dataset:
        keys = pd.Index(self._row_keys(), dtype=object)
        interactions = self._events(keys, np.arange(len(self)), self.shown)
        interactions["label"] = self.labels
        for name, values in self._context(schema):
            interactions[name] = values
        registered_ms = np.full(len(keys), NEVER_REGISTERED)
        registered_ms[self.users] = self.registered_ms  # of several rankings of a row the last one remains
        return Dataset(
            description=schema.description,
            users=pd.DataFrame({"user_id": keys} | self._attributes(schema)),
            items=_items(self.names.items, schema, catalogue),
            interactions=interactions,
            fingerprint="",
            behaviours=self._behaviours(keys, interactions),
            registered_ms=registered_ms,
        )

    def _fingerprint(self) -> str:
        """sha256 of who was shown what, when, and what came of it."""
        digest = hashlib.sha256()
        for names in (self.names.users, self.names.items, self.names.actions):
            digest.update("\n".join(names).encode())
        users = self.user_of_row[self.users]
        for column in (self.times_ms, users, self.shown.starts, self.shown.items, self.shown.actions):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def _row_keys(self) -> list[str]:
        """A text for each row of users: the user's id after the number of the row among the user's."""
        users = self.names.user_of_row
        nth = pd.Series(users).groupby(users).cumcount()
        return [f"{count}:{self.names.users[user]}" for count, user in zip(nth.tolist(), users.tolist(), strict=True)]

    def _attributes(self, schema: LogSchema) -> dict[str, npt.NDArray[np.object_]]:
        own = self.names.attributes_of_row
        return {name: self.names.attributes.column(name)[own] for name in schema.attributes}

    def _context(self, schema: LogSchema) -> Iterator[tuple[str, "pd.Categorical | npt.NDArray[np.float64]"]]:
        of_row = np.repeat(self.contexts, self.shown.sizes)
        for name, kind in schema.context.items():
            values = self.names.contexts.column(name)
            if KINDS[kind].is_text:
                codes, texts = pd.factorize(np.array([canonical(value) for value in values], dtype=object))
                yield name, pd.Categorical.from_codes(codes[of_row], categories=pd.Index(texts, dtype=object))
            else:
                yield name, np.array([number(value) for value in values], dtype=np.float64)[of_row]

    def _events(self, keys: "pd.Index[str]", rankings: IndexArray, lists: Lists) -> pd.DataFrame:
        """A row for each item in the lists of these rankings (B,)."""
        of_row = np.repeat(rankings, lists.sizes)
        return pd.DataFrame(
            {
                "user_id": pd.Categorical.from_codes(self.users[of_row], categories=keys),
                "item_id": _named(lists.items, self.names.items),
                "action": _named(lists.actions, self.names.actions),
                "time_ms": self.times_ms[of_row],
                "label": np.ones(len(of_row), dtype=np.int8),
            },
            copy=False,
        )

    def _behaviours(self, keys: "pd.Index[str]", interactions: pd.DataFrame) -> pd.DataFrame:
        newest = np.full(len(self.names.users), -1, dtype=np.int64)
        newest[self.user_of_row[self.users]] = np.arange(len(self))  # of several rankings the last one remains
        rankings = np.sort(newest[newest >= 0])
        served = self._events(keys, rankings, self.behaviour.take(rankings, MAX_BEHAVIOUR))
        acted = interactions.loc[interactions["label"] == 1, served.columns]
        return pd.concat([served, acted]).sort_values("time_ms", kind="stable", ignore_index=True)


def _named(codes: Indices, names: Sequence[str]) -> Any:
    categories: Any = pd.Index(list(names), dtype=object)
    return pd.Categorical.from_codes(codes, categories=categories)


def _items(ids: Sequence[str], schema: LogSchema, catalogue: pd.DataFrame | None) -> pd.DataFrame:
    frame = pd.DataFrame({"item_id": pd.Series(ids, dtype=object)})
    known = catalogue.set_index("item_id").reindex(list(ids)) if catalogue is not None else pd.DataFrame()
    nothing = np.full(len(ids), None, dtype=object)
    for name in schema.item_attributes:
        frame[name] = known[name].to_numpy(dtype=object) if name in known else nothing
    return frame
