"""Requests to the index of a generation: items and attributes to numbers, and candidates back to items."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.values import FloatArray, IndexArray, Scalar
from models.runtime.encoding import FIRST_KNOWN, PADDING, UNKNOWN, Encoding, columns_of
from models.runtime.new_items import NewItems
from models.runtime.retrieval import ALLOW, DENY, KIND, OF_COLUMN

OF_A_KIND = 3
"""New items of one kind that a request gets at most: all of them have the same score."""
Wished = Mapping[str, Sequence[Scalar]]
_NOBODY = (-1, DENY, 0)
"""A filter of no user, of a kind that every catalogue has: a tensor of no rows is no tensor to some."""


class EncodedRequests(NamedTuple):
    """What `ServedRetrieval.run` reads of U users."""

    behaviour: IndexArray
    virtual: FloatArray
    wanted: IndexArray
    filters: IndexArray


def encode_requests(encoding: Encoding, requests: Sequence[CandidateRequest]) -> EncodedRequests:
    """The requests of U users as tensors. Raises `InvalidInput` as `attribute_filters` does."""
    acts = [each.behaviour.acts for each in requests]
    behaviour = [encoding.encode_behaviour(each.items, each.actions)[0] for each in acts]
    ages = [encoding.encode_ages([each.age_ms for each in requests])[:, None]] if encoding.age_bounds else []
    return EncodedRequests(
        np.hstack([np.stack(behaviour), *ages, encoding.encode_passed_over([each.behaviour for each in requests])]),
        encoding.virtual_of(requests),
        np.array([(each.nearest, each.popular, each.exploratory, each.seed) for each in requests], dtype=np.int64),
        np.array([_NOBODY, *_filters(encoding, requests)], dtype=np.int64),
    )


def items_of(encoding: Encoding, candidates: IndexArray, requests: Sequence[CandidateRequest]) -> list[list[str]]:
    """The items that an index answered U requests with, (U, C), without padding; the new ones for a kind of items."""
    items = encoding.items
    if not (candidates >= encoding.first_kind).any():
        return [[items[each - FIRST_KNOWN] for each in row if each != PADDING] for row in candidates.tolist()]
    found = []
    for row, request in zip(candidates.tolist(), requests, strict=True):
        wanted = _WantedNewItems.of(encoding, request, attribute_filters(encoding, request.attributes))
        named = [
            wanted.of_kind(each) if each >= encoding.first_kind else [items[each - FIRST_KNOWN]]
            for each in row
            if each != PADDING
        ]
        nearest = [item for own in named[: request.nearest] for item in own][: request.nearest]
        found.append(nearest + [item for own in named[request.nearest :] for item in own])
    return found


class _WantedNewItems(NamedTuple):
    """Which new items a request may be answered with."""

    new: NewItems
    deny: frozenset[str]
    attributes: Sequence["AttributeFilter"]
    allowed: Mapping[int, Sequence[str]] | None
    """Of an allow list, by their kind."""

    @classmethod
    def of(
        cls, encoding: Encoding, request: CandidateRequest, attributes: "Sequence[AttributeFilter]"
    ) -> "_WantedNewItems":
        found = cls(encoding.new_items, frozenset(request.deny), attributes, None)
        if request.allow is None:
            return found
        allowed: defaultdict[int, list[str]] = defaultdict(list)
        for item in request.allow:
            kind = found.new.get(item, UNKNOWN)
            if kind != UNKNOWN and found._is_wanted(item):
                allowed[kind].append(item)
        return found._replace(allowed=allowed)

    def kinds(self) -> Iterable[int]:
        """The kinds with an item that the request may be answered with."""
        if self.allowed is not None:
            return list(self.allowed)
        kinds = self.new.kinds()
        denied = {self.new.get(item, UNKNOWN) for item in self.deny}
        looked_at = kinds if self.attributes else [kind for kind in kinds if kind in denied]
        empty = {kind for kind in looked_at if not any(self._wanted_of(kind))}
        return [kind for kind in kinds if kind not in empty]

    def of_kind(self, kind: int) -> list[str]:
        """Those of a kind: of an allow list all, else `OF_A_KIND` at most, the newest first."""
        if self.allowed is not None:
            return list(self.allowed.get(kind, ()))
        return list(islice(self._wanted_of(kind), OF_A_KIND))

    def _wanted_of(self, kind: int) -> Iterator[str]:
        return (item for item in self.new.of_kind(kind) if self._is_wanted(item))

    def _is_wanted(self, item: str) -> bool:
        if item in self.deny:
            return False
        features = self.new.features(item)
        return all(each.is_met(features) for each in self.attributes)


class AttributeFilter(NamedTuple):
    """An attribute of items, and the values of which an item must have one."""

    first: int
    """Its first column of `Encoding.item_features`."""
    columns: Mapping[int, frozenset[int]]
    """`FieldEncoder.indices_of` these values."""

    def is_met(self, features: IndexArray) -> bool:
        """Whether an item with these features (F,) has one of the values; an array of one row takes 30 times longer."""
        return any(features[self.first + place] in indices for place, indices in self.columns.items())

    def are_met(self, features: IndexArray) -> npt.NDArray[np.bool_]:
        """(I,) the same of items with features (I, F)."""
        found = np.zeros(len(features), dtype=np.bool_)
        for place, indices in self.columns.items():
            found |= np.isin(features[:, self.first + place], list(indices))
        return found

    def rows(self) -> list[tuple[int, int]]:
        """Column and value of each row of `ServedRetrieval.run`'s filters; 0, which no item has, if none is known."""
        values = [place * OF_COLUMN + index for place, indices in self.columns.items() for index in indices]
        return [(self.first, value) for value in values or [0]]


