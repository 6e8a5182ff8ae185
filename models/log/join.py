"""The late join: what users did about what they were shown."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Logged
from foretaste.kernel.values import NO_ACTS
from models.data.indices import Indices
from models.log import columns as log_columns
from models.log.columns import Fields, Lists, Vocabulary
from models.log.window import LogNames, LogWindow
from models.runtime.encoding import IndexArray

NAMES_NONE, NAMES_ANOTHER = -1, -2
"""The ranking of an act that names none, or one that is not in the log."""


@dataclass(frozen=True, eq=False, slots=True)
class Acts:
    """A behaviours in order of time: (A,) numbers of users, items and actions, milliseconds, and the ranking named.

    `named` is a place among the rankings, `NAMES_NONE` or `NAMES_ANOTHER`.
    """

    users: Indices
    items: Indices
    actions: Indices
    times_ms: IndexArray
    named: IndexArray


@dataclass(frozen=True, eq=False, slots=True)
class Shown:
    """R impressions of G rankings in order of time: those of ranking g are `starts[g]` to `starts[g + 1]`.

    `users` and `times_ms` (G,), `items` (R,).
    """

    users: Indices
    times_ms: IndexArray
    starts: IndexArray
    items: Indices


def joined(logged: Logged, window_ms: int, until_ms: int) -> LogWindow:
    """The rankings of real users whose outcome is known at `until_ms` (epoch milliseconds), with it.

    A user is real who registered (attributes, be they empty, came with a ranking), whose behaviour was stored, or who
    acts in this log. What anybody may ask for an invented user is no impression.

    An item that was shown was acted on if its user did so at or after the ranking and less than `window_ms` later. An
    act counts once: for the newest such ranking that showed the item; or for the one that it names, and for no other.
    That one it may precede, by a clock that is late, but not outlast: a ranking's outcome is the same whenever the log
    is read. What was done at or after `until_ms` is not known, and a ranking whose window ends later
    than that is left out, though it keeps its acts: an older ranking does not get them.

    Raises `InvalidInput` for a window below 1 and for a log whose columns contradict each other.
    """
    if window_ms < 1:
        raise InvalidInput("window_ms", window_ms, "must be at least 1")
    users, items, actions = Vocabulary(), Vocabulary(), Vocabulary()
    given = len(logged.rankings)
    logged = replace(logged, rankings=_of_real_users(logged, until_ms))
    rankings = logged.rankings
    shown = Shown(
        users=users.codes(rankings["user_id"]),
        times_ms=log_columns.times_ms(rankings["at"]),
        starts=log_columns.starts_of(rankings["items"]),
        items=items.codes(log_columns.flat(rankings["items"])),
    )
    acts = _acts(logged, users, items, actions, until_ms)
    answered = attributed(shown, acts, window_ms)
    outcome = np.full(len(shown.items), -1, dtype=np.int32)
    found = answered >= 0
    outcome[answered[found]] = acts.actions[found]  # in order of time: of several acts the newest remains
    attributes, contexts = Vocabulary(), Vocabulary()
    own_attributes = attributes.codes(rankings["attributes"])
    rows, user_of_row, attributes_of_row = _user_rows(shown.users, own_attributes, shown.times_ms)
    behaviour = _served_behaviour(rankings, items, actions)
    window = LogWindow(
        times_ms=shown.times_ms,
        users=rows,
        contexts=contexts.codes(rankings["context"]),
        generations=log_columns.integers(rankings["ranking_generation"]),
        warm_after=log_columns.integers(rankings["warm_after"]),
        registered_ms=log_columns.times_ms_or_none(rankings["registered_at"]),
        first_probabilities=log_columns.first_of_each(rankings["probabilities"]),
        served_by=np.asarray(rankings["served_by"].to_numpy(), dtype=object),
        shown=Lists(shown.starts, shown.items, outcome),
        behaviour=behaviour,
        names=LogNames(
            users=users.texts,
            items=items.texts,
            actions=actions.texts,
            user_of_row=user_of_row,
            attributes_of_row=attributes_of_row,
            attributes=Fields(attributes.texts, "rankings, attributes"),
            contexts=Fields(contexts.texts, "rankings, context"),
        ),
        until_ms=until_ms,
        open_rankings=int(np.count_nonzero(shown.times_ms > until_ms - window_ms)),
        unanswered=int(np.count_nonzero(~found)),
        skipped=tuple(logged.skipped),
        strangers=given - len(rankings),
    )
    return window.before(until_ms - window_ms + 1)


def _of_real_users(logged: Logged, until_ms: int) -> Any:
    """The rankings of users of whom something besides rankings is known by `until_ms`."""
    rankings = logged.rankings
    behaved = pc.greater(pc.list_value_length(rankings["behaviour_items"]), pa.scalar(0))
    is_known = pc.or_(pc.is_valid(rankings["attributes"]), pc.fill_null(behaved, False))
    known: Any = rankings["user_id"].filter(is_known).cast(pa.large_string())
    times_ms = log_columns.times_ms(logged.behaviours["at"])
    acting: Any = logged.behaviours["user_id"].slice(0, int(np.searchsorted(times_ms, until_ms)))
    chunks = [*known.chunks, *acting.cast(pa.large_string()).chunks]
    users = pa.chunked_array(chunks, pa.large_string()).unique()
    return rankings.filter(pc.is_in(rankings["user_id"].cast(pa.large_string()), value_set=users))


def _acts(logged: Logged, users: Vocabulary, items: Vocabulary, actions: Vocabulary, until_ms: int) -> Acts:
    table = logged.behaviours
    is_no_act = pc.is_in(table["action"].cast(pa.large_string()), value_set=pa.array(NO_ACTS, pa.large_string()))
    table = table.filter(pc.invert(is_no_act))
    times_ms = log_columns.times_ms(table["at"])
    known = int(np.searchsorted(times_ms, until_ms))
    table = table.slice(0, known)
    ids: Any = table["ranking_id"].cast(pa.large_string())
    places: Any = pc.index_in(ids, logged.rankings["ranking_id"].cast(pa.large_string()), skip_nulls=True)
    named = np.asarray(pc.fill_null(places, NAMES_ANOTHER).to_numpy(), dtype=np.int64)
    return Acts(
        users=users.codes(table["user_id"]),
        items=items.codes(table["item_id"]),
        actions=actions.codes(table["action"]),
        times_ms=times_ms[:known],
        named=np.where(pc.is_null(ids).to_numpy(), NAMES_NONE, named),
    )


def _served_behaviour(rankings: Any, items: Vocabulary, actions: Vocabulary) -> Lists:
    starts = log_columns.starts_of(rankings["behaviour_items"])
    others = log_columns.starts_of(rankings["behaviour_actions"])
    unequal = np.flatnonzero(starts != others)
    if len(unequal):
        ranking_id = rankings["ranking_id"][int(unequal[0]) - 1].as_py()
        raise InvalidInput("rankings, behaviour_actions", ranking_id, "must have an action for each behaviour item")
    return Lists(
        starts,
        items.codes(log_columns.flat(rankings["behaviour_items"])),
        actions.codes(log_columns.flat(rankings["behaviour_actions"])),
    )


def attributed(shown: Shown, acts: Acts, window_ms: int) -> IndexArray:
    """(A,) the impression that each act answers, a place among the R; -1 for none.

    Where a ranking shows an item twice, the first of both is answered.
    """
    if not len(acts.items) or not len(shown.items):
        return np.full(len(acts.items), -1, dtype=np.int64)
    count = 1 + max(int(shown.items.max()), int(acts.items.max()))
    asked = pd.DataFrame({"key": acts.users.astype(np.int64) * count + acts.items, "time_ms": acts.times_ms})
    ranking = np.repeat(np.arange(len(shown.users)), np.diff(shown.starts))
    keys = shown.users[ranking].astype(np.int64) * count + shown.items
    rows = np.flatnonzero(pd.Series(keys).isin(asked["key"]))
    given = pd.DataFrame(
        {"key": keys[rows], "time_ms": shown.times_ms[ranking[rows]], "named": ranking[rows], "row": rows}
    ).drop_duplicates(["key", "named"])
    newest = pd.merge_asof(
        asked, given[["key", "time_ms", "row"]], on="time_ms", by="key", tolerance=int(window_ms) - 1
    )
    rankings = given.rename(columns={"time_ms": "shown_ms"})
    exact = asked.assign(named=acts.named).merge(rankings, on=["key", "named"], how="left")
    in_time = exact["time_ms"] - exact["shown_ms"] < window_ms
    found = np.where(acts.named == NAMES_NONE, newest["row"], exact["row"].where(in_time))
    return np.where(np.isnan(found), -1, found).astype(np.int64)


def _user_rows(users: Indices, attributes: Indices, times_ms: IndexArray) -> tuple[Indices, Indices, Indices]:
    """(G,) rows of users, a row for each pair of a user and attributes; and the user and the attributes of each row.

    No two rankings of one millisecond share a row: a row and a time tell a ranking, and so the behaviour it was given.
    """
    pairs = pd.DataFrame({"user": users, "attributes": attributes})
    pairs["nth"] = pairs.assign(time_ms=times_ms).groupby(["user", "attributes", "time_ms"]).cumcount()
    rows = pairs.groupby(["user", "attributes", "nth"], sort=False).ngroup().to_numpy().astype(np.int32)
    distinct = pairs.drop_duplicates()
    return rows, distinct["user"].to_numpy(), distinct["attributes"].to_numpy()
