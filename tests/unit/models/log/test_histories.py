from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtime.towers import (
    BadRequest,
    RankingRequest,
    ServedRanking,
    ServedZeroShot,
    decode_object,
    decode_texts,
    providers_of,
)
from tests.towers_factory import artifacts, expected_scores, expected_virtual, requests, trained

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


@pytest.fixture(scope="module")
def zero_shot() -> ServedZeroShot:
    return ServedZeroShot(artifacts()[0])


@pytest.fixture(scope="module")
def ranking() -> ServedRanking:
    return ServedRanking(artifacts()[0])


def test_raw_values_are_answered_as_by_the_trained_towers(zero_shot: ServedZeroShot, ranking: ServedRanking) -> None:
    wanted = requests()
    virtual = zero_shot.run([request.attributes for request in wanted])
    np.testing.assert_allclose(virtual, expected_virtual(trained(0), wanted), atol=1e-5)
    scores = ranking.run([ranking.encode(request) for request in wanted])
    for found, expected in zip(scores, expected_scores(trained(0), wanted), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_requests_joined_are_answered_as_one_by_one(ranking: ServedRanking) -> None:
    encoded = [ranking.encode(request) for request in requests(30)]
    assert len({len(request.candidates) for request in encoded}) > 5
    alone = [ranking.run([request])[0] for request in encoded]
    for joined, single in zip(ranking.run(encoded), alone, strict=True):
        np.testing.assert_allclose(joined, single, atol=1e-6)


def test_none_of_something_is_an_empty_answer(zero_shot: ServedZeroShot, ranking: ServedRanking) -> None:
    assert zero_shot.run([]).shape == (0, 3, 8)
    assert ranking.run([]) == []
    first, second = requests(2)
    empty = ranking.encode(replace(first, candidates=[]))
    assert ranking.run([empty])[0].shape == (0,)
    shapes = [len(scores) for scores in ranking.run([empty, ranking.encode(second), empty])]
    assert shapes == [0, len(second.candidates), 0]


def test_a_single_zero_stands_for_no_virtual_behaviour(ranking: ServedRanking) -> None:
    request = replace(requests(1)[0], items=[], actions=[])
    none, zeros = (
        ranking.run([ranking.encode(replace(request, virtual=virtual))])[0]
        for virtual in (np.zeros((1, 1), np.float32), np.zeros((3, 8), np.float32))
    )
    assert np.array_equal(none, zeros)


@pytest.mark.parametrize("virtual", [np.zeros((1, 8)), np.zeros((3, 9)), np.ones((1, 1)), np.zeros(8)])
def test_virtual_behaviour_of_another_shape_is_refused(ranking: ServedRanking, virtual: Any) -> None:
    with pytest.raises(BadRequest, match=r"virtual_behaviour: expected the shape \(3, 8\)"):
        ranking.encode(replace(requests(1)[0], virtual=virtual.astype(np.float32)))


def test_columns_of_unequal_length_are_refused(ranking: ServedRanking) -> None:
    with pytest.raises(BadRequest, match="2 items but 1 actions"):
        ranking.encode(replace(requests(1)[0], items=["item-1", "item-2"], actions=["clicked"]))


@settings(max_examples=50)
@given(attributes=st.dictionaries(st.sampled_from(["segment", "age", "city", "x"]), SCALARS), item=st.text(max_size=9))
def test_no_value_fails(zero_shot: ServedZeroShot, ranking: ServedRanking, attributes: Any, item: Any) -> None:
    virtual = zero_shot.run([attributes])
    assert np.isfinite(virtual).all()
    request = RankingRequest(attributes, attributes, [item], [item], virtual[0], [item, "item-1"])
    assert np.isfinite(ranking.run([ranking.encode(request)])[0]).all()


def test_the_newest_behaviours_are_read(ranking: ServedRanking) -> None:
    base = replace(requests(1)[0], items=["item-3"] * 100, actions=["clicked"] * 100)
    longer = replace(base, items=["item-9", *base.items], actions=["clicked", *base.actions])
    one, other = ranking.run([ranking.encode(base), ranking.encode(longer)])
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_json_objects_and_their_lists() -> None:
    assert decode_object("attributes", b"") == decode_object("attributes", "") == {}
    assert decode_object("attributes", '{"a": "é"}'.encode()) == {"a": "é"}
    assert decode_texts("behaviour", {"items": ["a", "b"]}, "items") == ["a", "b"]
    assert decode_texts("behaviour", {}, "items") == []


@pytest.mark.parametrize("text", ["{", "[1]", "null", '"a"', b"\xff\xfe", "{]"])
def test_what_is_no_json_object_is_refused_by_name(text: Any) -> None:
    with pytest.raises(BadRequest, match="attributes: "):
        decode_object("attributes", text)


@pytest.mark.parametrize("value", ["a", [1], [None], {"a": 1}])
def test_what_is_no_list_of_texts_is_refused_by_name(value: Any) -> None:
    with pytest.raises(BadRequest, match=r"behaviour\.items: "):
        decode_texts("behaviour", {"items": value}, "items")


def test_a_gpu_is_asked_for_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    assert providers_of("CPU", "0") == ("CPUExecutionProvider",)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeError, match="no CUDAExecutionProvider"):
        providers_of("GPU", "1")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert providers_of("GPU", "1")[0] == ("CUDAExecutionProvider", {"device_id": "1"})
