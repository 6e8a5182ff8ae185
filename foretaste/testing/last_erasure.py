"""The last erasure's word in memory, for tests and small trials."""

from itertools import count

_NUMBERS = count(1)


class InMemoryLastErasure:
    """`LastErasure` of this process. `reads` counts how often it was asked."""

    def __init__(self) -> None:
        self._word: str | None = None
        self.reads = 0

    async def read(self) -> str | None:
        self.reads += 1
        return self._word

    async def change(self) -> None:
        self._word = str(next(_NUMBERS))

    async def close(self) -> None:
        """Nothing is held open."""
