"""The training log's rows: events as Arrow tables, and each row once. Pure: no file and no Feast."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.values import Attributes

TIME: pa.DataType = pa.timestamp("us", tz="UTC")
TEXT: pa.DataType = pa.large_string()
"""Large: the texts of a long window pass the 2 GiB that a plain Arrow string column can be gathered from."""
TEXTS: pa.DataType = pa.large_list(TEXT)

RANKINGS = pa.schema(
    {
        "ranking_id": TEXT,
        "user_id": TEXT,
        "at": TIME,
        "items": TEXTS,
        "scores": pa.large_list(pa.float64()),
        "context": TEXT,
        "attributes": TEXT,
        "behaviour_items": TEXTS,
        "behaviour_actions": TEXTS,
        "behaviour_times": pa.large_list(pa.int64()),
        "served_by": TEXT,
        "fallback": TEXT,
        "cause": TEXT,
        "reason": TEXT,
        "zero_shot_generation": pa.int64(),
        "ranking_generation": pa.int64(),
        "warm_after": pa.int64(),
        "registered_at": TIME,
        "probabilities": pa.large_list(pa.float64()),
    }
)
"""One row a `UserRanked`, its fields as columns; `context` and `attributes` are JSON texts."""
BEHAVIOURS = pa.schema(
    {
        "user_id": TEXT,
        "item_id": TEXT,
        "at": TIME,
        "action": TEXT,
        "ranking_id": TEXT,
        "event_id": TEXT,
        "passed_over": TEXTS,
    }
)
"""One row a `UserBehaved`, its fields as columns; `event_id` is its `event_name`. It and `passed_over` are null in
rows of earlier versions."""

EVENT_TIME = "event_timestamp"
"""What `at` is called in the log: Feast's usual name for it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class RowKind:
    """A kind of row: its name (of the feature view too), its columns, and those that tell one row from another.

    Of rows that have the column `identity`, that and the user tell them apart, whatever else they say; of those that
    lack it, and of one with it from one without, the `key` does.
    """

    name: str
    schema: pa.Schema
    key: Sequence[str]
    identity: str | None = None


RANKING_ROWS = RowKind("rankings", RANKINGS, ("ranking_id",))
BEHAVIOUR_ROWS = RowKind("behaviours", BEHAVIOURS, ("user_id", "item_id", "action", "at"), "event_id")


def rankings_table(rankings: Sequence[UserRanked]) -> pa.Table:
    """B rankings as a table of the schema `RANKINGS`, in their order."""
    texts: dict[str, list[Any]] = {
        "context": [_json(each.context) for each in rankings],
        "attributes": [None if each.attributes is None else _json(each.attributes) for each in rankings],
    }
    plain = {name: [getattr(each, name) for each in rankings] for name in RANKINGS.names if name not in texts}
    return pa.table(plain | texts, schema=RANKINGS)


def behaviours_table(behaviours: Sequence[UserBehaved]) -> pa.Table:
    """B behaviours as a table of the schema `BEHAVIOURS`, in their order."""
    return pa.table({name: [getattr(each, name) for each in behaviours] for name in BEHAVIOURS.names}, BEHAVIOURS)


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` in its order and types; one that the table lacks is null, one that only it has is left.

    Raises `pyarrow.ArrowInvalid` or `pyarrow.ArrowNotImplementedError` for a column of another kind.
    """
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def each_once(table: pa.Table, kind: RowKind, time: str = "at") -> pa.Table:
    """The rows in order of time, one for each event of the kind; `time` is what the column of times is called.

    Of rows of one event the first in that order is kept, so the answer does not depend on the order of the input.
    """
    key = [time if name == "at" else name for name in kind.key]
    identity = [kind.identity] if kind.identity is not None and kind.identity in table.column_names else []
    order = pc.sort_indices(
        table, sort_keys=[(name, "ascending") for name in dict.fromkeys((time, *key, *identity, "ranking_id"))]
    )
    places = table.select([*key, *identity]).take(order).append_column("place", pa.array(np.arange(len(table))))
    firsts = _first_places(places, key, *identity)
    rows = order.take(firsts.take(pc.sort_indices(firsts))).to_numpy()
    return table if np.array_equal(rows, np.arange(len(table))) else table.take(pa.array(rows))


def _first_places(places: Any, key: Sequence[str], identity: str | None = None) -> Any:
    """The `place` of the first row of each event; rows without an identity stand behind those with one."""
    if identity is None or places[identity].null_count == len(places):
        return _first_of_each(places, key)
    named = _first_of_each(places.filter(pc.is_valid(places[identity])), ["user_id", identity])
    if not places[identity].null_count:
        return named
    others = _first_of_each(places, key)
    unnamed = others.filter(pc.is_null(places[identity].take(others)).combine_chunks())
    return pa.concat_arrays([named, unnamed])


def _first_of_each(places: Any, key: Sequence[str]) -> Any:
    return places.group_by(key).aggregate([("place", "min")])["place_min"].combine_chunks()


def within(table: pa.Table, since_ms: int, until_ms: int) -> pa.Table:
    """The rows from `since_ms` on and before `until_ms` (epoch milliseconds), by their column `at`."""
    return between(table, "at", as_time(since_ms), as_time(until_ms) - timedelta(microseconds=1))


def between(table: pa.Table, time: str, since: datetime | None, until: datetime | None) -> pa.Table:
    """The rows whose column `time` lies between the two, both included; None: without a bound."""
    bounds: Any = pc.min_max(table[time])
    first, last = bounds["min"].as_py(), bounds["max"].as_py()
    if since is not None and first is not None and first < since:
        table = table.filter(pc.field(time) >= pa.scalar(since, TIME))
    if until is not None and last is not None and last > until:
        table = table.filter(pc.field(time) <= pa.scalar(until, TIME))
    return table


def as_time(at_ms: int) -> datetime:
    """Epoch milliseconds as a time between 1970 and the last that Python has."""
    return _EPOCH + timedelta(milliseconds=min(max(at_ms, 0), _LATEST_MS))


def _json(values: Attributes) -> str:
    return json.dumps(dict(values), ensure_ascii=False, separators=(",", ":"))
