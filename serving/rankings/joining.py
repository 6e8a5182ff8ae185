"""Requests that come together are answered together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from foretaste.kernel.running.logs import about_nothing
from foretaste.kernel.running.supervision import cancel_and_wait

Q = TypeVar("Q")
A = TypeVar("A")

MOST = 32
"""Requests that are answered together."""
AT_ONCE = 2
"""Groups that are answered at once: one is read and encoded here while the towers score the other."""


class _Waiting(NamedTuple, Generic[Q, A]):
    """A request that waits for its group."""

    request: Q
    asked_at: float
    answered: asyncio.Future[A]


class Joined(Generic[Q, A]):
    """Answers requests in groups of those that wait; one that comes alone waits for nothing.

    `answer` takes a group and the time since when the first of it waits, and returns as many answers. What it raises,
    each of the group raises.
    """

    def __init__(
        self, answer: Callable[[Sequence[Q], float], Awaitable[Sequence[A]]], most: int = MOST, at_once: int = AT_ONCE
    ) -> None:
        self._answer = answer
        self._most = most
        self._at_once = at_once
        self._alone = 0
        """Groups of one that are answered in the task of who asked."""
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._groups: set[asyncio.Task[None]] = set()

    async def ask(self, request: Q, asked_at: float) -> A:
        """The answer to a request of that time. Who is cancelled takes nothing from the others of the group.

        Where nobody waits, the caller's own task answers: another one for it would cost as much as the joining.
        """
        if self._is_free() and not self._waiting:
            self._alone += 1
            try:
                (answer,) = await self._answer([request], asked_at)
            finally:
                self._alone -= 1
                self._begin()
            return answer
        answered: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, asked_at, answered))
        return await answered

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Of a router that asks this: when it ends, so do the groups; who still waits in one is cancelled."""
        yield
        await self.close()

    async def close(self) -> None:
        """End the groups; who still waits in one is cancelled."""
        while self._groups:
            await cancel_and_wait(*self._groups)

    def _is_free(self) -> bool:
        return self._alone + len(self._groups) < self._at_once

    def _begin(self) -> None:
        while self._waiting and self._is_free():
            group = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            task = asyncio.get_running_loop().create_task(self._answered(group), context=about_nothing())
            self._groups.add(task)
            task.add_done_callback(partial(self._ended, group), context=about_nothing())

    async def _answered(self, group: Sequence[_Waiting[Q, A]]) -> None:
        answers = await self._answer([each.request for each in group], min(each.asked_at for each in group))
        for each, answer in zip(group, answers, strict=True):
            if not each.answered.done():
                each.answered.set_result(answer)

    def _ended(self, group: Sequence[_Waiting[Q, A]], task: asyncio.Task[None]) -> None:
        self._groups.discard(task)
        for each in group:
            if not each.answered.done():
                self._fail(each.answered, task)
        self._begin()

    @staticmethod
    def _fail(answered: asyncio.Future[A], task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            answered.cancel()
        else:
            answered.set_exception(error)
