"""Which behaviours were applied last, in a view of Feast's: its API writes no column beside those of a team's view.

The row is written before the behaviour that it tells of, with that behaviour's version. Where the behaviour itself was
not written then, its stored version is below, and the newest digests, of events that were never applied, do not count.
"""

from collections.abc import Sequence
from typing import NamedTuple

from features.online.feast_client import USER_KEY, FeastClient
from features.online.layout import Column, Raw, readable_nanos, texts_of, version_stored
from foretaste.kernel.users import AppliedEvents, BehavedUser

VIEW = "user_applied_behaviours"
COLUMNS: tuple[Column, ...] = ((VIEW, "digests"), (VIEW, "fresh"), (VIEW, "version"), (VIEW, None))


class AppliedRow(NamedTuple):
    """What the view holds of a user."""

    applied: AppliedEvents
    """Those that count beside the stored behaviour."""
    at_us: int
    """Event time of the row, microseconds since the epoch; 0 if never written."""

    @classmethod
    def of(cls, values: Sequence[Raw], behaviour_version: int) -> "AppliedRow":
        """From the values of `COLUMNS`, beside a stored behaviour of that version. Rubbish counts as no digest."""
        texts, fresh, version, time = values
        digests = texts_of(texts)
        if version_stored(version, None)[0] > behaviour_version:
            digests = digests[: max(0, len(digests) - version_stored(fresh, None)[0])]
        try:
            applied = AppliedEvents(b"".join(map(bytes.fromhex, digests)))
        except ValueError:
            applied = AppliedEvents()
        return cls(applied, readable_nanos(time) // 1000)


async def write_applied(client: FeastClient, users: Sequence[tuple[BehavedUser, AppliedRow]]) -> None:
    """What was applied by the write of these behaviours, each beside the row that is stored by now."""
    told = [(user, row) for user, row in users if user.applied.digests]
    fresh = [sum(digest not in row.applied for digest in user.applied) for user, row in told]
    columns: dict[str, Sequence[object]] = {
        USER_KEY: [user.user_id for user, _ in told],
        "digests": [[digest.hex() for digest in user.applied] for user, _ in told],
        "fresh": fresh,
        "version": [user.version for user, _ in told],
    }
    await client.write(VIEW, columns, [max(user.at_us, row.at_us + 1) for user, row in told])
