"""A generation's record as text, and what a number that was taken stands for."""

import json
from dataclasses import asdict

import numpy as np

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.generations import Generation, slot, use_of


def to_json(generation: Generation) -> str:
    """A record's stored form: its fields, `mean_virtual` as M lists of D numbers.

    A metric may be nan: there was nobody to measure.
    """
    return json.dumps(asdict(generation) | {"mean_virtual": generation.mean_virtual.tolist()})


def from_json(text: str | bytes) -> Generation:
    """The record that `to_json` wrote; fields of a later version are ignored."""
    stored = json.loads(text)
    return Generation(
        number=stored["number"],
        warm_after=stored["warm_after"],
        attributes=stored["attributes"],
        context=stored["context"],
        mean_virtual=np.array(stored["mean_virtual"], dtype=np.float32),
        created_at=stored["created_at"],
        metrics=stored["metrics"],
        profile=stored.get("profile", ""),
    )


def check_slot(number: int, active: int | None) -> None:
    """Raises `InvalidInput` where filling `number` would write over what readers of the active generation read."""
    if active is not None and number != active and slot(number) == slot(active):
        raise InvalidInput("generation", number, f"shares its slot with the active generation {active}")


def check_idle(number: int, active: int | None, filling: int | None, previous: int | None) -> None:
    """Raises `InvalidInput` where a generation is in use."""
    use = use_of(number, active, filling, previous)
    if use is not None:
        raise InvalidInput("generation", number, f"is {use}")
