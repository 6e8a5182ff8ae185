"""Attributes of several values: lists, and vectors."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foretaste.kernel.values import Value
from models.data.vocabulary import SeenValues
from models.runtime.encoding import Encoding, columns_of, sizes_of
from models.runtime.fields import CategoricalEncoder, FieldEncoder, ListEncoder, VectorEncoder, encoder_from_dict
from models.runtime.fields.list_of_values import ABSENT, MOST_VALUES, PRESENT
from models.runtime.fields.vector import BINS, COMPONENTS

LISTS: Sequence[Value] = (
    ["jazz", "rock"],
    ["jazz"],
    ("pop", "jazz"),
    [],
    None,
    "rock",
    [None, "", "rock"],
    [3, 3.0, "3"],
)


def _seen(values: Sequence[Value]) -> SeenValues:
    column = np.empty(len(values), dtype=object)
    column[:] = list(values)
    return SeenValues(pd.Series(column, dtype=object), np.ones(len(values), dtype=np.bool_))


def _vectors(count: int = 400, dimension: int = 20) -> Any:
    """Most of what differs lies along the first two axes."""
    return np.random.default_rng(0).normal(size=(count, dimension)) * np.array([10.0, 5.0, *[0.1] * (dimension - 2)])


def test_the_most_frequent_values_of_lists_have_columns() -> None:
    field = ListEncoder.fit(_seen(LISTS))
    assert field.values == ("jazz", "rock", "3", "pop")
    many = ListEncoder.fit(_seen([[number, number % 10] for number in range(100)]))
    assert many.sizes == (6, *(3,) * MOST_VALUES)
    assert set(many.values[:10]) == {str(number) for number in range(10)}


def test_a_list_is_a_set_of_canonical_values() -> None:
    field = ListEncoder(("jazz", "3"))
    one, other, alone = field.encode([["jazz", 3, "jazz"], ("3.0", "jazz"), "jazz"])
    assert one.tolist() == other.tolist() == [3, PRESENT, PRESENT]
    assert alone.tolist() == [2, PRESENT, ABSENT]


@pytest.mark.parametrize("value", [None, "", float("nan")])
def test_a_missing_list_is_unknown_and_an_empty_one_is_not(value: Value) -> None:
    field = ListEncoder(("jazz",))
    assert field.encode([value]).tolist() == [[0, 0]]
    assert field.encode([[]]).tolist() == [[1, ABSENT]]


def test_lists_of_which_nothing_is_known_are_told() -> None:
    field = ListEncoder(("jazz",))
    indices = field.encode([["jazz", "new"], ["new"], [], None])
    assert field.unknown(indices).tolist() == [False, True, False, False]


def test_vectors_are_binned_along_what_tells_them_apart() -> None:
    vectors = _vectors()
    field = VectorEncoder.fit(_seen([each.tolist() for each in vectors]))
    assert field.dimension == 20
    assert len(field.sizes) == COMPONENTS
    assert field.sizes[:2] == (BINS + 1, BINS + 1)
    found = field.encode([each.tolist() for each in vectors])
    assert found.min() == 1
    for axis in (0, 1):
        assert abs(np.corrcoef(found[:, axis], vectors[:, axis])[0, 1]) > 0.9
    assert np.bincount(found[:, 0])[1:].min() >= 400 // BINS - 1


@pytest.mark.parametrize(
    "value",
    [None, "text", 3.0, [], [1.0], [1.0] * 21, [float("nan"), *[0.0] * 19], ["x", *[0.0] * 19], [10**400] * 20],
    ids=["none", "text", "number", "empty", "short", "long", "nan", "text within", "beyond floats"],
)
def test_what_is_no_vector_of_the_right_length_is_unknown(value: Any) -> None:
    field = VectorEncoder.fit(_seen([each.tolist() for each in _vectors()]))
    found = field.encode([value, [0.0] * 20])
    assert not found[0].any()
    assert found[1].all()
    assert field.unknown(found).tolist() == [True, False]


def test_vectors_of_the_usual_length_alone_are_learned_from() -> None:
    vectors: list[Value] = [each.tolist() for each in _vectors()]
    odd: list[Value] = [[1e9] * 3, None, [float("inf")] * 20]
    assert VectorEncoder.fit(_seen([*odd, *vectors])) == VectorEncoder.fit(_seen(vectors))


@pytest.mark.parametrize("values", [[], [None], [[]], [[1.0, 2.0]], [[1.0, 2.0]] * 5], ids=str)
def test_vectors_that_tell_nothing_are_there_or_not(values: list[Value]) -> None:
    field = VectorEncoder.fit(_seen(values))
    assert field.sizes == (2,)
    known = field.dimension > 0
    assert field.encode([[1.0, 2.0], None]).tolist() == [[int(known)], [0]]


def test_a_read_encoder_puts_every_value_where_it_was() -> None:
    vectors: list[Value] = [each.tolist() for each in _vectors()]
    field = VectorEncoder.fit(_seen(vectors))
    again = encoder_from_dict(json.loads(json.dumps(field.to_dict())))
    assert again == field
    assert np.array_equal(again.encode(vectors), field.encode(vectors))


def test_the_same_vectors_give_the_same_encoder_whichever_way_they_point() -> None:
    vectors = _vectors()
    one, other = (VectorEncoder.fit(_seen([each.tolist() for each in rows])) for rows in (vectors, vectors[::-1]))
    np.testing.assert_allclose(one.directions[:2], other.directions[:2], atol=1e-6)


def test_columns_of_several_fields_lie_side_by_side() -> None:
    fields: dict[str, FieldEncoder] = {
        "city": CategoricalEncoder(("north",)),
        "likes": ListEncoder(("jazz", "rock")),
        "age": CategoricalEncoder(("3",)),
    }
    encoding = Encoding(fields, {}, {}, ("a",), ("did",), np.zeros((3, 0), dtype=np.int64))
    assert sizes_of(fields) == (2, 6, 3, 3, 2)
    assert [each.columns for each in columns_of(fields)] == [slice(0, 1), slice(1, 4), slice(4, 5)]
    rows: list[dict[str, Value]] = [{"likes": ["rock"], "city": "north", "age": 3}, {"likes": ["polka"]}, {"city": [1]}]
    assert encoding.encode_attributes(rows).tolist() == [[1, 2, 1, 2, 1], [0, 2, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert encoding.unknown_values(rows) == {"likes": 1, "city": 1}
    assert Encoding.from_json(encoding.to_json()).to_json() == encoding.to_json()


def test_a_vector_beyond_all_others_is_unknown_and_moves_nothing() -> None:
    vectors: list[Value] = [each.tolist() for each in _vectors()]
    wild: list[Value] = [[1e308] * 20, [-1e308] * 20, [1e30, *[0.0] * 19]]
    field = VectorEncoder.fit(_seen([*wild, *vectors]))
    usual = VectorEncoder.fit(_seen(vectors))
    assert not field.encode(wild).any()
    np.testing.assert_allclose(field.directions[0], usual.directions[0], atol=1e-3)
    assert np.array_equal(field.encode(vectors)[:, :2], usual.encode(vectors)[:, :2])


def test_rows_are_encoded_alike_however_many_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors: list[Value] = [each.tolist() for each in _vectors(50)]
    field = VectorEncoder.fit(_seen(vectors))
    whole = field.encode(vectors)
    monkeypatch.setattr("models.runtime.fields.vector._AT_ONCE", 7)
    assert np.array_equal(field.encode(vectors), whole)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_zeros_for_no_vector_and_any_unit_leave_the_others_known(scale: float) -> None:
    vectors: list[Value] = [(scale * each).tolist() for each in _vectors(100)]
    nothing: list[Value] = [[0.0] * 20] * 150
    field = VectorEncoder.fit(_seen([*nothing, *vectors]))
    assert field.encode(vectors).all()
    assert abs(field.directions[0][0]) > 0.9
