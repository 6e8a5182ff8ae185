"""The stage of a user, and who lacks virtual behaviour: a table of cases."""

import numpy as np
import pytest

from foretaste.kernel.generations import Serving
from foretaste.kernel.users import Behaviour, Stage, UserFeatures, VirtualBehaviour, stage_of
from foretaste.kernel.values import MAX_PASSED_OVER, Attributes
from tests.stream_parts import SHAPE, generation


@pytest.mark.parametrize(
    ("seen", "warm_after", "stage"),
    [
        (0, 1, Stage.COLD),
        (0, 0, Stage.COLD),
        (1, 1, Stage.WARM),
        (1, 3, Stage.WARMING),
        (2, 3, Stage.WARMING),
        (3, 3, Stage.WARM),
        (100, 3, Stage.WARM),
    ],
)
def test_the_stage_is_by_what_was_seen(seen: int, warm_after: int, stage: Stage) -> None:
    assert stage_of(seen, warm_after) is stage
    assert generation(warm_after=warm_after).stage(seen) is stage


def user(
    seen: int = 0, attributes: Attributes | None = None, virtual: VirtualBehaviour | None = None, virtual_ms: int = 10
) -> UserFeatures:
    behaviour = Behaviour(["i"] * seen, ["acted"] * seen, list(range(seen)))
    return UserFeatures("u1", attributes, behaviour, 0, virtual, attributes_ms=10, virtual_ms=virtual_ms)


def virtual(number: int = 1, shape: tuple[int, int] = SHAPE) -> VirtualBehaviour:
    return VirtualBehaviour(number, np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("features", "current", "lacking"),
    [
        pytest.param(user(), False, False, id="attributes unknown"),
        pytest.param(user(attributes={}), False, True, id="cold with none stored"),
        pytest.param(user(2, {}), False, True, id="warming with none stored"),
        pytest.param(user(3, {}), False, False, id="warm"),
        pytest.param(user(0, {}, virtual()), True, False, id="current"),
        pytest.param(user(0, {}, virtual(3)), False, True, id="of another generation"),
        pytest.param(user(0, {}, virtual(1, (1, 1))), False, True, id="of another shape"),
        pytest.param(user(0, {}, virtual(), virtual_ms=9), False, True, id="older than the attributes"),
        pytest.param(user(0, {}, virtual(), virtual_ms=11), True, False, id="newer than the attributes"),
    ],
)
def test_virtual_behaviour_is_current_or_lacking(features: UserFeatures, current: bool, lacking: bool) -> None:
    made = generation(1, warm_after=3)
    assert (made.virtual_of(features) is not None) is current
    assert made.lacks(features) is lacking


def test_what_was_passed_over_is_no_act_and_the_newest_of_it_is_read() -> None:
    behaviour = Behaviour(["a", "b", "c"], ["passed_over", "clicked", "passed_over"], [1, 1, 2])
    assert behaviour.acts == Behaviour(("b",), ("clicked",), (1,))
    assert list(behaviour.passed_over) == ["a", "c"]
    assert list(behaviour.then("c", "clicked", 3).passed_over) == ["a"], "it was chosen after all"
    three = Behaviour(list("xyz"), ["passed_over"] * 3, range(3))
    assert list(three.then("y", "answered_no", 9).passed_over) == ["x", "y", "z"]
    many = [str(number) for number in range(MAX_PASSED_OVER + 5)]
    assert list(Behaviour(many, ["passed_over"] * len(many), range(len(many))).passed_over) == many[5:]
    assert not Behaviour(["a"], ["clicked"], [1]).passed_over


def test_an_answer_to_a_question_is_no_act() -> None:
    answers = Behaviour(["a", "b"], ["answered_yes", "answered_no"], [1, 2])
    both = answers.then("c", "clicked", 3).then("d", "answered_yes", 4)
    acts = both.acts
    assert (acts.items, acts.actions, acts.times) == (("c",), ("clicked",), (3,))
    assert len(answers.acts) == 0
    assert acts.acts is acts
    lacking = UserFeatures("u1", {}, Behaviour(["a"] * 9, ["answered_yes"] * 9, range(9)))
    assert generation(warm_after=3).lacks(lacking), "nine answers warm nobody"


def test_in_use_are_the_active_and_the_filling_generation() -> None:
    assert Serving().in_use == {}
    one, two = generation(1), generation(2)
    assert Serving(active=two, previous=1).in_use == {2: two}
    assert Serving(active=one, filling=two).in_use == {1: one, 2: two}
