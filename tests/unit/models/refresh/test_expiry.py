"""Refused candidates: deleted after a set time, and nothing else is."""

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from foretaste.testing import InMemoryGenerations
from models.generations import publish
from models.generations.in_process import InProcessTowers
from models.generations.publish import PublishParts
from models.refresh.expiry import delete_refused
from models.refresh.parts import RefreshConfig, RefreshParts
from models.refresh.records import RefreshOutcome, RefreshRecord, RefreshRecords
from tests.towers_factory import MADE_AT, artifacts

DAY = 86_400.0
NOW = MADE_AT + 10 * DAY
"""Ten days after the candidates were made."""


@dataclass
class Home:
    """Two candidates, 1 and 2, with the records of their refreshes."""

    folder: Path
    generations: InMemoryGenerations = field(default_factory=InMemoryGenerations)

    def parts(self, refused_days: float = 7.0) -> RefreshParts:
        towers = InProcessTowers(self.folder / "triton_repo")
        unused: Any = cast("Any", None)
        return RefreshParts(
            lease=unused,
            records=RefreshRecords(self.folder / "runs"),
            unlogged=unused,
            learner=unused,
            publish=PublishParts(towers, self.generations, self.folder, self.folder / "triton_repo"),
            reenrich=unused,
            config=RefreshConfig(refused_days=refused_days),
            clock=lambda: NOW,
        )

    def record(self, number: int | None, outcome: RefreshOutcome, days_ago: float) -> None:
        at = datetime.fromtimestamp(NOW - days_ago * DAY, UTC)
        record = RefreshRecord(
            id=at.strftime("%Y%m%dT%H%M%S.%f"),
            outcome=outcome,
            detail="",
            base=None,
            number=number,
            since_ms=0,
            until_ms=1,
            started_at=at.isoformat(),
            seconds=60.0,
            steps={},
        )
        RefreshRecords(self.folder / "runs").add(record)

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "generations").iterdir())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    shutil.copytree(artifacts()[0].parent, tmp_path / "generations")
    return Home(tmp_path)


async def test_a_candidate_is_deleted_once_its_refusal_is_old(home: Home) -> None:
    home.record(2, RefreshOutcome.REFUSED, 9.9)
    before = home.left
    assert await delete_refused(home.parts(refused_days=9.95), None) == []
    assert home.left == before
    assert await delete_refused(home.parts(), None) == [2]
    assert home.left == [name for name in before if name != "2"]
    assert await delete_refused(home.parts(), None) == [], "what is gone is gone"
    assert len(RefreshRecords(home.folder / "runs").all()) == 1, "its record stays"


async def test_what_is_not_a_refused_candidate_stays(home: Home) -> None:
    before = home.left
    for number, outcome in ((1, RefreshOutcome.SWAPPED), (2, RefreshOutcome.FAILED), (None, RefreshOutcome.NOTHING)):
        home.record(number, outcome, 9.5)
    assert await delete_refused(home.parts(), None) == []
    home.record(2, RefreshOutcome.REFUSED, 9.4)
    assert await delete_refused(home.parts(), besides=2) == [], "a refresh works on it"
    assert home.left == before


async def test_another_candidate_of_the_same_number_stays(home: Home) -> None:
    """The refused one was deleted before, and its number was given again."""
    home.record(2, RefreshOutcome.REFUSED, 20.0)
    before = home.left
    assert await delete_refused(home.parts(), None) == []
    home.record(2, RefreshOutcome.SWAPPED, 9.5)
    assert await delete_refused(home.parts(), None) == []
    assert home.left == before


async def test_one_that_was_published_all_the_same_stays(home: Home) -> None:
    home.record(1, RefreshOutcome.REFUSED, 9.9)
    parts = home.parts()
    await publish.publish(parts.publish, 1)
    assert await delete_refused(parts, None) == []
    assert "1" in home.left
    await parts.publish.towers.close()
