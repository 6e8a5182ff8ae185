"""A right that is held while something is done, and what becomes of that when it is lost."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.retrying import until_it_succeeds

RENEWALS, TRIES = 3, 30
"""In the time that a lease lasts: how often it is renewed, how often that is tried at least while nobody answers."""


class Lease(Protocol):
    """A right that one holder has at a time, for a while (Redis)."""

    async def take(self) -> bool:
        """False while another holds it."""
        ...

    async def renew(self) -> bool:
        """Hold it for another while; False where it was lost meanwhile, and whoever held it must stop."""
        ...

    async def give_back(self) -> None:
        """Nothing happens where it was lost."""
        ...

    async def close(self) -> None: ...


class LeaseHeld(ForetasteError):
    """Another process holds the lease of the refresh or of the upkeep of the log."""

    retriable = True


class LeaseLost(ForetasteError):
    """Another process may have started meanwhile: this one has stopped."""

    retriable = True


@asynccontextmanager
async def leased(lease: Lease, seconds: float) -> AsyncIterator[threading.Event]:
    """Hold the lease and renew it while the `with` body runs; the event is set when the body must end.

    Where it is lost, what is inside is cancelled and `LeaseLost` raised. Raises `LeaseHeld` while another holds it, and
    `Unavailable` where nobody answers at the beginning; at the end, nobody needs to: it ends by itself.
    """
    lost = threading.Event()
    try:
        ends = asyncio.get_running_loop().time() + seconds
        if not await lease.take():
            raise LeaseHeld("another process holds it: it ends when that one does, or some time after it died")
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(_renew(lease, seconds, ends, lost))
                try:
                    yield lost
                finally:
                    renewing.cancel()
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        finally:
            lost.set()  # whatever ended this, a thread that still trains ends too
            with suppress(Unavailable):
                await lease.give_back()
    finally:
        await lease.close()


async def _renew(lease: Lease, seconds: float, ends: float, lost: threading.Event) -> None:
    """Renew until cancelled; `ends`, by the loop's clock, is when the lease expires: a renewal is tried until then."""
    asking, clock = until_it_succeeds(longest=seconds / TRIES), asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(seconds / RENEWALS)
        requested_at, why = clock(), "went to another process"
        try:
            async with asyncio.timeout(ends - requested_at):
                held: bool = await asking(lease.renew)
        except TimeoutError:
            held, why = False, "ended while Redis did not answer"
        if not held:
            lost.set()
            raise LeaseLost(f"the lease {why}: what was done under it has stopped")
        ends = requested_at + seconds
