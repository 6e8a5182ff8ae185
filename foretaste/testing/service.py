"""The in-memory form of the `IdempotencyKeys` port, for tests and small trials."""

from foretaste.kernel.service_ports import KeptRequest


class InMemoryIdempotencyKeys:
    """Requests in a dictionary of this process, for ever."""

    def __init__(self) -> None:
        self._kept: dict[str, KeptRequest] = {}

    async def begin(self, key: str, fingerprint: str) -> KeptRequest | None:
        held = self._kept.get(key)
        if held is None:
            self._kept[key] = KeptRequest(fingerprint, None)
        return held

    async def finish(self, key: str, kept: KeptRequest) -> None:
        self._kept[key] = kept

    async def forget(self, key: str) -> None:
        self._kept.pop(key, None)

    async def close(self) -> None:
        """Nothing is held open."""
