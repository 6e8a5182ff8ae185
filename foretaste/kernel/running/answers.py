"""Questions to new users about items, and answers to them as attributes: two lists of items, yes and no."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from foretaste.kernel.values import ANSWERED, Attributes, Value, is_several


@runtime_checkable
class AsksQuestions(Protocol):
    """Towers that know what a generation asks new users about (Triton)."""

    async def questions(self, generation: int) -> Sequence[str]:
        """Ids of items, those whose answers tell most first; none where it asks nothing. Raises `Unavailable`."""
        ...


def with_answers(attributes: Attributes, answers: Mapping[str, bool]) -> Attributes:
    """Attributes with these answers to questions about items, yes or no by item id, in the place of earlier ones."""
    lists = {name: [item for item in answered(attributes, name) if item not in answers] for name in ANSWERED}
    for item, is_yes in answers.items():
        lists[ANSWERED[is_yes]].append(item)
    return {**attributes, **lists} if answers else attributes


def with_kept_answers(attributes: Attributes, before: Attributes | None) -> Attributes:
    """Attributes that a user registers with, and of the answers `before` those that it says nothing of: whoever sends a
    user's attributes anew need not know what the user was asked."""
    kept = {name: before[name] for name in ANSWERED if before and name in before and name not in attributes}
    return {**attributes, **kept} if kept else attributes


def answered(attributes: Attributes, name: str) -> list[str]:
    """The items of one list of answers, as texts."""
    value: Value = attributes.get(name)
    return [str(item) for item in (value if is_several(value) else [value]) if item is not None]
