"""How long it is waited for a group to handle what is there."""

import pytest

from streams.worker import settling
from streams.worker.settling import Place, unhandled


class Group:
    """One that is found further on at each look."""

    def __init__(self, *looks: dict[int, Place]) -> None:
        self.looks = list(looks)
        self.looked = 0

    async def places(self) -> dict[int, Place]:
        self.looked += 1
        return self.looks[min(self.looked, len(self.looks)) - 1]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "LOOK_EVERY", 0.0)


async def test_where_nothing_waits_nothing_is_waited_for() -> None:
    group = Group({0: Place(5, 5), 1: Place(0, 0)})
    assert await unhandled(group, 60) == 0
    assert group.looked == 1


async def test_what_comes_meanwhile_is_not_waited_for() -> None:
    group = Group({0: Place(5, 9)}, {0: Place(8, 30)}, {0: Place(9, 50)})
    assert await unhandled(group, 60) == 0
    assert group.looked == 3


async def test_no_partition_makes_up_for_another() -> None:
    group = Group(
        {0: Place(5, 9), 1: Place(0, 4)}, {0: Place(40, 50), 1: Place(1, 4)}, {0: Place(40, 50), 1: Place(4, 9)}
    )
    assert await unhandled(group, 60) == 0
    assert group.looked == 3


async def test_after_so_long_what_is_left_of_it_is_told() -> None:
    now = iter([0.0, 10.0, 20.0, 30.0])
    group = Group({0: Place(5, 9)}, {0: Place(6, 20)})
    assert await unhandled(group, 30, clock=lambda: next(now)) == 3
