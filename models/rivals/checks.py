"""Whether the hyperparameters of a rival can be."""

import math

from foretaste.kernel.errors import InvalidInput


def positive(method: object, *names: str) -> None:
    """Each named field is finite and above 0. Raises `InvalidInput` naming the field and its value."""
    for name in names:
        value = getattr(method, name)
        if not (value > 0 and math.isfinite(value)):
            raise InvalidInput(name, value, "must be finite and positive")
