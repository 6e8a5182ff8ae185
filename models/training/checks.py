"""Whether the fields of a configuration can be: each check raises `InvalidInput` naming the field and its value."""

import math
from collections.abc import Mapping

from foretaste.kernel.errors import InvalidInput


def one_of(config: object, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Each named field holds one of its choices."""
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value not in allowed:
            raise InvalidInput(name, value, f"expected one of {', '.join(allowed)}")


def at_least(config: object, least: Mapping[str, int]) -> None:
    """Each named field holds its least value or more; None, where the field allows it, stands for no bound."""
    for name, lowest in least.items():
        value = getattr(config, name)
        if value is not None and value < lowest:
            raise InvalidInput(name, value, f"must be at least {lowest}")


def shares(config: object, *names: str) -> None:
    """Each named field lies in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise InvalidInput(name, value, "must be a share, at least 0 and below 1")


def positive(config: object, *names: str) -> None:
    """Each named field is finite and above 0."""
    for name in names:
        value = getattr(config, name)
        if not (value > 0 and math.isfinite(value)):
            raise InvalidInput(name, value, "must be finite and above 0")


def rates(config: object, *names: str) -> None:
    """Each named field is finite and not negative."""
    for name in names:
        value = getattr(config, name)
        if not (value >= 0 and math.isfinite(value)):
            raise InvalidInput(name, value, "must be finite and not negative")
