"""Names and values of attributes that a generation does not know are counted and said, not only ignored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.users import BehavedUser, Behaviour
from foretaste.kernel.values import Attributes, FloatArray
from streams.sign_ups import SignUps
from streams.sign_ups.attribute_check import MOST_NAMES, AttributeCheck
from tests.stream_parts import NOW, NOW_MS, ChosenTowers, World, generation, sign_up


@dataclass
class Vocabulary(ChosenTowers):
    """Towers that know ages below 100."""

    away: ForetasteError | None = None
    encoded: int = 0
    """Users whose values were looked up."""

    async def unknown_values(self, attributes: Sequence[Attributes], generation: int) -> Mapping[str, int]:
        if self.away is not None:
            raise self.away
        self.encoded += len(attributes)
        count = sum(isinstance(age := each.get("age"), int) and age >= 100 for each in attributes)
        return {"age": count} if count else {}

    async def counted_virtual_behaviour(
        self, attributes: Sequence[Attributes], generation: int
    ) -> tuple[FloatArray, Mapping[str, int]]:
        made = await self.virtual_behaviour(attributes, generation)
        return made, await self.unknown_values(attributes, generation)


def names_counted(world: World, name: str) -> float:
    return world.counted("foretaste_unknown_attributes_total", attribute=name)


async def test_a_misspelt_name_is_counted_and_said_once_with_the_one_that_was_meant(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    check = AttributeCheck(world.metrics, None)
    for _ in range(3):
        await check.note([{"agee": 30, "age": 30}, {"agee": 31}, {"age": 2}], generation())
    assert names_counted(world, "agee") == 6
    assert names_counted(world, "age") == 0
    hint = "it has no effect; did you mean 'age'?"
    assert caplog.messages == [f"sign-ups bring the attribute 'agee', which generation 1 does not know: {hint}"]
    await check.note([{"agee": 30}], generation(2))
    assert len(caplog.messages) == 2


async def test_a_name_like_no_other_brings_no_guess(caplog: pytest.LogCaptureFixture) -> None:
    await AttributeCheck(World().metrics, None).note([{"shoe size": 44}], generation())
    assert caplog.messages[0].endswith("it has no effect")


async def test_names_from_outside_make_a_bounded_number_of_series(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    check = AttributeCheck(world.metrics, None)
    await check.note([{f"name {each}": 1} for each in range(1000)], generation())
    await check.note([{"x" * 10_000: 1}], generation())
    assert names_counted(world, "other") == 1001 - MOST_NAMES
    assert len(caplog.messages) == MOST_NAMES


async def test_unknown_values_are_counted_by_attribute_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    vocabulary = Vocabulary()
    world = World(towers=vocabulary)
    check = AttributeCheck(world.metrics, vocabulary)
    for _ in range(2):
        await check.note([{"age": 120}, {"age": 130}, {"age": 20}, {"age": None}, {}], generation())
    assert world.counted("foretaste_unknown_attribute_values_total", attribute="age") == 4
    assert len(caplog.messages) == 1
    assert "120" not in caplog.text, "a value may be personal"


async def test_a_vocabulary_that_is_away_holds_no_sign_up_up() -> None:
    world = World()
    await AttributeCheck(world.metrics, Vocabulary(away=Unavailable("triton", "away"))).note([{"a": 1}], generation())
    assert names_counted(world, "a") == 1


def way_of(world: World, vocabulary: Vocabulary) -> SignUps:
    return SignUps(
        world.parts,
        world.dead_letters,
        world.metrics,
        enriched_topic=world.names.enriched,
        profiles_topic=world.names.profiles,
        max_event_bytes=65536,
        now=lambda: NOW,
        check=AttributeCheck(world.metrics, vocabulary),
    )


async def test_the_way_of_a_sign_up_counts_what_had_no_effect() -> None:
    vocabulary = Vocabulary()
    world = World(towers=vocabulary)
    await world.activate()
    way = way_of(world, vocabulary)
    older, newer = sign_up("u1", 0, NOW_MS - 5, age=20, gendr="f"), sign_up("u1", 1, NOW_MS, age=130)
    await way([older, newer, sign_up("u2", 2, age=-1)])
    assert names_counted(world, "gendr") == 1
    assert world.counted("foretaste_unknown_attribute_values_total", attribute="age") == 1
    assert world.counted("foretaste_events_dropped_total", way="sign-up", reason="not_newer") == 1
    await way([newer])
    assert world.counted("foretaste_events_dropped_total", way="sign-up", reason="not_newer") == 2
    assert vocabulary.encoded == 3, "each sign-up is looked up once, a replay not at all"


async def test_a_sign_up_that_needs_no_tower_is_looked_up_too() -> None:
    vocabulary = Vocabulary()
    world = await World(towers=vocabulary).activate(generation(warm_after=1))
    await world.store.write_behaviour([BehavedUser("warm", Behaviour(["i"], ["acted"], [NOW_MS]))])
    await way_of(world, vocabulary)([sign_up("warm", 0, age=130), sign_up("cold", 1, age=131)])
    assert (vocabulary.encoded, vocabulary.calls) == (2, [(1, 1)])
    assert world.counted("foretaste_unknown_attribute_values_total", attribute="age") == 2
