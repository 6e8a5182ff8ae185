"""Raw values to indices: one value however it is written, unknown ones never an error, and JSON that loses nothing."""

import ast
import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.kernel.values import MAX_BEHAVIOUR, Attributes, canonical, number
from models.generations.repository import CODE
from models.runtime.encoding import FIELD_UNKNOWN, PADDING, UNKNOWN, Encoding, sizes_of
from models.runtime.fields import CategoricalEncoder, NumericEncoder

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
EDGES = st.lists(st.floats(allow_nan=False, allow_infinity=False), unique=True).map(sorted).map(tuple)
FIELDS = st.dictionaries(
    st.text(),
    st.builds(NumericEncoder, EDGES) | st.builds(CategoricalEncoder, st.lists(st.text(), unique=True).map(tuple)),
)


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    items = tuple(draw(st.lists(st.text(), unique=True, max_size=6)))
    item_attributes = draw(FIELDS)
    sizes = sizes_of(item_attributes)
    features = np.zeros((len(items) + 2, len(sizes)), dtype=np.int64)
    for row in range(2, len(features)):
        features[row] = [draw(st.integers(0, size - 1)) for size in sizes]
    actions = tuple(draw(st.lists(st.text(), unique=True, max_size=4)))
    return Encoding(draw(FIELDS), draw(FIELDS), item_attributes, items, actions, features)


@pytest.fixture
def encoding() -> Encoding:
    return Encoding(
        attributes={"segment": CategoricalEncoder(("cook", "25", "true")), "age": NumericEncoder((20.0, 30.0))},
        context={},
        item_attributes={},
        items=("a", "b", "c"),
        actions=("clicked",),
        item_features=np.zeros((5, 0), dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([25, 25.0, "25", "25.0"], "25"),
        ([-3, -3.0, "-3", "-3.0"], "-3"),
        ([True, "true", "True"], "true"),
        ([False, "false", "False"], "false"),
        ([0, 0.0, -0.0], "0"),
        ([0.5, "0.5"], "0.5"),
        ([None, math.nan, ""], None),
        (["02139"], "02139"),
        (["v.0"], "v.0"),
        ([1e300], "1e+300"),
    ],
)
def test_one_value_has_one_text_however_it_is_written(values: list[Any], text: str | None) -> None:
    assert [canonical(value) for value in values] == [text] * len(values)


def test_zip_codes_that_differ_by_a_leading_zero_stay_two_values() -> None:
    assert canonical("02139") != canonical(2139)


@pytest.mark.parametrize(
    "value",
    [10**5000, -(10**5000), "9" * 5000, math.inf, -math.inf, [], {"a": 1}, b"x"],
    ids=["huge", "-huge", "long", "inf", "-inf", "list", "object", "bytes"],
)
def test_hostile_values_are_encoded_without_an_error(encoding: Encoding, value: Any) -> None:
    encoded = encoding.encode_attributes([{"segment": value, "age": value}])
    assert encoded.tolist() == [[FIELD_UNKNOWN, FIELD_UNKNOWN]]


@settings(deadline=None, max_examples=50)
@given(st.lists(SCALARS), EDGES)
def test_every_scalar_gets_an_index_within_the_table(values: list[Any], edges: tuple[float, ...]) -> None:
    for field in (NumericEncoder(edges), CategoricalEncoder(("a", "1", "true"))):
        encoded = field.encode(values)
        assert encoded.dtype == np.int64
        assert encoded.shape == (len(values), 1)
        assert ((encoded >= 0) & (encoded < field.sizes)).all()


@settings(deadline=None, max_examples=50)
@given(st.floats(allow_nan=False, allow_infinity=False), EDGES)
def test_a_number_lies_in_the_bin_between_its_edges(value: float, edges: tuple[float, ...]) -> None:
    ((index,),) = NumericEncoder(edges).encode([value])
    assert index == 1 + sum(edge <= value for edge in edges)


@pytest.mark.parametrize("value", [None, "", "old", math.nan, math.inf, "nan", "inf"])
def test_what_is_no_finite_number_is_unknown_to_a_numeric_field(value: Any) -> None:
    assert math.isnan(number(value))
    assert NumericEncoder((1.0,)).encode([value]).tolist() == [[FIELD_UNKNOWN]]


def test_numbers_written_as_text_are_numbers() -> None:
    assert NumericEncoder((20.0, 30.0)).encode(["19", 20, "25.5", 30.0, True]).ravel().tolist() == [1, 2, 2, 3, 1]


