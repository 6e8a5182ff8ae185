"""The fields beside Feast's that tell which events a user's rows are made from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.feast_api import Int64List, StringList, Value
from features.online.applied_view import AppliedRow
from features.online.columns import time_of
from features.online.event_marks import applied_of, behaved, digests_text, place_text, registered, registration_of
from features.online.layout import behaviour_row
from foretaste.kernel.event_order import AppliedEvents, Place
from foretaste.kernel.users import BehavedUser, Behaviour, UserFeatures

OTHER_KIND = Value(int64_list_val=Int64List(val=[1])).SerializeToString()
PLACE = Place("prefix.user-registered-3", 17, 1_700_000_000_000)


def mark(place: Place | None, *digests: bytes) -> bytes:
    return (place_text(place) or b"- 0 0") + digests_text(digests)


@pytest.mark.parametrize("place", [PLACE, Place("r-0", 0, -1), None])
def test_a_registration_is_read_back(place: Place | None) -> None:
    digests = (b"\x00" * 8, b"\xff 12345\n")
    assert registration_of(mark(place, *digests)) == (place, digests)


@given(st.binary(max_size=60))
def test_rubbish_is_no_registration_and_nothing_applied_and_raises_nothing(raw: bytes) -> None:
    registration_of(raw)
    assert len(applied_of(raw).digests) % 8 == 0


def test_damaged_attributes_have_no_registration() -> None:
    damaged = UserFeatures("u1", damaged=("user_attributes",))
    assert registered(damaged, mark(PLACE, b"12345678"), time_of(5_000_000)) is damaged
    assert registered(UserFeatures("u1"), None, None) == UserFeatures("u1")
    assert registered(UserFeatures("u1"), mark(PLACE), None).attributes_place == PLACE


def test_a_first_registration_is_told_where_it_was_before_that_of_the_attributes() -> None:
    read = UserFeatures("u1", {"age": 1}, attributes_ms=5)
    assert (registered(read, None, None).first_ms, registered(read, None, None).registered_ms) == (0, 5)
    assert registered(read, None, time_of(3_000_000)).registered_ms == 3
    assert registered(read, mark(PLACE), time_of(3_000_000)).attributes_place == PLACE
    for no_earlier in (time_of(5_000_000), time_of(9_000_000), b"\xff\xff"):
        assert registered(read, mark(PLACE), no_earlier).first_ms == 0


def test_to_a_behaviour_that_cannot_be_read_nothing_was_applied() -> None:
    row = behaviour_row(b"key", BehavedUser("u1", Behaviour(["a"], ["x"], [5]), 2, 7))
    values = [*row.fields[1::2], time_of(row.nanos)]
    read = behaved("u1", values, b"x" * 8 + b"cut")
    assert (list(read.behaviour.items), read.behaviour_version, list(read.applied)) == (["a"], 3, [b"x" * 8])
    values[0] = b"\xff\xff"
    damaged = behaved("u1", values, b"x" * 8)
    assert (damaged.damaged, damaged.behaviour_version, list(damaged.applied)) == (("user_behaviour",), 3, [])


def view_row(digests: list[str], fresh: int, version: int) -> list[bytes]:
    values = (Value(string_list_val=StringList(val=digests)), Value(int64_val=fresh), Value(int64_val=version))
    return [*(value.SerializeToString() for value in values), time_of(9_000)]


def test_what_was_applied_by_a_write_that_did_not_come_to_its_behaviour_does_not_count() -> None:
    row = view_row([(b"%08d" % number).hex() for number in range(5)], 2, 7)
    assert AppliedRow.of(row, 7) == AppliedRow(AppliedEvents(b"".join(b"%08d" % number for number in range(5))), 9)
    before = AppliedEvents(b"".join(b"%08d" % number for number in range(3)))
    assert AppliedRow.of(row, 6) == AppliedRow(before, 9, is_ahead=True)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param([None, None, None, None], id="never written"),
        pytest.param(view_row(["no hexadecimal"], 0, 1), id="no hexadecimal"),
        pytest.param([b"\xff\xff"] * 4, id="no messages"),
        pytest.param(
            [Value(int64_list_val=Int64List(val=[1])).SerializeToString(), None, None, None], id="another kind"
        ),
    ],
)
def test_rubbish_in_the_view_counts_as_nothing_applied(row: list[bytes | None]) -> None:
    assert AppliedRow.of(row, 1).applied == AppliedEvents()
