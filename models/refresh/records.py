"""What is kept of refreshes: the one that is not finished, and a JSON record of each that ended."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from foretaste.kernel.files import remove_whole, write_file
from foretaste.kernel.running.registered_items import RegisteredItem

UNFINISHED = "unfinished.json"
ITEMS = "registered-items.json"


class RefreshOutcome(StrEnum):
    """How a refresh ended."""

    SWAPPED = "swapped"
    REFUSED = "refused"
    """The gate did not admit the candidate."""
    NOTHING = "nothing to learn"
    FAILED = "failed"
    """By an error, or stopped. Where trying again can help, the next refresh resumes it."""


class CountsFrom(StrEnum):
    """The counts that a refresh adds to."""

    BASE = "base"
    """All that was counted until now."""
    FIRST = "first"
    """What the first training counted."""
    NOTHING = "nothing"


class CountsBasis(NamedTuple):
    """The counts that a refresh adds to, and from when on the log is not in them."""

    counts: CountsFrom
    since_ms: int | None = None
    """Epoch milliseconds; None: as for every refresh, where the base stopped learning."""
    erased: Mapping[bytes, int] = MappingProxyType({})
    """Whom neither these counts nor the log hold, by digest (`user_digest`): what is from before so many epoch
    milliseconds."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class LearningRecord(_Record):
    """What a candidate was trained on, and how."""

    rankings: int
    impressions: int
    skipped: tuple[str, ...] = ()
    """Files of the log that could not be read."""
    notices: tuple[str, ...] = ()
    steps: int = 0
    losses: Mapping[str, Sequence[float]] = {}
    """Of every step, by name, thinned to 200 points."""


class UnfinishedRefresh(_Record):
    """What a later run of the same request resumes."""

    id: str
    """When it was started, which names it."""
    base: int | None
    """The generation that was active, and from which training goes on; None: there was none."""
    since_ms: int
    until_ms: int
    """The window of the log: from `since_ms` on and before `until_ms` (epoch milliseconds)."""
    requested: Mapping[str, str | int | float | bool | None] = Field(
        default={}, validation_alias=AliasChoices("requested", "asked")
    )
    """The request: another one is another refresh. Written as `asked` by versions before 0.2."""
    counts: CountsFrom = CountsFrom.BASE
    """What its counts are added to."""
    erased: Mapping[str, int] = {}
    """As `CountsBasis.erased`; digests in hexadecimal."""
    number: int | None = None
    """The candidate's, once it is exported."""
    learning: LearningRecord | None = None
    """Of that candidate."""


class RefreshRecord(_Record):
    """One refresh, from its last start to its end."""

    id: str
    outcome: RefreshOutcome
    detail: str = Field(validation_alias=AliasChoices("detail", "said"))
    """Why it ended so, for people. Written as `said` by versions before 0.2."""
    base: int | None
    number: int | None
    since_ms: int
    until_ms: int
    started_at: str = Field(validation_alias=AliasChoices("started_at", "begun"))
    """ISO 8601, UTC. Written as `begun` by versions before 0.2."""
    seconds: float
    steps: Mapping[str, float]
    """Seconds of each step since the last start."""
    learning: LearningRecord | None = None


class RefreshRecords:
    """The folder of these records: every file is written whole or not at all; `Unavailable` when the disk is full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def checkpoints(self) -> Path:
        """The folder of the unfinished refresh's checkpoints."""
        return self.folder / "checkpoints"

    def curves(self, run: UnfinishedRefresh) -> Path:
        """Where the loss curves of a refresh are drawn."""
        return self.folder / f"{run.id}.svg"

    def unfinished(self) -> UnfinishedRefresh | None:
        """The refresh to resume; None where there is none, or where what was kept of it cannot be read."""
        try:
            return UnfinishedRefresh.model_validate_json((self.folder / UNFINISHED).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def keep(self, run: UnfinishedRefresh) -> UnfinishedRefresh:
        write_file(self.folder / UNFINISHED, run.model_dump_json(indent=2))
        return run

    def items(self, run: UnfinishedRefresh) -> list[RegisteredItem] | None:
        """The registered items that a refresh learns with; None before they were kept."""
        try:
            kept = json.loads((self.folder / ITEMS).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return [RegisteredItem(*each) for each in kept["items"]] if kept["id"] == run.id else None

    def keep_items(self, run: UnfinishedRefresh, items: Sequence[RegisteredItem]) -> None:
        """A refresh that is resumed learns with the same."""
        rows = [(each.item_id, dict(each.attributes or {}), each.at_ms) for each in items]
        write_file(self.folder / ITEMS, json.dumps({"id": run.id, "items": rows}))

    def forget(self) -> None:
        """No refresh is unfinished any more, and its checkpoints are removed."""
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        (self.folder / ITEMS).unlink(missing_ok=True)
        remove_whole(self.checkpoints)

    def add(self, record: RefreshRecord) -> None:
        write_file(self.folder / f"{record.id}.json", json.dumps(record.model_dump(mode="json"), indent=2))

    def all(self) -> list[RefreshRecord]:
        """Those that can be read, oldest first."""
        found = []
        for path in sorted(self.folder.glob("[0-9]*.json")):
            try:
                found.append(RefreshRecord.model_validate_json(path.read_bytes()))
            except ValidationError:
                continue
        return found


def refresh_id(now: float) -> str:
    """Names a refresh by when it was started (seconds since the epoch)."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%f")
