"""What the gate found: kept as JSON beside a generation, and read without torch."""

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from foretaste.kernel.errors import DamagedArtifact
from foretaste.kernel.files import write_file
from foretaste.kernel.users import Stage

Decision: TypeAlias = Literal["pass", "fail", "no_decision"]
Comparison: TypeAlias = Literal["no_worse", "worse", "no_decision"]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Figure(_Kept):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


class GroupVerdict(_Kept):
    """The users who had seen so much when they were served: cold, warming or warm."""

    group: Stage
    users: int
    """Persons judged: those who acted on some of what they were shown, and not on all."""
    impressions: int
    """Of the group, those of persons of one class included."""
    candidate: Figure | None = None
    """GAUC; None where nobody can be judged."""
    active: Figure | None = None
    difference: Figure | None = None
    """(candidate - active) / active, paired by user; None where there is nothing to compare with."""
    decision: Comparison = "no_decision"


class FirstItems(_Kept):
    """How often the item is acted on that a generation puts first among those shown, as far as rankings whose order was
    drawn tell (`models.evaluation.off_policy`). It decides nothing: few rankings are drawn."""

    rankings: int
    matched: int
    """Of them, those whose first item is the one that the candidate puts first: they carry the estimate."""
    logged: Figure
    """Of the item that stood first."""
    candidate: Figure
    """Doubly robust; `…_ips` by inverse propensity."""
    candidate_ips: Figure
    active: Figure | None = None
    active_ips: Figure | None = None
    difference: Figure | None = None
    """(candidate - active) / active, doubly robust, paired by person."""


class Verdict(_Kept):
    """Whether a candidate generation may take over from the active one, with the numbers that say so."""

    decision: Decision
    reasons: tuple[str, ...]
    """One sentence each."""
    groups: tuple[GroupVerdict, ...] = ()
    candidate: int | None = None
    """Its number; None while it has none."""
    active: int | None = None
    """The number of the generation that it was compared with; None where there was none."""
    since_ms: int | None = None
    """The first and the last ranking of the window, milliseconds since the epoch; None for an empty one."""
    until_ms: int | None = None
    rankings: int = 0
    impressions: int = 0
    first_items: FirstItems | None = None
    """None where no order was drawn."""
    forced: bool = False
    """Somebody asked for the candidate whatever the decision."""

    @property
    def admits(self) -> bool:
        """Whether the candidate may be published: no decision is no pass."""
        return self.decision == "pass" or self.forced


def verdict_path(home: Path, number: int) -> Path:
    """The path of a generation's verdict under the home folder."""
    return home / "verdicts" / f"{number}.json"


def write_verdict(verdict: Verdict, path: Path) -> None:
    """Write a verdict, whole or not at all. Raises `Unavailable` when the disk is full."""
    write_file(path, verdict.model_dump_json(indent=2))


def read_verdict(path: Path) -> Verdict:
    """The verdict at a path. Raises `DamagedArtifact` for one that is missing or malformed."""
    try:
        return Verdict.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DamagedArtifact(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise DamagedArtifact(f"{path} is malformed: {error.errors(include_url=False)[0]['msg']}") from error
