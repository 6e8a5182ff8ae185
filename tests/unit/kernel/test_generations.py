"""A generation's record as text."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from features.generations.records import from_json, to_json
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.generations import Generation, check_same, slot
from foretaste.kernel.values import FloatArray

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


ZERO = record(np.zeros((1, 2), np.float32))


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=FINITE))
def test_a_record_that_was_stored_is_the_same(mean_virtual: FloatArray) -> None:
    new = replace(record(mean_virtual), metrics={"gauc": float("nan"), "auc": 0.7})
    check_same(new, from_json(to_json(new)))


@pytest.mark.parametrize(
    "other",
    [
        replace(ZERO, created_at="2026-01-02T00:00:00Z"),
        replace(ZERO, metrics={"auc": 0.71}),
        replace(ZERO, metrics={"auc": float("nan")}),
        replace(ZERO, warm_after=2),
        replace(ZERO, attributes={"age": "numeric"}),
        replace(ZERO, mean_virtual=np.array([[0.0, 1e-30]], np.float32)),
        replace(ZERO, mean_virtual=np.zeros((2, 1), np.float32)),
    ],
)
def test_another_training_is_told_apart(other: Generation) -> None:
    with pytest.raises(InvalidInput, match=r"generation: is taken by another training.*\(got 3\)"):
        check_same(other, ZERO)


def test_neighbours_never_share_a_slot_and_every_second_one_does() -> None:
    slots = [slot(generation) for generation in range(1, 20)]
    assert all(old != new for old, new in pairwise(slots))
    assert set(slots[::2]) == {"virtual_behaviour_odd"}
    assert set(slots[1::2]) == {"virtual_behaviour_even"}
