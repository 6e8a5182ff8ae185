"""Which behaviours were applied last, in a view of Feast's: its API writes no column beside those of a team's view.

The row is written before the behaviour that it tells of, with that behaviour's version. Where the behaviour itself was
not written then, its stored version is below, and the newest digests, of events that were never applied, do not count.
"""

from collections.abc import Sequence
from typing import NamedTuple

from features.online.feast_client import USER_KEY, FeastSteps
from features.online.layout import Column, Raw, readable_nanos, texts_of, version_stored
from foretaste.kernel.event_order import AppliedEvents
from foretaste.kernel.users import BehavedUser

VIEW = "user_applied_behaviours"
COLUMNS: tuple[Column, ...] = ((VIEW, "digests"), (VIEW, "fresh"), (VIEW, "version"), (VIEW, None))
_ERASED = "erased "
"""Before the time of the last erasure, epoch milliseconds, which stands in front of the digests where there was one."""


class AppliedRow(NamedTuple):
    """What the view holds of a user."""

    applied: AppliedEvents
    """Those that count beside the stored behaviour."""
    at_us: int
    """Event time of the row, microseconds since the epoch; 0 if never written."""
    erased_ms: int | None = None
    """When the user was erased last, epoch milliseconds."""
    is_ahead: bool = False
    """The behaviour that it was written for is not stored."""

    @classmethod
    def of(cls, values: Sequence[Raw], behaviour_version: int) -> "AppliedRow":
        """From the values of `COLUMNS`, beside a stored behaviour of that version. Rubbish counts as no digest."""
        texts, fresh, version, time = values
        erased_ms, digests = _split(texts_of(texts))
        is_ahead = version_stored(version, None)[0] > behaviour_version
        if is_ahead:
            digests = digests[: max(0, len(digests) - version_stored(fresh, None)[0])]
        try:
            applied = AppliedEvents(b"".join(map(bytes.fromhex, digests)))
        except ValueError:
            applied = AppliedEvents()
        return cls(applied, readable_nanos(time) // 1000, erased_ms, is_ahead)


async def write_applied(steps: FeastSteps, users: Sequence[tuple[BehavedUser, AppliedRow]]) -> None:
    """What was applied by the write of these behaviours, each beside the row that is stored by now."""
    told = [(user, row) for user, row in users if user.applied.digests]
    fresh = [sum(digest not in row.applied for digest in user.applied) for user, row in told]
    columns: dict[str, Sequence[object]] = {
        USER_KEY: [user.user_id for user, _ in told],
        "digests": [[*_mark(row.erased_ms), *map(bytes.hex, user.applied)] for user, row in told],
        "fresh": fresh,
        "version": [user.version for user, _ in told],
    }
    await steps.write(VIEW, columns, [max(user.at_us, row.at_us + 1) for user, row in told])


async def write_erased(steps: FeastSteps, erased: Sequence[tuple[BehavedUser, int, AppliedRow]]) -> None:
    """The time (epoch milliseconds) at which these users were erased, each with the behaviour that is written behind it
    and the row that is stored by now; what was applied to that behaviour counts still."""
    columns: dict[str, Sequence[object]] = {
        USER_KEY: [user.user_id for user, _, _ in erased],
        "digests": [[*_mark(at_ms), *map(bytes.hex, user.applied)] for user, at_ms, _ in erased],
        "fresh": [0] * len(erased),
        "version": [user.version for user, _, _ in erased],
    }
    await steps.write(VIEW, columns, [max(at_ms * 1000, row.at_us + 1) for _, at_ms, row in erased])


def _mark(erased_ms: int | None) -> list[str]:
    return [] if erased_ms is None else [f"{_ERASED}{erased_ms}"]


def _split(texts: Sequence[str]) -> tuple[int | None, Sequence[str]]:
    """The time of the erasure, and the digests."""
    if not texts or not texts[0].startswith(_ERASED):
        return None, texts
    at = texts[0].removeprefix(_ERASED)
    return (int(at) if at.isdecimal() else None), texts[1:]
