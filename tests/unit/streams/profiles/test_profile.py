"""`user-profiles`: a registration as a record and back, and what records in a row come to."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.event_order import DIGEST_BYTES, AttributesVersion, Place
from foretaste.kernel.events import Message, Origin
from streams.profiles.profile import ReadProfiles, profile_record
from tests.profile_parts import profile
from tests.stream_parts import NOW_MS

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
ATTRIBUTES = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), SCALARS, max_size=4)
PLACES = st.none() | st.builds(Place, st.just("user-registered-7"), st.integers(0, 2**40), st.integers(0, 2**42))
DIGESTS = st.lists(st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES), max_size=8).map(tuple)


def record(key: bytes | None, value: bytes | None, timestamp_ms: int = NOW_MS, partition: int = 0) -> Message:
    return Message(key, value, Origin("user-profiles", partition, 0, timestamp_ms))


@given(ATTRIBUTES, st.integers(0, 4_102_444_800_000), PLACES, DIGESTS)
def test_a_registration_comes_back_as_it_was(
    attributes: dict[str, object], at_ms: int, place: Place | None, digests: tuple[bytes, ...]
) -> None:
    version = AttributesVersion(at_ms, place, digests)
    sent = profile_record("ünï", attributes, version)  # type: ignore[arg-type]  # what hypothesis makes are scalars
    assert sent is not None
    (user,) = ReadProfiles.of([record(*sent)]).users.values()
    assert (user.user_id, user.attributes, user.attributes_version) == ("ünï", attributes, version)
    assert json.dumps(user.attributes) == json.dumps(attributes), "5 and 5.0 are two"


@pytest.mark.parametrize(("first_ms", "expected"), [(0, 0), (NOW_MS - 70_000, NOW_MS - 70_000), (NOW_MS + 5, 0)])
def test_the_first_registration_comes_back_where_it_was_earlier(first_ms: int, expected: int) -> None:
    sent = profile_record("u1", {"age": 1}, AttributesVersion(NOW_MS), first_ms)
    assert sent is not None
    (user,) = ReadProfiles.of([record(*sent)]).users.values()
    assert (user.first_ms, user.registered_ms) == (expected, expected or NOW_MS)


def test_times_that_no_date_can_tell_make_no_record_and_no_first_registration() -> None:
    beyond = 1000 * NOW_MS
    assert profile_record("u1", {"age": 1}, AttributesVersion(beyond)) is None
    sent = profile_record("u1", {"age": 1}, AttributesVersion(NOW_MS), -beyond)
    assert sent is not None
    assert json.loads(sent[1])["first_registered_at"] is None


def test_a_record_of_an_earlier_version_tells_of_no_first_registration() -> None:
    key, value = profile("u1", 20)
    older = {name: told for name, told in json.loads(value).items() if name != "first_registered_at"}
    (user,) = ReadProfiles.of([record(key, json.dumps(older).encode())]).users.values()
    assert (user.first_ms, user.registered_ms) == (0, NOW_MS)


def test_the_newest_registration_counts_wherever_it_lies() -> None:
    old, new = profile("u1", 20, NOW_MS - 1), profile("u1", 30)
    for order in ((old, new), (new, old)):
        (user,) = ReadProfiles.of([record(*each) for each in order]).users.values()
        assert user.attributes == {"age": 30}
        assert (user.attributes_ms, user.registered_ms) == (NOW_MS, NOW_MS - 1)


def test_two_records_of_one_registration_tell_all_that_came_before_it() -> None:
    """The second one tells of a registration that came late. Behind it, one without is of after an erasure."""
    own, place = b"the-own.", Place("user-registered-0", 7, NOW_MS)
    one = profile_record("u1", {"age": 1}, AttributesVersion(NOW_MS, place, (b"before..", own)))
    other = profile_record("u1", {"age": 1}, AttributesVersion(NOW_MS, place, (b"late....", own)), NOW_MS - 9)
    assert one is not None
    assert other is not None
    for order, registered_ms in (((one, other), NOW_MS - 9), ((other, one), NOW_MS)):
        (user,) = ReadProfiles.of([record(*each) for each in order]).users.values()
        assert (user.attributes_ms, user.attributes_place, user.registered_ms) == (NOW_MS, place, registered_ms)
        assert user.registrations[-1] == own
        assert set(user.registrations) == {b"before..", b"late....", own}


def test_a_null_value_ends_what_came_before_it() -> None:
    found = ReadProfiles.of([record(*profile("u1", 20)), record(*profile("u2", 20)), record(b"u1", None, 77)])
    assert list(found.users) == ["u2"]
    assert found.erased == {"u1": 77}


def test_who_registers_again_after_a_null_value_is_back_with_that_alone() -> None:
    found = ReadProfiles.of([record(*profile("u1", 20)), record(b"u1", None), record(*profile("u1", 9, NOW_MS - 5))])
    assert [user.attributes for user in found.users.values()] == [{"age": 9}]
    assert found.erased == {"u1": NOW_MS - 6}, "the erasure was before, however late its record"


@pytest.mark.parametrize("null_first", [False, True])
@pytest.mark.parametrize(("erased_ms", "left"), [(NOW_MS - 1, ["u1"]), (NOW_MS, []), (NOW_MS + 1, [])])
def test_between_partitions_the_times_tell(erased_ms: int, left: list[str], *, null_first: bool) -> None:
    records = [record(*profile("u1", 20)), record(b"u1", None, erased_ms, partition=1)]
    found = ReadProfiles.of(records[::-1] if null_first else records)
    assert (list(found.users), found.erased) == (left, {"u1": erased_ms})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"u1", b"{"),
        (b"u1", b'{"user_id": "u1"}'),
        (b"another", profile("u1", 20)[1]),
        (b"\xff", profile("u1", 20)[1]),
        (None, profile("u1", 20)[1]),
        (None, None),
    ],
)
def test_what_is_no_profile_is_counted_and_hides_no_other(key: bytes | None, value: bytes | None) -> None:
    found = ReadProfiles.of([record(key, value), record(*profile("u2", 20))])
    assert (list(found.users), found.erased, found.unreadable) == (["u2"], {}, 1)


@pytest.mark.parametrize("value", [math.nan, [[1]], {"a": 1}])
def test_attributes_that_no_sign_up_can_have_make_no_record(value: object) -> None:
    assert profile_record("u1", {"age": value}, AttributesVersion(NOW_MS)) is None  # type: ignore[dict-item]
