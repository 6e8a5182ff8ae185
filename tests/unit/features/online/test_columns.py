"""Lists of a behaviour that grow as they are stored: to the byte what Feast's own message would be."""

from collections.abc import Sequence

import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types
from hypothesis import given
from hypothesis import strategies as st

from features.feast_api import Int64List, StringList, Value
from features.online.columns import (
    StoredTexts,
    StoredTimes,
    read_texts,
    read_times,
    text_raw,
    texts_elements,
    texts_raw,
    times_elements,
    times_raw,
)

TEXTS = st.lists(st.text(max_size=200), min_size=1, max_size=12)
TIMES = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=12)


def feasts_texts(texts: Sequence[str]) -> bytes:
    return bytes(Value(string_list_val=StringList(val=texts)).SerializeToString())


def feasts_times(times: Sequence[int]) -> bytes:
    return bytes(Value(int64_list_val=Int64List(val=times)).SerializeToString())


@given(TEXTS, TEXTS, st.integers(1, 12))
def test_texts_that_grow_are_feasts_own_list(stored: list[str], more: list[str], keep: int) -> None:
    column, expected = read_texts(feasts_texts(stored)), tuple(stored)
    assert isinstance(column, StoredTexts)
    for each in more:
        column = column.grown(each, keep) if isinstance(column, StoredTexts) else (*column, each)[-keep:]
        expected = (*expected, each)[-keep:]
        assert (len(column), column[-1], column) == (len(expected), expected[-1], expected)
        assert texts_raw(column) == feasts_texts(expected)


@given(TIMES, TIMES, st.integers(1, 12))
def test_times_that_grow_are_feasts_own_list(stored: list[int], more: list[int], keep: int) -> None:
    column, expected = read_times(feasts_times(stored)), tuple(stored)
    assert isinstance(column, StoredTimes)
    for each in more:
        column = column.grown(each, keep) if isinstance(column, StoredTimes) else (*column, each)[-keep:]
        expected = (*expected, each)[-keep:]
        assert (len(column), column[-1], column) == (len(expected), expected[-1], expected)
        assert times_raw(column) == feasts_times(expected)


def test_a_column_that_grew_leaves_the_one_before_as_it_was() -> None:
    before = read_texts(feasts_texts(["a", "b"]))
    assert isinstance(before, StoredTexts)
    after = before.grown("c", 2)
    assert (list(before), list(after), before[0], after[:1]) == (["a", "b"], ["b", "c"], "a", ("b",))
    assert "b" in before
    assert before != ("a",)
    assert before != 1
    assert before == ("a", "b")


@pytest.mark.parametrize("length", [127, 128, 16383, 16384, 70000])
def test_a_long_list_is_feasts_own(length: int) -> None:
    column = read_texts(feasts_texts(["x" * length]))
    assert isinstance(column, StoredTexts)
    assert texts_raw(column.grown("y", 100)) == feasts_texts(["x" * length, "y"])


def test_an_empty_list_is_feasts_own() -> None:
    assert texts_raw(()) == feasts_texts([])
    assert times_raw([]) == feasts_times([])
    assert [*read_texts(feasts_texts([])), *read_times(feasts_times([])), *read_texts(b"")] == []


def test_a_list_that_another_writer_laid_down_otherwise_is_read() -> None:
    parts = feasts_texts(["a"]) + feasts_texts(["b"])
    assert tuple(read_texts(parts)) == ("a", "b")
    tag = feasts_times([0])[:1]
    apart = tag + b"\x04" + b"\x08\x01\x08\x02"  # numbers that are not packed
    assert tuple(read_times(apart)) == (1, 2)
    unknown = feasts_texts(["a"])[:1] + b"\x05" + b"\x10\x07" + feasts_texts(["a"])[2:]  # a field of a later version
    assert tuple(read_texts(unknown)) == ("a",)


@pytest.mark.parametrize("raw", [b"\xff", feasts_texts(["ab"])[:-1], feasts_times([1])], ids=["rubbish", "cut", "kind"])
def test_what_is_no_list_of_texts_is_refused(raw: bytes) -> None:
    with pytest.raises((DecodeError, ValueError)):
        read_texts(raw)


def test_text_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises((DecodeError, ValueError)):
        read_texts(feasts_texts(["ab"]).replace(b"ab", b"\xff\xff"))


@pytest.mark.parametrize("at_ms", [0, 2**35 - 1, 2**35, 1_767_225_600_123, 2**42 - 1, 2**42])
def test_a_time_of_any_length_is_feasts_own(at_ms: int) -> None:
    column = read_times(feasts_times([1]))
    assert isinstance(column, StoredTimes)
    assert times_raw(column.grown(at_ms, 100)) == feasts_times([1, at_ms])
    assert feasts_times([at_ms, 7]).endswith(times_elements([at_ms, 7]))


@given(st.text(max_size=300))
def test_a_text_is_feasts_own(text: str) -> None:
    assert text_raw(text.encode()) == Value(string_val=text).SerializeToString()
    assert feasts_texts(["a", text]).endswith(texts_elements(["a", text]))
