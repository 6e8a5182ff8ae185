"""What is kept of refreshes: the one that is not finished, and a JSON record of each that was."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from foretaste.kernel.files import remove_whole, write_file

UNFINISHED = "unfinished.json"


class Outcome(StrEnum):
    """How a refresh ended."""

    SWAPPED = "swapped"
    REFUSED = "refused"
    """The gate did not admit the candidate."""
    NOTHING = "nothing to learn"
    FAILED = "failed"
    """By an error, or stopped. Where trying again can help, the next run goes on with it."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Learning(_Kept):
    """What a candidate was trained on, and how."""

    rankings: int
    impressions: int
    skipped: tuple[str, ...] = ()
    """Files of the log that could not be read."""
    notices: tuple[str, ...] = ()
    steps: int = 0
    losses: Mapping[str, Sequence[float]] = {}
    """Of every step, by name, thinned to 200 points."""


class Unfinished(_Kept):
    """What a run that was killed goes on with."""

    id: str
    """When it was begun, which names it."""
    base: int | None
    """The generation that was active, and from which training goes on; None: there was none."""
    since_ms: int
    until_ms: int
    """The log from the one on and before the other is learned from."""
    asked: Mapping[str, str | int | float | bool | None] = {}
    """What was asked for: another order is another run."""
    number: int | None = None
    """The candidate's, once it is exported."""
    learning: Learning | None = None
    """Of that candidate."""


class RunRecord(_Kept):
    """One refresh, from its last start to its end."""

    id: str
    outcome: Outcome
    said: str
    base: int | None
    number: int | None
    since_ms: int
    until_ms: int
    begun: str
    seconds: float
    steps: Mapping[str, float]
    """Seconds of each step since the last start."""
    learning: Learning | None = None


class Runs:
    """The folder of all of that: every file is written whole or not at all; `Unavailable` when the disk is full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def checkpoints(self) -> Path:
        """Of the run that is not finished."""
        return self.folder / "checkpoints"

    def unfinished(self) -> Unfinished | None:
        """The run to go on with; None where there is none, or where what was kept of it cannot be read."""
        try:
            return Unfinished.model_validate_json((self.folder / UNFINISHED).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def keep(self, run: Unfinished) -> Unfinished:
        write_file(self.folder / UNFINISHED, run.model_dump_json(indent=2))
        return run

    def forget(self) -> None:
        """No run is unfinished any more, and its checkpoints go."""
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        remove_whole(self.checkpoints)

    def record(self, record: RunRecord) -> None:
        write_file(self.folder / f"{record.id}.json", json.dumps(record.model_dump(mode="json"), indent=2))

    def records(self) -> list[RunRecord]:
        """Those that can be read, oldest first."""
        found = []
        for path in sorted(self.folder.glob("[0-9]*.json")):
            try:
                found.append(RunRecord.model_validate_json(path.read_bytes()))
            except ValidationError:
                continue
        return found


def run_id(now: float) -> str:
    """Names a run by when it began."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%f")
