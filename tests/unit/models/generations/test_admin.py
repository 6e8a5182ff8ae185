"""Generations as those who operate the service see them: the list, and the way back."""

import json
from pathlib import Path

import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.testing import InMemoryGenerations
from models.generations.admin import PublishedGenerations
from models.generations.publish import PublishParts
from models.runtime import layout
from models.runtime.encoding import Encoding
from tests.serving_parts import FakeTowers, generation
from tests.towers_factory import artifacts


class LoadedTowers(FakeTowers):
    """Triton, with every generation loaded."""

    async def load(self, generation: int) -> None: ...
    async def unload(self, generation: int) -> None: ...
    async def ready(self, generation: int) -> bool:
        return True


@pytest.fixture
def generations() -> InMemoryGenerations:
    return InMemoryGenerations()


@pytest.fixture
async def admin(generations: InMemoryGenerations, tmp_path: Path) -> PublishedGenerations:
    """Two generations, the second active."""
    for number in (1, 2):
        await generations.record(generation(number), {})
        assert await generations.activate(number, number - 1 or None)
    return PublishedGenerations(PublishParts(LoadedTowers(), generations, tmp_path, tmp_path / "repository"))


async def test_every_generation_is_listed_with_its_state(admin: PublishedGenerations) -> None:
    assert [(each["number"], each["state"]) for each in await admin.summaries()] == [(1, "previous"), (2, "active")]


async def test_a_rollback_keeps_its_reason(admin: PublishedGenerations, generations: InMemoryGenerations) -> None:
    assert await admin.rollback("worse") == (2, 1)
    (move, *_) = await generations.moves()
    assert (move.number, move.came_from, move.reason) == (1, 2, "worse")


async def test_a_rollback_that_expects_another_generation_moves_nothing(
    admin: PublishedGenerations, generations: InMemoryGenerations
) -> None:
    assert await admin.rollback("worse", expected=2) == (2, 1)
    with pytest.raises(InvalidInput, match="expected: generation 1 is active"):
        await admin.rollback("worse", expected=2)
    assert len(await generations.moves()) == 3


async def test_without_a_generation_there_is_no_way_back(tmp_path: Path) -> None:
    admin = PublishedGenerations(PublishParts(LoadedTowers(), InMemoryGenerations(), tmp_path, tmp_path))
    assert await admin.summaries() == []
    with pytest.raises(InvalidInput, match="no previous one"):
        await admin.rollback("worse")
    with pytest.raises(InvalidInput, match="generation None is active"):
        await admin.rollback("worse", expected=1)


async def test_what_a_generation_knows_is_read_from_its_files() -> None:
    first = artifacts()[0]
    admin = PublishedGenerations(PublishParts(LoadedTowers(), InMemoryGenerations(), first.parents[1], first))
    found = await admin.choices(1)
    encoding = Encoding.from_json((first / layout.ENCODING).read_text())
    assert {name: field.kind for name, field in found.attributes.items()} == {
        name: field.kind for name, field in encoding.attributes.items()
    }
    assert tuple(found.actions) == encoding.actions
    shares = json.loads((first / layout.POPULARITY).read_text())
    assert [shares[item] for item in found.items] == sorted(shares.values(), reverse=True)
    made = await admin.behaviour_map(1)
    assert made is not None
    assert len(made.virtual) > 1


async def test_files_that_are_not_on_this_machine_are_away(admin: PublishedGenerations) -> None:
    with pytest.raises(Unavailable, match="the folder of generation 2 is not available"):
        await admin.choices(2)
    with pytest.raises(Unavailable, match="the folder of generation 2"):
        await admin.behaviour_map(2)
