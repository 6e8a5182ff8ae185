"""A store that drops users when it is full is told loudly, once, and its end too."""

import logging
from dataclasses import dataclass

import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.store_watch import StoreWatch


@dataclass
class ChosenStore:
    policy: str | None = None
    away: bool = False

    async def eviction(self) -> str | None:
        if self.away:
            raise Unavailable("redis", "chosen by the test")
        return self.policy


async def test_a_policy_is_told_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    store, told = ChosenStore("allkeys-lru"), list[bool]()
    watch = StoreWatch([object(), ChosenStore(), store], told.append)
    with caplog.at_level(logging.WARNING):
        await watch.look()
        await watch.look()
        store.away = True
        await watch.look()
        warned = watch.warning
        store.away, store.policy = False, None
        await watch.look()
    assert "maxmemory-policy allkeys-lru" in str(warned)
    assert (watch.warning, told) == (None, [True, True, False])
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_a_store_that_keeps_everything_or_cannot_tell_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    watch = StoreWatch([object(), ChosenStore()], list[bool]().append)
    await watch.look()
    assert watch.warning is None
    assert not caplog.records
