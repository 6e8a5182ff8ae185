"""Attributes that a generation does not know: they have no effect, and whoever sends them is told."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches

from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.events import MAX_FIELD
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Towers
from foretaste.kernel.values import Attributes, FloatArray
from streams.worker.metrics import Metrics
from streams.zero_shot import AttributeVocabulary, counted_virtual_behaviour, virtual_behaviour

log = logging.getLogger(__name__)

MOST_NAMES = 50
"""Unknown names that are told apart: they come from outside, and each is a series of the metric."""
OTHER = "other"


class AttributeCheck:
    """Counts unknown names and values of sign-ups, and says each name, and each attribute with such values, once."""

    def __init__(self, metrics: Metrics, vocabulary: AttributeVocabulary | None) -> None:
        """Without a `vocabulary`, which are the towers of sign-ups, values are not looked at."""
        self._metrics = metrics
        self._vocabulary = vocabulary
        self._names: set[str] = set()
        self._said: set[tuple[int, str]] = set()

    async def virtual_behaviour(
        self, towers: Towers, attributes: Sequence[Attributes], generation: Generation
    ) -> tuple[FloatArray, Mapping[str, int]]:
        """What `streams.zero_shot.virtual_behaviour` makes, and the unknown values, where they are looked at."""
        if self._vocabulary is None:
            return await virtual_behaviour(towers, attributes, generation), {}
        return await counted_virtual_behaviour(self._vocabulary, attributes, generation)

    async def note(
        self,
        attributes: Sequence[Attributes],
        generation: Generation,
        counted: Mapping[str, int] | None = None,
        uncounted: Sequence[Attributes] | None = None,
    ) -> None:
        """Of sign-ups that were carried out. Never fails: a vocabulary that is away is not asked again for them.

        `counted` are unknown values that were counted on the way, `uncounted` those of the attributes that were not.
        """
        known = generation.attributes.keys()
        names = Counter(name for each in attributes for name in each.keys() - known)
        for name, count in names.items():
            self._metrics.unknown_attributes.labels(self._label(name)).inc(count)
            self._say(name, generation)
        self._count(counted or {}, generation)
        others = attributes if uncounted is None else uncounted
        if self._vocabulary is not None and others:
            with suppress(ForetasteError):
                self._count(await self._vocabulary.unknown_values(others, generation.number), generation)

    def _count(self, values: Mapping[str, int], generation: Generation) -> None:
        for name, count in values.items():
            self._metrics.unknown_values.labels(name).inc(count)
            if (generation.number, name) not in self._said:
                self._said.add((generation.number, name))
                log.warning(
                    "attribute %r: a sign-up brings a value that generation %d never saw: it counts as missing",
                    name,
                    generation.number,
                )

    def _label(self, name: str) -> str:
        short = name[:MAX_FIELD]
        if short not in self._names and len(self._names) >= MOST_NAMES:
            return OTHER
        self._names.add(short)
        return short

    def _say(self, name: str, generation: Generation) -> None:
        short = name[:MAX_FIELD]
        if short not in self._names or (generation.number, short) in self._said:
            return
        self._said.add((generation.number, short))
        near = get_close_matches(short, list(generation.attributes), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        log.warning(
            "sign-ups bring the attribute %r, which generation %d does not know: it has no effect%s",
            short,
            generation.number,
            hint,
        )
