"""Who was erased from the training log: a digest of each id, and until when nothing of the user counts.

They lie in a table beside the two of the log, one row an erasure, and go when days as old do. Whoever reads the log
leaves out what they cover; the log's compaction takes it out of the files. A time alone does not tell what a ranking
was answered from: the columns `ANSWERED_FROM` do.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.log.delta import DayTable
from features.log.objects import table_address
from features.log.rows import EVENT_TIME, TEXT, TIME, as_time
from foretaste.kernel.running.erasing import LogErasure, user_digest

USER = "user_id"
_REGISTERED, _BEHAVED = "registered_at", "behaviour_times"
ANSWERED_FROM = (_REGISTERED, _BEHAVED)
"""Columns of rankings that tell whether one was answered from what an erasure took."""
_TABLE = "erasures"
_SCHEMA = pa.schema({"user": TEXT, EVENT_TIME: TIME, "erased_at": TIME})
"""The digest in hexadecimal, until when nothing counts, and when the erasure happened."""


class LogFence(NamedTuple):
    """What is known of a user's erasures."""

    at: datetime
    until: datetime

    @classmethod
    def of(cls, erasure: LogErasure) -> "LogFence":
        return cls(as_time(erasure.at_ms), as_time(erasure.until_ms))

    def beside(self, other: "LogFence | None") -> "LogFence":
        """Of this erasure and another one of the user."""
        return self if other is None else LogFence(max(self.at, other.at), max(self.until, other.until))


class ErasedFromLog:
    """Users who were erased, by digest (`user_digest`), and what of a table of rows is theirs."""

    def __init__(self, fences: Mapping[bytes, LogFence]) -> None:
        self._fences = fences

    def times(self) -> dict[bytes, int]:
        """When each was erased, in epoch milliseconds."""
        return {digest: round(fence.at.timestamp() * 1000) for digest, fence in self._fences.items()}

    def knows(self, erasure: LogErasure) -> bool:
        """Whether it, or a later one of the user, is among these."""
        held = self._fences.get(user_digest(erasure.user_id))
        return held is not None and held.at >= as_time(erasure.at_ms)

    def left_of(self, table: pa.Table, time: str) -> pa.Table:
        """The rows without those that are erased, by their columns `user_id` and `time`, and of rankings those of
        `ANSWERED_FROM`."""
        gone = self._gone(table, time)
        return table if gone is None else table.filter(pc.invert(gone))

    def covers_some(self, table: pa.Table, time: str) -> bool:
        """Whether a row of it is erased."""
        gone = self._gone(table, time)
        return gone is not None and bool(pc.any(gone).as_py())

    def of_known(self, rankings: pa.Table, behaviours: pa.Table) -> tuple[pa.Table, pa.Table]:
        """What `left_of` left of both, without the behaviours of erased users who have not registered anew: no ranking
        shows it."""
        gone = self._of(behaviours).keys() - set(_texts(pc.unique(rankings[USER]))) if self._fences else ()
        if not gone:
            return rankings, behaviours
        is_gone = pc.is_in(behaviours[USER].cast(TEXT), value_set=pa.array(sorted(gone), TEXT))
        return rankings, behaviours.filter(pc.invert(is_gone))

    def _gone(self, table: pa.Table, time: str) -> Any:
        """(R,) of each row of a table whether it is erased; None where none is."""
        fences = self._of(table)
        if not fences:
            return None
        place: Any = pc.index_in(table[USER].cast(TEXT), value_set=pa.array(list(fences), TEXT))
        place = place.combine_chunks()
        until = pa.array([fence.until for fence in fences.values()], TIME).take(place)
        times: Any = table[time].combine_chunks()
        gone: Any = pc.less_equal(times, until)
        gone = pc.fill_null(gone, False)
        if not set(ANSWERED_FROM).intersection(table.column_names):
            return gone
        known = pc.indices_nonzero(pc.is_valid(place))
        erased: Any = pa.array([fence.at for fence in fences.values()], TIME).take(place.take(known))
        from_before = np.zeros(len(table), dtype=bool)
        from_before[known] = _answered_from_before(table.take(known), erased)
        return pc.or_(gone, pa.array(from_before))

    def _of(self, table: pa.Table) -> dict[str, LogFence]:
        """By id, the fences of the users in a table."""
        if not self._fences or not len(table) or USER not in table.column_names:
            return {}
        users = _texts(pc.unique(table[USER]))
        return {user: fence for user in users if (fence := self._fences.get(user_digest(user))) is not None}


def _answered_from_before(rankings: pa.Table, erased: Any) -> Any:
    """(R,) whether a ranking was answered from what was known before `erased` (R,), the time of its user's erasure, or
    does not show that it was not: no registration since, or a behaviour until then."""
    names = rankings.column_names
    if not set(ANSWERED_FROM).issubset(names):
        return np.ones(len(rankings), dtype=bool)
    since: Any = pc.greater_equal(rankings[_REGISTERED].cast(TIME), erased)
    from_before = ~pc.fill_null(since, False).to_numpy()
    behaved: Any = rankings[_BEHAVED].combine_chunks()
    rows: Any = pc.list_parent_indices(behaved)
    erased_ms: Any = erased.cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64())
    earlier: Any = pc.less_equal(pc.list_flatten(behaved), erased_ms.take(rows))
    from_before[rows.filter(earlier).to_numpy()] = True
    return from_before | behaved.is_null().to_numpy(zero_copy_only=False)


def _texts(column: Any) -> list[str]:
    return [text for text in column.to_pylist() if text is not None]


def erasures_table(address: str) -> DayTable:
    """The table of the log at `address`."""
    return DayTable(table_address(address, _TABLE), EVENT_TIME)


def read_erased(table: DayTable) -> ErasedFromLog:
    """Those in the table; of several erasures of a user the latest."""
    rows = table.read(_SCHEMA.names).table
    fences: dict[bytes, LogFence] = {}
    for row in rows.to_pylist():
        fence = LogFence(row["erased_at"], row[EVENT_TIME])
        digest = bytes.fromhex(row["user"])
        fences[digest] = fence.beside(fences.get(digest))
    return ErasedFromLog(fences)


def write_erased(table: DayTable, erasures: Sequence[LogErasure]) -> None:
    """Add those that are not there yet; durable on return."""
    known = read_erased(table)
    fresh = [each for each in erasures if not known.knows(each)]
    fences = [LogFence.of(each) for each in fresh]
    columns: dict[str, Sequence[Any]] = {
        "user": [user_digest(each.user_id).hex() for each in fresh],
        EVENT_TIME: [fence.until for fence in fences],
        "erased_at": [fence.at for fence in fences],
    }
    table.append(pa.table(columns, schema=_SCHEMA))
