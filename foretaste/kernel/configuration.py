"""Configurations: frozen pydantic dataclasses with their bounds as types, refused by `InvalidInput`.

    @raises_invalid_input
    @dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
    class GateConfig:
        least_users: PositiveInt = 20

`dataclass` is that of `pydantic.dataclasses`, so `dataclasses.replace`, `fields` and `asdict` work on them.
"""

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from foretaste.kernel.errors import InvalidInput

T = TypeVar("T")

NO_OTHER_FIELDS = ConfigDict(extra="forbid")
"""An argument that is no field is refused, as a plain dataclass refuses it."""

PositiveFloat: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Finite and above 0."""
NonNegativeFloat: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Finite and not negative."""
ShareBelowOne: TypeAlias = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
"""At least 0 and below 1."""
UnitShare: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Between 0 and 1, both among them."""


def raises_invalid_input(configuration: type[T]) -> type[T]:
    """A pydantic dataclass whose constructor raises `InvalidInput` in place of pydantic's `ValidationError`."""
    validated: Callable[..., None] = configuration.__init__

    @wraps(validated)
    def construct(self: T, *arguments: Any, **fields: Any) -> None:
        try:
            validated(self, *arguments, **fields)
        except ValidationError as error:
            raise invalid_input(error) from error

    configuration.__init__ = construct  # type: ignore[assignment]  # mypy takes it for object's
    return configuration


def invalid_input(error: ValidationError, within: str = "") -> InvalidInput:
    """The first problem that pydantic found, by the path of its field; `within` names what the path begins in."""
    first = error.errors(include_url=False)[0]
    path = [within, *map(str, first["loc"])]
    return InvalidInput(".".join(filter(None, path)), first["input"], first["msg"])
