"""Requests to the index of a generation: items and attributes to numbers, and candidates back to items."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.values import FloatArray, IndexArray, Scalar
from models.runtime.encoding import FIRST_KNOWN, PADDING, Encoding, columns_of
from models.runtime.fields import CategoricalEncoder
from models.runtime.retrieval import ALLOW, DENY

Wished = Mapping[str, Sequence[Scalar]]
_NOBODY = (-1, 0, 0)
"""A filter of no user: a tensor of no rows is no tensor to some."""


class EncodedRequests(NamedTuple):
    """What `ServedRetrieval.run` reads of U users."""

    behaviour: IndexArray
    virtual: FloatArray
    wanted: IndexArray
    filters: IndexArray


def encode_requests(encoding: Encoding, requests: Sequence[CandidateRequest]) -> EncodedRequests:
    """The requests of U users as tensors. Raises `InvalidInput` as `attribute_columns` does."""
    behaviour = [encoding.encode_behaviour(each.behaviour.items, each.behaviour.actions)[0] for each in requests]
    ages = [encoding.encode_ages([each.age_ms for each in requests])[:, None]] if encoding.age_bounds else []
    return EncodedRequests(
        np.hstack([np.stack(behaviour), *ages]),
        np.stack([each.virtual for each in requests]).astype(np.float32, copy=False),
        np.array([(each.nearest, each.popular, each.exploratory, each.seed) for each in requests], dtype=np.int64),
        np.array([_NOBODY, *_filters(encoding, requests)], dtype=np.int64),
    )


def items_of(encoding: Encoding, candidates: IndexArray) -> list[list[str]]:
    """The items that an index answered with (U, C), without padding."""
    items = encoding.items
    return [[items[each - FIRST_KNOWN] for each in row if each != PADDING] for row in candidates.tolist()]


def matching(encoding: Encoding, items: Sequence[str], attributes: Wished) -> list[str]:
    """Those of the items that are known and have these attributes. Raises `InvalidInput` as `attribute_columns`."""
    columns = attribute_columns(encoding, attributes)
    found = encoding.encode_items(items)
    kept = found >= FIRST_KNOWN
    for column, values in columns.items():
        kept &= np.isin(encoding.item_features[found, column], [value for value in values if value])
    return [item for item, keep in zip(items, kept.tolist(), strict=True) if keep]


def attribute_columns(encoding: Encoding, attributes: Wished) -> dict[int, list[int]]:
    """By column of `Encoding.item_features`, the indices of the values that are wished for; 0 for an unknown one.

    Raises `InvalidInput`, naming the field and the values, for an attribute that items lack or that is not categorical.
    """
    names = list(encoding.item_attributes)
    columns = {each.name: each.columns.start for each in columns_of(encoding.item_attributes)}
    found = {}
    for name, values in attributes.items():
        field = f"filter.attributes.{name}"
        encoder = encoding.item_attributes.get(name)
        if encoder is None:
            known = f"they have {', '.join(names)}" if names else "they have none"
            raise InvalidInput(field, list(values), f"items have no attribute of this name; {known}")
        if not isinstance(encoder, CategoricalEncoder):
            raise InvalidInput(field, list(values), f"expected a categorical attribute, this one is {encoder.kind}")
        found[columns[name]] = encoder.encode(values)[:, 0].tolist()
    return found


def _filters(encoding: Encoding, requests: Sequence[CandidateRequest]) -> list[tuple[int, int, int]]:
    rows: list[tuple[int, int, int]] = []
    for user, request in enumerate(requests):
        rows += [(user, DENY, item) for item in encoding.encode_items(request.deny).tolist()]
        if request.allow is not None:  # one that is allowed and unknown stands for an empty list
            rows += [(user, ALLOW, item) for item in [PADDING, *encoding.encode_items(request.allow).tolist()]]
        for column, values in attribute_columns(encoding, request.attributes).items():
            rows += [(user, column, value) for value in values or [0]]
    return rows
