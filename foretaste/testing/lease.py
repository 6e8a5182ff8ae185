"""The in-memory form of the `Lease` port, for tests and small trials."""

import time

from foretaste.kernel.ports import Clock


class LeaseBoard:
    """Who holds which right until when: what the holders of this process share."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.held: dict[str, tuple[object, float]] = {}

    def holder(self, name: str) -> object | None:
        """Who holds the right now."""
        holder, until = self.held.get(name, (None, 0.0))
        return holder if self.clock() < until else None


class InMemoryLease:
    """The right to `name` on a board, for `seconds` from when it was taken or last renewed."""

    def __init__(self, board: LeaseBoard, name: str, *, seconds: float) -> None:
        self._board = board
        self._name = name
        self._seconds = seconds

    async def take(self) -> bool:
        if self._board.holder(self._name) not in (None, self):
            return False
        self._hold()
        return True

    async def renew(self) -> bool:
        if self._board.holder(self._name) is not self:
            return False
        self._hold()
        return True

    async def give_back(self) -> None:
        if self._board.holder(self._name) is self:
            del self._board.held[self._name]

    async def close(self) -> None:
        """Nothing is held open."""

    def _hold(self) -> None:
        self._board.held[self._name] = (self, self._board.clock() + self._seconds)
