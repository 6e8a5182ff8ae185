"""Both towers of a generation in this process: raw values in, the answers of the trained towers out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import Behaviour
from models.runtime.local import LocalTowers
from models.runtime.refusals import BadRequest
from tests.towers_factory import artifacts, expected_scores, expected_virtual, requests, trained

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


@pytest.fixture(scope="module")
def towers() -> LocalTowers:
    return LocalTowers.of(artifacts()[0])


def test_raw_values_are_answered_as_by_the_trained_towers(towers: LocalTowers) -> None:
    wanted = requests()
    virtual = towers.virtual_behaviour([request.attributes for request in wanted])
    np.testing.assert_allclose(virtual, expected_virtual(trained(0), wanted), atol=1e-5)
    for found, expected in zip(towers.score(wanted), expected_scores(trained(0), wanted), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_requests_joined_are_answered_as_one_by_one(towers: LocalTowers) -> None:
    wanted = requests(30)
    assert len({len(request.items) for request in wanted}) > 5
    alone = [towers.score([request])[0] for request in wanted]
    for joined, single in zip(towers.score(wanted), alone, strict=True):
        np.testing.assert_allclose(joined, single, atol=1e-6)


def test_none_of_something_is_an_empty_answer(towers: LocalTowers) -> None:
    assert towers.virtual_behaviour([]).shape == (0, 3, 8)
    assert towers.score([]) == []
    first, second = requests(2)
    empty = replace(first, items=[])
    assert towers.score([empty])[0].shape == (0,)
    assert [len(scores) for scores in towers.score([empty, second, empty])] == [0, len(second.items), 0]


@pytest.mark.parametrize("virtual", [np.zeros((1, 8)), np.zeros((3, 9)), np.ones((1, 1)), np.zeros(8)])
def test_virtual_behaviour_of_another_shape_is_refused(towers: LocalTowers, virtual: Any) -> None:
    with pytest.raises(BadRequest, match=r"virtual_behaviour: expected the shape \(3, 8\)"):
        towers.score([replace(requests(1)[0], virtual=virtual.astype(np.float32))])


@settings(max_examples=50)
@given(attributes=st.dictionaries(st.sampled_from(["segment", "age", "city", "x"]), SCALARS), item=st.text(max_size=9))
def test_no_value_fails(towers: LocalTowers, attributes: Any, item: Any) -> None:
    virtual = towers.virtual_behaviour([attributes])
    assert np.isfinite(virtual).all()
    behaviour = Behaviour([item], [item], [0])
    (scores,) = towers.score([RankingInput(attributes, attributes, behaviour, virtual[0], [item, "item-1"])])
    assert np.isfinite(scores).all()


def test_the_newest_behaviours_are_read(towers: LocalTowers) -> None:
    base = replace(requests(1)[0], behaviour=Behaviour(["item-3"] * 100, ["clicked"] * 100, range(100)))
    items, actions = ["item-9", *base.behaviour.items], ["clicked", *base.behaviour.actions]
    one, other = towers.score([base, replace(base, behaviour=Behaviour(items, actions, range(101)))])
    np.testing.assert_allclose(one, other, atol=1e-6)
