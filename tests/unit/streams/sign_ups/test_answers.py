"""Answers to questions among the attributes of sign-ups: they stay until a sign-up says something else of them."""

from datetime import UTC, datetime

import pytest

from foretaste.kernel.events import Message, UserProfile
from foretaste.kernel.running.answers import with_answers, with_kept_answers
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import AttributesVersion, Place
from foretaste.kernel.values import Value
from streams.profiles.profile import registered_user
from tests.stream_parts import NOW_MS, ChosenOneStepStore, ChosenStore, World, message
from tests.unit.streams.test_sign_ups import profiles, way

ANSWERS: dict[str, Value] = {"answered_yes": ["i1"], "answered_no": ["i2"]}


def registered_at(at_ms: int, offset: int, **attributes: Value) -> Message:
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
    return message({"user_id": "u1", "attributes": attributes, "registered_at": at}, key=b"u1", offset=offset)


@pytest.fixture(params=[ChosenStore, ChosenOneStepStore])
async def world(request: pytest.FixtureRequest) -> World:
    return await World(store=request.param()).activate()


@pytest.mark.parametrize("together", [True, False])
async def test_they_stay_with_attributes_that_are_sent_anew(world: World, together: bool) -> None:
    messages = [
        registered_at(NOW_MS - 9000, 0, age=25, **ANSWERS),
        registered_at(NOW_MS - 5000, 1, age=26),
    ]
    for batch in [messages] if together else [[each] for each in messages]:
        await way(world)(batch)
    stored = await world.features("u1")
    assert stored.attributes == {"age": 26, **ANSWERS}
    profile: UserProfile = profiles(world)[-1][1]
    assert registered_user(profile).attributes == {"age": 26, **ANSWERS}, "a rebuild finds them again"


async def test_an_older_sign_up_that_comes_late_takes_nothing_away(world: World) -> None:
    await way(world)([registered_at(NOW_MS - 5000, 1, age=26, **ANSWERS)])
    await way(world)([registered_at(NOW_MS - 9000, 0, age=25)])
    assert (await world.features("u1")).attributes == {"age": 26, **ANSWERS}


@pytest.mark.parametrize("together", [True, False])
async def test_those_from_before_an_erasure_do_not_come_back(world: World, together: bool) -> None:
    at_ms = NOW_MS - 7000
    erased = AttributesVersion(at_ms, Place("user-erased-0", 1, at_ms), (b"erasure1",))
    await world.store.erase([ErasedUser("u1", erased)])
    messages = [registered_at(NOW_MS - 9000, 0, age=25, **ANSWERS), registered_at(NOW_MS - 5000, 1, age=25)]
    for batch in [messages] if together else [[each] for each in messages]:
        await way(world)(batch)
    assert (await world.features("u1")).attributes == {"age": 25}


async def test_one_whose_virtual_behaviour_is_not_finite_is_one_dead_letter(world: World) -> None:
    """Though the answers of the one before were passed on to it."""
    messages = [registered_at(NOW_MS - 9000, 0, age=25, **ANSWERS), registered_at(NOW_MS - 5000, 1, age=-1)]
    await way(world)(messages)
    assert len(world.events.of(world.names.dead_letters)) == 1
    assert (await world.features("u1")).attributes == {"age": 25, **ANSWERS}


async def test_an_empty_list_takes_them_back(world: World) -> None:
    await way(world)([registered_at(NOW_MS - 9000, 0, age=25, **ANSWERS)])
    await way(world)([registered_at(NOW_MS - 5000, 1, age=25, answered_yes=[])])
    assert (await world.features("u1")).attributes == {"age": 25, "answered_yes": [], "answered_no": ["i2"]}


async def test_they_are_no_attributes_that_nobody_knows(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await way(world)([registered_at(NOW_MS - 9000, 0, **ANSWERS)])
    assert world.counted("foretaste_unknown_attributes_total", attribute="answered_yes") == 0
    assert not caplog.messages


def test_attributes_without_answers_are_themselves() -> None:
    own = {"age": 25}
    assert with_kept_answers(own, None) is own
    assert with_kept_answers(own, {"age": 20}) is own
    assert with_answers(own, {}) is own


def test_an_answer_takes_the_place_of_one_to_the_same_question() -> None:
    found = with_answers({"answered_yes": ["a", "b"], "answered_no": ["c"]}, {"a": False, "c": True, "d": True})
    assert found == {"answered_yes": ["b", "c", "d"], "answered_no": ["a"]}
