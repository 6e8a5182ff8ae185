"""The in-memory form of a checkpoint."""


class InMemoryCheckpoint:
    """One text of this process; a test may look at it, and take it away."""

    def __init__(self) -> None:
        self.state: str | None = None

    async def read(self) -> str | None:
        return self.state

    async def write(self, state: str) -> None:
        self.state = state

    async def forget(self) -> None:
        self.state = None

    async def close(self) -> None:
        """Nothing is held open."""
