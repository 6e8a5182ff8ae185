"""The Retrieval port in memory, for tests and for trying a way without towers."""

from collections.abc import Mapping, Sequence

import numpy as np

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.values import Attributes, Scalar, canonical, texts_of


class InMemoryRetrieval:
    """Items with their attributes: the first is the nearest to everybody, the last the most popular.

    While `outage` is set, asking for candidates raises it.
    """

    def __init__(self, items: Mapping[str, Attributes]) -> None:
        self.items = dict(items)
        self.outage: Unavailable | None = None
        self.asked: list[tuple[CandidateRequest, int]] = []
        """Each request with its generation."""
        self.calls = 0

    async def candidates(self, requests: Sequence[CandidateRequest], generation: int) -> list[list[str]]:
        self.calls += 1
        self.asked += [(request, generation) for request in requests]
        if self.outage is not None:
            raise self.outage
        for request in requests:
            self._check(request.attributes)
        return [self._found(request) for request in requests]

    async def matching(
        self, items: Sequence[str], attributes: Mapping[str, Sequence[Scalar]], generation: int
    ) -> list[str]:
        self._check(attributes)
        return [item for item in items if item in self.items and self._has(item, attributes)]

    def _check(self, attributes: Mapping[str, Sequence[Scalar]]) -> None:
        names = {name for each in self.items.values() for name in each}
        for name, values in attributes.items():
            if name not in names:
                raise InvalidInput(f"filter.attributes.{name}", list(values), "items have no attribute of this name")

    def _has(self, item: str, attributes: Mapping[str, Sequence[Scalar]]) -> bool:
        own = self.items[item]
        return all(
            not set(map(canonical, values)).isdisjoint(texts_of(own[name])) for name, values in attributes.items()
        )

    def _found(self, request: CandidateRequest) -> list[str]:
        denied, only = set(request.deny), self.items if request.allow is None else set(request.allow)
        left = [item for item in self.items if item in only and item not in denied]
        left = [item for item in left if self._has(item, request.attributes)]
        nearest = left[: request.nearest]
        popular = left[request.nearest :][::-1][: request.popular]
        rest = [item for item in left[request.nearest :] if item not in set(popular)]
        drawn = np.random.default_rng(request.seed).permutation(len(rest))[: request.exploratory]
        return [*nearest, *popular, *(rest[at] for at in drawn)]
