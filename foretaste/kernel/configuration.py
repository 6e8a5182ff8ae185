"""Configurations: frozen pydantic dataclasses with their bounds as types, refused by `InvalidInput`.

    @raises_invalid_input
    @dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
    class GateConfig:
        least_users: PositiveInt = 20

`dataclass` is that of `pydantic.dataclasses`, so `dataclasses.replace`, `fields` and `asdict` work on them.

And addresses and names as settings give them: whether they have the right form and what of them may be shown, and which
object a name stands for: an entry of a table, or an import path of one's own, "package.module:name".
"""

import pkgutil
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

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


_FORMS = {
    "kafka": "host:port[,host:port]",
    "redis": "redis://[[user]:password@]host[:port][/db], or rediss:// for TLS",
    "triton": "host:port, or in-process",
    "url": "http://host[:port] or https://host[:port]",
}
_SCHEMES = {"redis": ("redis", "rediss"), "url": ("http", "https")}


def wrong_address(name: str, address: str | None) -> str | None:
    """What is wrong with the form of an address; it is not repeated, since it may hold a password."""
    if address is None or (name == "triton" and address == "in-process"):
        return None
    expected = _FORMS[name]
    for each in address.split(",") if name == "kafka" else [address]:
        try:
            parts = urlsplit(each.strip() if "://" in expected else f"//{each.strip()}")
            port, host = parts.port, parts.hostname
        except ValueError:
            return f"expected {expected}, its port a number up to 65535 and its password percent-encoded"
        has_scheme = "://" not in expected or parts.scheme in _SCHEMES[name]
        if not has_scheme or not host or ("://" not in expected and (port is None or "@" in each or parts.path)):
            return f"expected {expected}"
    return None


def without_secrets(address: str) -> str:
    """Without a user's name, a password and a query, whether or not it can be parsed."""
    scheme, mark, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if mark else address


def resolve(field: str, name: str, known: Mapping[str, str]) -> Any:
    """The object at the import path that `known` gives for a name, or that the name itself is.

    Nothing is imported before it is asked for. Raises `InvalidInput` naming `field` where the name is neither, or where
    the path leads nowhere.
    """
    path = known.get(name, name)
    expected = f'expected one of {", ".join(known)}, or an import path of your own, "package.module:name"'
    if not path.partition(":")[2]:  # to pkgutil a module alone is a path too
        raise InvalidInput(field, name, expected)
    try:
        return pkgutil.resolve_name(path)
    except ValueError as error:
        raise InvalidInput(field, name, expected) from error
    except (ImportError, AttributeError) as error:
        raise InvalidInput(field, name, f"cannot be imported: {error}") from error
