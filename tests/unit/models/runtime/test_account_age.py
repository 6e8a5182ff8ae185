"""How long a user has been one, as a bin: in training, and of a request."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from foretaste.kernel.ranking import EARLY_MS, RankingInput, account_age_ms
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import MAX_BEHAVIOUR
from models.runtime.account_age import BOUNDS_MS, NEVER_REGISTERED, UNKNOWN_AGE, age_bins, bins_of_ages
from models.runtime.encoding import Encoding

AT = 1_767_225_600_000
BOUNDS = (0, 1_000, 60_000)
NOTHING_KNOWN = Encoding({}, {}, {}, ("a",), ("did",), np.zeros((3, 0), dtype=np.int64))
READS_AGE = replace(NOTHING_KNOWN, age_bounds=BOUNDS)


def request(age_ms: int | None) -> RankingInput:
    return RankingInput({}, {}, Behaviour(["a"], ["did"], [1]), np.zeros((2, 3), np.float32), ["a"], age_ms)


def test_the_bounds_rise_from_zero() -> None:
    assert BOUNDS_MS[0] == 0
    assert all(one < other for one, other in pairwise(BOUNDS_MS))


@pytest.mark.parametrize(
    ("age_ms", "expected"),
    [(None, UNKNOWN_AGE), (0, 1), (999, 1), (1_000, 2), (59_999, 2), (60_000, 3), (10**15, 3), (-1, UNKNOWN_AGE)],
)
def test_an_age_is_in_the_bin_that_begins_at_or_before_it(age_ms: int | None, expected: int) -> None:
    assert bins_of_ages([age_ms], BOUNDS).tolist() == [expected]


@pytest.mark.parametrize(
    ("registered_ms", "age_ms", "expected"),
    [
        (AT - 60_000, 60_000, 3),
        (AT, 0, 1),
        (AT + EARLY_MS, 0, 1),
        (AT + EARLY_MS + 1, None, UNKNOWN_AGE),
    ],
)
def test_training_and_serving_tell_an_age_alike(registered_ms: int, age_ms: int | None, expected: int) -> None:
    assert account_age_ms(registered_ms, AT) == age_ms
    assert bins_of_ages([age_ms], BOUNDS).tolist() == age_bins([registered_ms], [AT], BOUNDS).tolist() == [expected]


def test_who_never_registered_has_no_age() -> None:
    assert account_age_ms(None, AT) is None
    assert age_bins([NEVER_REGISTERED, 0], [AT, AT], BOUNDS).tolist() == [UNKNOWN_AGE, 3]


def test_without_bounds_every_age_is_unknown() -> None:
    assert age_bins([AT - 5], [AT], ()).tolist() == [UNKNOWN_AGE]


def test_the_bin_of_age_is_the_last_column_of_a_user_and_only_where_it_is_read() -> None:
    asked = [request(age) for age in (None, 0, 70_000)]
    without, read = NOTHING_KNOWN.encode_users(asked), READS_AGE.encode_users(asked)
    assert without.shape == (3, 2 * MAX_BEHAVIOUR)
    assert np.array_equal(read[:, :-1], without)
    assert read[:, -1].tolist() == [UNKNOWN_AGE, 1, 3]


def test_the_bounds_are_kept_with_the_vocabulary_and_an_earlier_one_has_none() -> None:
    assert Encoding.from_json(READS_AGE.to_json()).age_bounds == BOUNDS
    assert "age_bounds" not in NOTHING_KNOWN.to_json()
    assert Encoding.from_json(NOTHING_KNOWN.to_json()).age_bounds == ()
