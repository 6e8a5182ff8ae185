"""Configurations whose bounds are types, and names that stand for an object."""

import math
import pickle
from dataclasses import asdict, field, replace

import pydantic.dataclasses
import pytest
from pydantic import PositiveInt

from foretaste.kernel.configuration import (
    NO_OTHER_FIELDS,
    NonNegativeFloat,
    PositiveFloat,
    ShareBelowOne,
    UnitShare,
    raises_invalid_input,
    resolve,
)
from foretaste.kernel.errors import InvalidInput


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class Inner:
    rate: PositiveFloat = 0.5


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class Outer:
    inner: Inner = field(default_factory=Inner)
    weight: NonNegativeFloat = 0.0
    dropout: ShareBelowOne = 0.1
    share: UnitShare = 1.0
    batch: PositiveInt = 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", -0.1),
        ("weight", math.nan),
        ("weight", math.inf),
        ("dropout", 1.0),
        ("dropout", math.nan),
        ("share", 1.1),
        ("batch", 0),
        ("batch", "many"),
        ("unheard", 1),
    ],
)
def test_what_cannot_be_is_refused_by_field_and_value(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}: ") as raised:
        Outer(**{name: value})  # type: ignore[arg-type]
    assert raised.value.field == name
    assert raised.value.value is value


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_replacing_a_field_is_checked_too(value: float) -> None:
    with pytest.raises(InvalidInput, match=r"^rate: "):
        replace(Inner(), rate=value)
    assert replace(Outer(), inner=Inner(2.0)).inner.rate == 2.0


def test_within_another_the_path_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"^inner\.rate: "):
        Outer(inner={"rate": 0.0})  # type: ignore[arg-type]


def test_it_is_a_dataclass_like_others() -> None:
    assert asdict(Outer()) == {"inner": {"rate": 0.5}, "weight": 0.0, "dropout": 0.1, "share": 1.0, "batch": 2}
    assert repr(Inner()) == "Inner(rate=0.5)"
    assert pickle.loads(pickle.dumps(Outer())) == Outer()  # noqa: S301  # our own
    assert hash(Outer()) == hash(Outer())


KNOWN = {"root": "math:sqrt", "gone": "math:nothing"}


def test_a_name_or_an_import_path_is_resolved() -> None:
    assert resolve("how", "root", KNOWN) is math.sqrt
    assert resolve("how", "math:floor", KNOWN) is math.floor


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "expected one of root, gone"),
        ("roots", "expected one of root, gone"),
        ("math", "expected one of root, gone"),
        ("math:", "expected one of root, gone"),
        (":sqrt", "expected one of root, gone"),
        ("math:no name", "expected one of root, gone"),
        (".math:sqrt", "expected one of root, gone"),
        ("gone", "cannot be imported: .*nothing"),
        ("nowhere:at_all", "cannot be imported: No module named 'nowhere'"),
    ],
)
def test_what_stands_for_nothing_is_refused_by_field_and_name(name: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=f"^how: {problem}") as raised:
        resolve("how", name, KNOWN)
    assert raised.value.value == name
