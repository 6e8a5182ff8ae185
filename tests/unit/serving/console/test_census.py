"""Users by stage: a walk that goes on with each look, and begins again."""

import pytest

from foretaste.kernel.users import EnrichedUser
from serving.console import census
from serving.console.census import UserCensus
from tests.serving_parts import AT, Store, generation


async def signed_up(store: Store, count: int) -> None:
    await store.write_enriched([EnrichedUser(f"u{place}", {"age": 25}, None, AT) for place in range(count)])


async def test_a_walk_goes_on_at_each_look_and_its_counts_stand_until_the_next_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(census, "USERS", 2)
    store = Store()
    await signed_up(store, 5)
    walk = UserCensus(store)
    told = [await walk.look(generation(1)) for _ in range(3)]
    assert [(each.users, each.whole) for each in told] == [(2, False), (4, False), (5, True)]
    await signed_up(store, 6)
    told = [await walk.look(generation(1)) for _ in range(3)]
    assert [(each.users, each.whole) for each in told] == [(5, True), (5, True), (6, True)]


async def test_another_generation_is_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "USERS", 2)
    store = Store()
    await signed_up(store, 3)
    walk = UserCensus(store)
    await walk.look(generation(1))
    assert (await walk.look(generation(2))).users == 2
    assert (await walk.look(generation(2))).whole


async def test_nobody_is_everybody() -> None:
    found = await UserCensus(Store()).look(generation(1))
    assert (found.users, found.whole) == (0, True)
