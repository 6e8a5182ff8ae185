"""The page of a whole run: a table of all faults."""

from collections.abc import Sequence
from dataclasses import asdict

from tests.faults.streams.hurting import StreamRow

COLUMNS = {
    "fault": "fault",
    "setting": "setting",
    "sent": "sent",
    "acknowledged": "acknowledged",
    "enriched": "enriched",
    "warm": "warm",
    "applied": "behaviours applied",
    "dead": "dead",
    "lost": "lost",
    "doubled": "doubled",
    "disordered": "out of order",
    "unreadable": "announced and not readable",
    "taken_back": "taken back",
    "recover_s": "seconds to recover",
    "rankings": "rankings",
    "rankings_failed": "failed",
    "rankings_fallen_back": "fell back",
    "slowest_ranking_ms": "slowest ms",
    "log_lines": "log lines",
}
HEAD = """# Faults under load

`make faults` runs {events} events of sign-ups and behaviours, 500 a second, against Kafka, a Redis with its append-only
file (synced once a second), Triton, two workers and the ranking service, each time with another fault. Every operation
is written down with its start, its end and its answer, and a checker (`tests/faults/streams/checker.py`) that shares no
code with Foretaste judges that history. This page and [faults.json](faults.json) are of one run.

- **sent**, **acknowledged**: records. Some are sent twice under one event id, some are no events at all; some sign-ups
  come again with other attributes, some behaviours late or of one time.
- **enriched**, **warm**, **behaviours applied**, **dead**: what became of them. A behaviour that was sent twice is
  applied once, so the four are fewer than what was acknowledged.
- **lost**: acknowledged, and without an end. **doubled**: applied twice, or with two ends. **out of order**: a row
  against time, or older attributes in the place of later ones. **announced and not readable**: by a read straight after
  each `user-enriched`, and by one in the end.
- **taken back**: announced users whom the store lost with its newest writes and got again, under a setting for which
  [the documentation](../operations.md#when-a-store-loses-what-it-had) says so. With `FORETASTE_WAIT_FOR_DISK` (setting
  `disk`) there may be none.
- **seconds to recover**: from the end of the fault until all was handled that was sent by then.
- **rankings**: asked one after the other during the load. Those that **fell back** were answered by popularity or the
  mean behaviour.
- **setting**: `plain`; `disk` waits for Redis' disk; `proxied` reaches all parts through a proxy; `stepped` has a wall
  clock that steps.
"""


def page(rows: Sequence[StreamRow]) -> str:
    """The page in Markdown."""
    events = min((row.sent for row in rows), default=0)
    lines = [HEAD.format(events=f"{events:,}"), "| " + " | ".join(COLUMNS.values()) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        values = asdict(row)
        lines.append("| " + " | ".join(_text(values[name]) for name in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    if value is None:
        return "never"
    return f"{value:,}" if isinstance(value, int) else str(value)
