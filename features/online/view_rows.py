"""Rows of users in views of Feast's, as its API takes them and gives them."""

from dataclasses import dataclass

from features.feast_api import Value
from features.online.layout import ATTRIBUTES_VIEW, Column, Raw, columns_of
from foretaste.kernel.generations import SLOTS
from foretaste.kernel.users import BehavedUser

ENRICHED_COLUMNS: tuple[Column, ...] = (
    *columns_of(ATTRIBUTES_VIEW),
    *(column for view in SLOTS for column in ((view, "generation"), (view, None))),
)
"""What is stored of a user's attributes, and the time of each slot, which Feast gives with a feature of it."""


@dataclass(frozen=True, slots=True)
class ViewRow:
    """What is written of a user in one view."""

    user_id: str
    at_us: int
    """Event time, microseconds since the epoch."""
    values: tuple[object, ...]
    """Of the view's features, in their order."""


EMPTY_TEXT = bytes(Value(string_val="").SerializeToString())
"""The attributes of a user who was erased."""
_NO_GENERATION = bytes(Value(int64_val=0).SerializeToString())
"""That of a slot that holds no virtual behaviour."""


def has_text(text: Raw) -> bool:
    """Whether attributes are stored, readable or not."""
    return text is not None and text != EMPTY_TEXT


def has_generation(generation: Raw) -> bool:
    """Whether a slot holds virtual behaviour, readable or not."""
    return generation is not None and generation != _NO_GENERATION


def behaviour_view_row(user: BehavedUser) -> ViewRow:
    """`user_behaviour`, with the version and as of the event time that follow the read ones."""
    behaviour = user.behaviour
    values = (list(behaviour.items), list(behaviour.actions), list(behaviour.times), user.version)
    return ViewRow(user.user_id, user.at_us, values)