def matching(encoding: Encoding, items: Sequence[str], attributes: Wished) -> list[str]:
    """Those of the items that are known and have these attributes. Raises `InvalidInput` as `attribute_filters`."""
    found, new = encoding.encode_items(items), encoding.new_items
    features = encoding.item_features[np.where(found < encoding.first_kind, found, UNKNOWN)]
    for place in np.flatnonzero(found >= encoding.first_kind).tolist():
        features[place] = new.features(items[place])
    kept = found >= FIRST_KNOWN
    for each in attribute_filters(encoding, attributes):
        kept &= each.are_met(features)
    return [item for item, keep in zip(items, kept.tolist(), strict=True) if keep]


def attribute_filters(encoding: Encoding, attributes: Wished) -> list[AttributeFilter]:
    """The attributes and values in the terms of `Encoding.item_features`.

    Raises `InvalidInput`, naming the field and the values, for an attribute that items lack or that is neither
    categorical nor a list.
    """
    names = list(encoding.item_attributes)
    firsts = {each.name: each.columns.start for each in columns_of(encoding.item_attributes)}
    found = []
    for name, values in attributes.items():
        field = f"filter.attributes.{name}"
        encoder = encoding.item_attributes.get(name)
        if encoder is None:
            known = f"they have {', '.join(names)}" if names else "they have none"
            raise InvalidInput(field, list(values), f"items have no attribute of this name; {known}")
        columns = encoder.indices_of(values)
        if columns is None:
            problem = f"expected an attribute that is categorical or a list, this one is {encoder.kind}"
            raise InvalidInput(field, list(values), problem)
        found.append(AttributeFilter(firsts[name], columns))
    return found


def _filters(encoding: Encoding, requests: Sequence[CandidateRequest]) -> list[tuple[int, int, int]]:
    rows: list[tuple[int, int, int]] = []
    for user, request in enumerate(requests):
        attributes = attribute_filters(encoding, request.attributes)
        denied = encoding.encode_items(request.deny).tolist()
        rows += [(user, DENY, item) for item in denied if item < encoding.first_kind]  # a kind stands for others too
        if len(encoding.new_items):
            wanted = _WantedNewItems.of(encoding, request, attributes)
            rows += [(user, KIND, kind) for kind in wanted.kinds()]
        if request.allow is not None:  # one that is allowed and unknown stands for an empty list
            rows += [(user, ALLOW, item) for item in [PADDING, *encoding.encode_items(request.allow).tolist()]]
        for attribute in attributes:
            rows += [(user, *row) for row in attribute.rows()]
    return rows
