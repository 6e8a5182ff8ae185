"""A lease that is held while something is done."""

import asyncio
import time

import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.leasing import LeaseHeld, LeaseLost, leased
from foretaste.testing import InMemoryLease, LeaseBoard

SECONDS = 0.6


class Blinking(InMemoryLease):
    """In memory, behind a server that is away for so many seconds, from its first renewal on."""

    def __init__(self, away: float) -> None:
        super().__init__(LeaseBoard(), "refresh", seconds=SECONDS)
        self._away = away
        self._since: float | None = None
        self.renewed = 0

    async def renew(self) -> bool:
        self._check()
        self.renewed += 1
        return await super().renew()

    async def give_back(self) -> None:
        self._check()
        await super().give_back()

    def _check(self) -> None:
        if self._since is None:
            self._since = time.monotonic()
        if time.monotonic() - self._since < self._away:
            raise Unavailable("redis", "no answer")


class Hanging(Blinking):
    """Behind one that never answers."""

    async def renew(self) -> bool:
        await asyncio.sleep(60)
        return True


async def test_a_server_that_is_away_for_less_than_the_lease_lasts_ends_nothing() -> None:
    lease = Blinking(away=SECONDS / 3)
    async with leased(lease, SECONDS) as lost:
        await asyncio.sleep(2 * SECONDS)
        assert not lost.is_set()
    assert lease.renewed >= 1


@pytest.mark.parametrize("lease", [Blinking(away=60), Hanging(away=60)], ids=["away", "hanging"])
async def test_a_lease_that_ended_while_nobody_answered_is_lost_then_and_not_before(lease: Blinking) -> None:
    began = time.monotonic()
    with pytest.raises(LeaseLost, match="did not answer"):
        async with leased(lease, SECONDS) as lost:
            await asyncio.sleep(10)
    assert lost.is_set()
    assert 0.9 * SECONDS < time.monotonic() - began < 3 * SECONDS


async def test_a_lease_that_another_has_is_lost_at_its_next_renewal() -> None:
    board = LeaseBoard()
    asyncio.get_running_loop().call_later(SECONDS / 6, board.held.clear)
    with pytest.raises(LeaseLost, match="went to another"):
        async with leased(InMemoryLease(board, "refresh", seconds=60), SECONDS):
            await asyncio.sleep(10)


async def test_what_is_done_ends_as_it_does_though_the_lease_cannot_be_given_back() -> None:
    async with leased(Blinking(away=60), SECONDS):
        pass
    with pytest.raises(ValueError, match="what was done"):
        async with leased(Blinking(away=60), SECONDS):
            raise ValueError("what was done")


async def test_one_that_is_held_is_not_waited_for() -> None:
    board = LeaseBoard()
    async with leased(InMemoryLease(board, "refresh", seconds=60), SECONDS):
        with pytest.raises(LeaseHeld):
            async with leased(InMemoryLease(board, "refresh", seconds=60), SECONDS):
                raise AssertionError("there are two")
    assert board.holder("refresh") is None
