"""A batch in shares that are on their way together: while one waits for a server, the processor works on the next."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

SHARE = 128
"""Events of a share, about: enough that a read, a call and a write cost little each."""
AT_ONCE = 3
"""Shares on their way."""


def shares_by_user(events: Sequence[T], user_of: Callable[[T], str], size: int = SHARE) -> list[list[T]]:
    """The events in shares of about `size`, all of a user in one share and in their order."""
    count = round(len(events) / size)
    if count <= 1:
        return [list(events)]
    of_user: dict[str, list[T]] = {}
    for event in events:
        of_user.setdefault(user_of(event), []).append(event)
    shares: list[list[T]] = [[]]
    for each in of_user.values():
        if len(shares[-1]) * count >= len(events):
            shares.append([])
        shares[-1] += each
    return shares


async def each_share(
    handle: Callable[[Sequence[T]], Coroutine[Any, Any, R]], shares: Iterable[Sequence[T]], at_once: int = AT_ONCE
) -> list[R]:
    """What `handle` returns for each share, at most `at_once` at a time. The first failure ends all, and is raised."""
    waiting = list(shares)
    if len(waiting) == 1:
        return [await handle(waiting[0])]
    turn = asyncio.Semaphore(at_once)

    async def in_turn(share: Sequence[T]) -> R:
        async with turn:
            return await handle(share)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(share)) for share in waiting]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]
