"""What a refresh that was killed while it retired a generation leaves, and the next one clears away."""

import shutil
from pathlib import Path
from uuid import uuid4

import pytest

from foretaste import compose
from foretaste.settings import Settings
from models.generations.repository import RANKING_TOWER, published
from tests import opened
from tests.towers_factory import artifacts


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Generations 1 and 2 are written; nothing is published."""
    shutil.copytree(artifacts()[0].parent, tmp_path / "generations")
    return Settings(home=tmp_path, redis=redis_url, triton="in-process", project=f"test_{uuid4().hex}")


async def _retired_by_half(settings: Settings, number: int) -> None:
    """Its record is gone, its versions are not."""
    await opened.load(settings, number)
    generations = compose.generations(settings)
    await generations.retire(number)
    await generations.close()


@pytest.mark.parametrize("gone", [(), (RANKING_TOWER,)], ids=["both towers", "one tower"])
async def test_a_retirement_cut_short_is_completed(settings: Settings, gone: tuple[str, ...]) -> None:
    await opened.publish(settings, 2)
    await _retired_by_half(settings, 1)
    for tower in gone:
        shutil.rmtree(settings.repository / tower / "1")
    assert published(settings.repository) == [1, 2]
    await opened.retire_old(settings)
    assert published(settings.repository) == [2]


async def test_what_may_be_on_its_way_to_be_published_stays(settings: Settings) -> None:
    await opened.publish(settings, 1)
    await _retired_by_half(settings, 2)
    await opened.retire_old(settings)
    assert published(settings.repository) == [1, 2]