def test_attributes_keep_the_order_of_the_fields_and_ignore_strangers(encoding: Encoding) -> None:
    rows: list[dict[str, Any]] = [{"age": 99, "segment": 25.0, "shoe": 43}, {"segment": "never seen"}, {}]
    assert encoding.encode_attributes(rows).tolist() == [[2, 3], [0, 0], [0, 0]]


def test_no_rows_and_no_fields_keep_their_shapes(encoding: Encoding) -> None:
    assert encoding.encode_attributes([]).shape == (0, 2)
    assert encoding.encode_context([{}, {}]).shape == (2, 0)
    assert encoding.encode_items([]).shape == (0,)


def test_known_items_count_from_two_and_unknown_ones_are_one(encoding: Encoding) -> None:
    assert encoding.encode_items(["a", "zzz", "c"]).tolist() == [2, UNKNOWN, 4]
    assert encoding.item_count == 5
    assert encoding.action_count == 3


def test_behaviour_is_left_aligned_with_the_newest_last_of_the_valid_part(encoding: Encoding) -> None:
    items, actions = encoding.encode_behaviour(["a", "zzz", "c"], ["clicked", "clicked", "stared"])
    assert items[:4].tolist() == [2, UNKNOWN, 4, PADDING]
    assert actions[:4].tolist() == [2, 2, UNKNOWN, PADDING]
    assert items.shape == actions.shape == (MAX_BEHAVIOUR,)


def test_of_a_long_behaviour_the_newest_hundred_remain(encoding: Encoding) -> None:
    items, _ = encoding.encode_behaviour(["a"] * 5 + ["b"] * 99 + ["c"], ["clicked"] * 105)
    assert items.tolist() == [3] * 99 + [4]


def test_an_empty_behaviour_is_all_padding(encoding: Encoding) -> None:
    items, actions = encoding.encode_behaviour([], [])
    assert not items.any()
    assert not actions.any()


@settings(deadline=None, max_examples=50)
@given(encodings(), st.lists(st.dictionaries(st.text(), SCALARS)))
def test_json_gives_the_same_encoding_back(encoding: Encoding, rows: list[dict[str, Any]]) -> None:
    text = encoding.to_json()
    again = Encoding.from_json(text)
    assert again.to_json() == text
    assert list(again.attributes) == list(encoding.attributes)
    assert np.array_equal(again.item_features, encoding.item_features)
    assert np.array_equal(again.encode_attributes(rows), encoding.encode_attributes(rows))
    assert np.array_equal(again.encode_items(encoding.items), encoding.encode_items(encoding.items))


TRAVELLING = {
    package if name == "__init__.py" else f"{package}.{name.removesuffix('.py')}": package
    for package, names in CODE.items()
    for name in names
}
"""Every module that is copied beside a version in Triton."""


@pytest.mark.parametrize("module", TRAVELLING)
def test_what_travels_to_triton_needs_only_numpy_and_an_old_python(module: str) -> None:
    path = Path(str(importlib.import_module(module).__file__))
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in imported - TRAVELLING.keys()}
    assert roots - {"numpy", *(["onnxruntime"] if module == "models.runtime.towers" else [])} <= sys.stdlib_module_names


@pytest.mark.parametrize("items", [(), ("a", "b")])
def test_items_without_attributes_come_back_from_json_with_a_row_each(items: tuple[str, ...]) -> None:
    features = np.zeros((len(items) + 2, 0), dtype=np.int64)
    kept = Encoding({}, {}, {}, items, (), features)
    back = Encoding.from_json(kept.to_json())
    assert back.item_features.shape == features.shape
    assert back.item_features.dtype == np.int64


def test_values_that_training_never_saw_are_told_from_missing_ones() -> None:
    encoding = Encoding(
        {"gender": CategoricalEncoder(("f", "m")), "city": CategoricalEncoder(("north",))},
        {},
        {},
        (),
        (),
        np.zeros((2, 0), np.int64),
    )
    rows: list[Attributes] = [
        {"gender": "F", "city": None},
        {"gender": "f", "city": "south"},
        {"gender": "", "town": "x"},
        {},
    ]
    assert encoding.unknown_values(rows) == {"gender": 1, "city": 1}
    assert encoding.unknown_values(rows, encoding.encode_attributes(rows)) == {"gender": 1, "city": 1}
    assert encoding.unknown_values([{"gender": "m"}]) == {}
    assert encoding.unknown_values([]) == {}
