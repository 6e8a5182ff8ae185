"""The in-memory form of a store's offsets."""

from collections.abc import Mapping

from foretaste.kernel.values import Partition


class InMemoryOffsets:
    """`OffsetStore` in a dictionary, which a test may cut or empty; `users`: whether anybody's attributes are there."""

    def __init__(self, *, users: bool = False) -> None:
        self.held: dict[Partition, int] = {}
        self.users = users
        self.run = "first"

    async def begin_offsets(self, starts: Mapping[Partition, int]) -> dict[Partition, int | None]:
        found = {each: self.held.get(each) for each in starts}
        self.held |= {each: min(start, self.held.get(each, start)) for each, start in starts.items()}
        return found

    async def advance_offsets(self, moves: Mapping[Partition, tuple[int, int]]) -> dict[Partition, int | None]:
        elsewhere = {each: self.held.get(each) for each, (old, _) in moves.items() if self.held.get(each) != old}
        self.held |= {each: new for each, (_, new) in moves.items() if each not in elsewhere}
        return elsewhere

    async def holds_users(self) -> bool:
        return self.users

    async def server_run(self) -> str:
        return self.run
