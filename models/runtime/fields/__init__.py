"""The kinds of attribute, one file each: how raw values are fitted, encoded, grown, tried out and summed up.

A new kind is a class with the methods of `FieldEncoder` in a file of its own here, and its line in `KINDS`.
"""

from collections.abc import Mapping
from typing import Any

from models.runtime.fields.base import FieldEncoder, FieldShares, FieldValues
from models.runtime.fields.categorical import CategoricalEncoder
from models.runtime.fields.list_of_values import ListEncoder
from models.runtime.fields.numeric import NumericEncoder
from models.runtime.fields.vector import VectorEncoder

__all__ = [
    "KINDS",
    "CategoricalEncoder",
    "FieldEncoder",
    "FieldShares",
    "FieldValues",
    "ListEncoder",
    "NumericEncoder",
    "VectorEncoder",
    "encoder_from_dict",
]

KINDS: Mapping[str, type[FieldEncoder]] = {
    kind.kind: kind for kind in (CategoricalEncoder, NumericEncoder, ListEncoder, VectorEncoder)
}
"""By the name that `dataset.yaml` and the files of a generation give it."""


def encoder_from_dict(stored: Mapping[str, Any]) -> FieldEncoder:
    """The field that `FieldEncoder.to_dict` made JSON of. Raises `KeyError` for a kind that is none of `KINDS`."""
    return KINDS[stored["kind"]].from_dict(stored)
