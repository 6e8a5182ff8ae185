"""The outcomes of impressions: a sample waits for a while to be acted on, in bounded memory."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from foretaste.kernel.users import Stage


@dataclass(frozen=True, slots=True)
class ImpressionOutcome:
    """An impression whose time is over: shown at `at` (seconds since the epoch) to a user of `stage`."""

    stage: Stage
    score: float
    at: float
    acted: bool


@dataclass(slots=True)
class _Open:
    stage: Stage
    score: float
    at: float
    acted: bool = False


@dataclass(slots=True)
class OpenImpressions:
    """Impressions that wait for their outcome: acted on within `seconds`, or not.

    At most about `most` at a time: rankings are taken at an even pace, whatever their outcome, so that the sample is
    fair. An act counts for the newest impression of its item; one that is heard of before its impression is lost.
    """

    seconds: float
    most: int
    _open: OrderedDict[tuple[str, str], _Open] = field(default_factory=OrderedDict)
    _free_at: float = 0.0
    """When there is room for the next ranking at this pace."""

    def shown(
        self, user_id: str, items: tuple[str, ...], scores: tuple[float, ...], stage: Stage, at: float
    ) -> list[ImpressionOutcome]:
        """Follow a ranking, or leave it out; the outcomes of earlier impressions of the same items to this user."""
        if at < self._free_at or len(self._open) + len(items) > self.most:
            return []
        self._free_at = max(self._free_at, at) + len(items) * self.seconds / self.most
        earlier = []
        for item, score in zip(items, scores, strict=False):
            one = self._open.pop((user_id, item), None)
            if one is not None:
                earlier.append(_closed(one))
            self._open[user_id, item] = _Open(stage, score, at)
        return earlier

    def acted(self, user_id: str, item: str, at: float) -> None:
        """A user acted on an item at `at`."""
        one = self._open.get((user_id, item))
        if one is not None and one.at <= at < one.at + self.seconds:
            one.acted = True

    def forget(self, user_id: str) -> None:
        """Impressions of a user who was erased count as never shown."""
        for key in [key for key in self._open if key[0] == user_id]:
            del self._open[key]

    def settled(self, now: float) -> Iterator[ImpressionOutcome]:
        """Those whose time is over at `now`, each once."""
        while self._open:
            key = next(iter(self._open))
            if self._open[key].at + self.seconds > now:
                return
            yield _closed(self._open.pop(key))

    def __len__(self) -> int:
        return len(self._open)


def _closed(one: _Open) -> ImpressionOutcome:
    return ImpressionOutcome(one.stage, one.score, one.at, one.acted)
