"""Waiting until a consumer group has handled what was there when it was asked."""

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from foretaste.kernel.ports import Clock

LOOK_EVERY = 0.25
"""Seconds."""


class Place(NamedTuple):
    """How far a group has come in a partition, and where that ends now; offsets."""

    done: int
    end: int


class Places(Protocol):
    """Tells how far a group has come in a topic."""

    async def places(self) -> Mapping[int, Place]:
        """By partition. Raises `Unavailable` when nobody answers."""
        ...


async def unhandled(group: Places, within: float, clock: Clock = time.monotonic) -> int:
    """Events of now that the group has not handled `within` so many seconds; 0 as soon as there is none left.

    What comes meanwhile is not waited for. Raises `Unavailable` when nobody answers.
    """
    given_up = clock() + within
    places = await group.places()
    ends = {partition: place.end for partition, place in places.items()}
    while left := sum(max(end - places[partition].done, 0) for partition, end in ends.items()):
        if clock() >= given_up:
            return left
        await asyncio.sleep(LOOK_EVERY)
        places = await group.places()
    return 0
