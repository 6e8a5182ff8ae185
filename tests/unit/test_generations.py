"""A generation's record as text."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from features.generations import from_json, to_json
from foretaste.contracts import FloatArray, Generation

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def record(mean_virtual: FloatArray) -> Generation:
    return Generation(3, 1, {"age": "categorical"}, {}, mean_virtual, "2026-01-01T00:00:00Z", {"auc": 0.7})


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=FINITE))
def test_the_mean_virtual_behaviour_survives_bit_for_bit(mean_virtual: FloatArray) -> None:
    read = from_json(to_json(record(mean_virtual)))
    assert read.mean_virtual.dtype == np.float32
    assert read.mean_virtual.tobytes() == mean_virtual.tobytes()


def test_fields_of_a_later_version_are_ignored() -> None:
    written = json.loads(to_json(record(np.zeros((1, 2), np.float32)))) | {"later": [1]}
    assert from_json(json.dumps(written)).number == 3
