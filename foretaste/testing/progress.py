"""The in-memory form of how far re-enrichment has come."""


class InMemoryProgress:
    """How far re-enrichment has come, in a dictionary of this process."""

    def __init__(self) -> None:
        self._states: dict[int, str] = {}

    async def read(self, generation: int) -> str | None:
        return self._states.get(generation)

    async def write(self, generation: int, state: str) -> None:
        self._states[generation] = state

    async def forget(self, generation: int) -> None:
        self._states.pop(generation, None)

    async def close(self) -> None:
        """Nothing is held open."""
