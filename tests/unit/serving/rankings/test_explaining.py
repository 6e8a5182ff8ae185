"""What moved the first items of a ranking, told by leaving one thing out at a time."""

from collections.abc import Sequence

import numpy as np
import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ranking import RankingInput, Source
from foretaste.kernel.users import BehavedUser, Behaviour
from foretaste.kernel.values import Attributes, FloatArray
from serving.requests import ExplainedItem, RankRequest, RankResponse
from tests.serving_parts import AT, SHAPE, FakeTowers, Parts, generation

AGE, CITY, LIKED = 0.5, -0.25, 0.125
"""Log odds that an attribute or a behaviour adds, times the number of the item."""


class AdditiveTowers(FakeTowers):
    """v̂ adds effects up, and so does the score: each known attribute and each behaviour has one of its own."""

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        effects = [AGE * ("age" in each) + CITY * ("city" in each) for each in attributes]
        return np.stack([np.full(SHAPE, effect, np.float32) for effect in effects])

    async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        return [
            np.array(
                [
                    1 / (1 + np.exp(-int(item[1:]) * (request.virtual[0, 0] + LIKED * len(request.behaviour))))
                    for item in request.items
                ],
                np.float32,
            )
            for request in requests
        ]


def two_fields() -> Generation:
    made = generation(1)
    return Generation(
        1, made.warm_after, {"age": "numeric", "city": "categorical"}, {}, made.mean_virtual, made.created_at
    )


@pytest.fixture
async def parts() -> Parts:
    made = Parts(towers=AdditiveTowers())
    await made.start(two_fields())
    return made


async def explanation(parts: Parts, *items: str) -> tuple[RankResponse, list[ExplainedItem]]:
    (response,) = await parts.ranking.rank([RankRequest(user_id="u1", items=list(items), explain=True)])
    assert response.explanation is not None
    return response, response.explanation


async def test_of_a_cold_user_the_effects_of_the_attributes_come_out(parts: Parts) -> None:
    await parts.register({"age": 25, "city": "Ulm", "nobody reads": 1})
    response, explained = await explanation(parts, "i1", "i2", "i4")
    assert response.served_by is Source.READ_REPAIRED
    assert [each.item_id for each in explained] == [each["item_id"] for each in response.ranked] == ["i4", "i2", "i1"]
    for each in explained:
        number = int(each.item_id[1:])
        first, second = each.influences
        assert (first.attribute, first.value, second.attribute, second.value) == ("age", 25, "city", "Ulm")
        assert first.effect == pytest.approx(AGE * number, abs=1e-4)
        assert second.effect == pytest.approx(CITY * number, abs=1e-4)


async def test_of_a_user_with_behaviour_each_act_is_told_too(parts: Parts) -> None:
    await parts.register({"age": 25})
    await parts.behave("a", "b")
    _, explained = await explanation(parts, "i2")
    (only,) = explained
    assert [(each.attribute, each.behaviour, each.value) for each in only.influences] == [
        ("age", None, 25),
        (None, "a", "liked"),
        (None, "b", "liked"),
    ]
    assert [each.effect for each in only.influences] == pytest.approx([2 * AGE, 2 * LIKED, 2 * LIKED], abs=1e-4)


async def test_of_a_warm_user_acts_are_told_and_no_answers(parts: Parts) -> None:
    acts = Behaviour(["a", "b", "c"], ["liked"] * 3, [AT] * 3)
    behaviour = acts
    for number in range(12):
        behaviour = behaviour.then(f"q{number}", "answered_yes", AT)
    await parts.store.write_behaviour([BehavedUser("u1", behaviour)])
    _, explained = await explanation(parts, "i2")
    (only,) = explained
    assert {each.behaviour for each in only.influences} == {"a", "b", "c"}


@pytest.mark.parametrize("acts", ["ab", "abc"])
async def test_what_was_passed_over_takes_no_acts_place(parts: Parts, acts: str) -> None:
    """Nor does an act's effect hold that of what was passed over, of a warm user either, but for its own item."""
    behaviour = Behaviour(list(acts), ["liked"] * len(acts), [AT] * len(acts))
    for number in range(12):
        behaviour = behaviour.then("a" if number == 0 else f"p{number}", "passed_over", AT)
    await parts.store.write_behaviour([BehavedUser("u1", behaviour)])
    _, explained = await explanation(parts, "i2")
    (only,) = explained
    effects = {each.behaviour: each.effect for each in only.influences}
    assert effects == pytest.approx({"a": 4 * LIKED} | dict.fromkeys(acts[1:], 2 * LIKED), abs=1e-4)


async def test_the_first_items_and_the_strongest_influences_alone_are_told(parts: Parts) -> None:
    await parts.register({"age": 25})
    await parts.behave(*(f"b{number}" for number in range(30)))
    _, explained = await explanation(parts, *(f"i{number}" for number in range(1, 30)))
    assert len(explained) == 10
    assert {len(each.influences) for each in explained} == {5}


async def test_without_the_question_nothing_is_explained(parts: Parts) -> None:
    await parts.register({"age": 25})
    (response,) = await parts.ranking.rank([RankRequest(user_id="u1", items=["i1"])])
    assert response.explanation is None


async def test_a_tower_that_goes_meanwhile_leaves_the_answer_as_it_is(parts: Parts) -> None:
    class Going(AdditiveTowers):
        calls_left = 1

        async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
            if not self.calls_left:
                raise Unavailable("triton", "gone")
            self.calls_left -= 1
            return await super().score(requests, generation)

    parts.ranking._towers = Going()
    await parts.register({"age": 25})
    (response,) = await parts.ranking.rank([RankRequest(user_id="u1", items=["i1", "i2"], explain=True)])
    assert response.explanation is None
    assert response.fallback is None
    assert len(response.ranked) == 2
