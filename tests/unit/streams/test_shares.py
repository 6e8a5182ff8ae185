"""Shares of a batch: every event once, a user in one share, few on their way, the first failure raised."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.errors import Unavailable
from streams.shares import each_share, shares_by_user


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers())), st.integers(min_value=1, max_value=9))
def test_all_of_a_user_lie_in_one_share_in_their_order(events: list[tuple[str, int]], size: int) -> None:
    shares = shares_by_user(events, lambda event: event[0], size)
    assert sorted(event for share in shares for event in share) == sorted(events)
    for user in {event[0] for event in events}:
        (of_user,) = [kept for share in shares if (kept := [each for each in share if each[0] == user])]
        assert of_user == [event for event in events if event[0] == user]


def test_shares_are_about_of_one_size() -> None:
    shares = shares_by_user(list(range(256)), str, 128)
    assert [len(share) for share in shares] == [128, 128]
    assert len(shares_by_user(list(range(150)), str, 128)) == 1


async def test_what_is_returned_keeps_the_order_of_the_shares_and_few_are_on_their_way() -> None:
    running = most = 0

    async def handle(share: Sequence[int]) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - share[0]):
            await asyncio.sleep(0)
        running -= 1
        return share[0]

    assert await each_share(handle, [[each] for each in range(8)], at_once=3) == list(range(8))
    assert most == 3


async def test_a_failure_ends_the_others_and_is_raised_as_it_is() -> None:
    ended: list[int] = []

    async def handle(share: Sequence[int]) -> None:
        if share[0] == 1:
            raise Unavailable("redis", "chosen by the test")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(share[0])

    with pytest.raises(Unavailable, match="chosen by the test"):
        await each_share(handle, [[0], [1], [2]])
    assert sorted(ended) == [0, 2]
