"""Many values at once are encoded as each by itself, by the texts and numbers that they stand for."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.values import Scalar, canonical, number
from models.runtime.fields import CategoricalEncoder, NumericEncoder
from models.runtime.fields.base import FIELD_UNKNOWN

NUMERIC = NumericEncoder((0.0, 1.0, 25.5, 2.0**60))
CATEGORICAL = CategoricalEncoder(("25", "true", "TRUE", "north", "0", "1", "1.50"))
numbers = st.integers() | st.integers(10**400, 10**401) | st.floats()
scalars: st.SearchStrategy[Scalar] = (
    numbers | st.none() | st.booleans() | st.sampled_from(["25", "25.0", "TRUE", "north", "1", "1.50", "nan", "", "x"])
)


@given(st.lists(numbers) | st.lists(scalars))
def test_numbers_fall_into_the_bins_of_what_they_stand_for(values: Sequence[Scalar]) -> None:
    expected = []
    for value in values:
        stands_for = number(value)
        bin_of = int(np.searchsorted(np.array(NUMERIC.edges), stands_for, side="right")) + 1
        expected.append(FIELD_UNKNOWN if np.isnan(stands_for) else bin_of)
    assert NUMERIC.encode(values).ravel().tolist() == expected


@given(st.lists(scalars))
def test_texts_are_found_by_their_canonical_form(values: Sequence[Scalar]) -> None:
    index = {"25": 1, "true": 2, "north": 4, "0": 5, "1": 6, "1.50": 7}
    assert CATEGORICAL.encode(values).ravel().tolist() == [index.get(canonical(each) or "", 0) for each in values]
