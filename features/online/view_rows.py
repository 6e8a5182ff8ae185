"""Rows of users in views of Feast's, as its API takes them and gives them."""

from collections.abc import Sequence
from dataclasses import dataclass

from features.feast_api import Value
from features.online.layout import ATTRIBUTES_VIEW, Column, Raw, columns_of, version_stored
from foretaste.kernel.event_order import first_registration
from foretaste.kernel.generations import SLOTS
from foretaste.kernel.users import BehavedUser

FIRST_VIEW = "user_first_registration"
FIRST_COLUMNS: tuple[Column, ...] = ((FIRST_VIEW, "registered"), (FIRST_VIEW, None))
"""When the user registered first, epoch milliseconds; 0 or nothing where nobody is registered, and of users whom an
earlier version stored."""
ENRICHED_COLUMNS: tuple[Column, ...] = (
    *columns_of(ATTRIBUTES_VIEW),
    *(column for view in SLOTS for column in ((view, "generation"), (view, None))),
    *FIRST_COLUMNS,
)
"""What is stored of a user's attributes, the time of each slot, which Feast gives with a feature of it, and the first
registration."""


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


def first_ms_of(values: Sequence[Raw], attributes_ms: int) -> int:
    """`UserFeatures.first_ms` from the values of `FIRST_COLUMNS`; what cannot be read is none."""
    return first_registration(attributes_ms, stored_first_of(values))


def stored_first_of(values: Sequence[Raw]) -> int:
    """The first registration that is stored in the values of `FIRST_COLUMNS`, epoch milliseconds; 0 for none."""
    return version_stored(values[0], None)[0]


def first_row(user_id: str, first_ms: int, stored_us: int, at_us: int) -> ViewRow:
    """`user_first_registration`, a little newer than the stored row, since some stores drop what is not."""
    return ViewRow(user_id, max(at_us, stored_us + 1), (first_ms,))


def behaviour_view_row(user: BehavedUser) -> ViewRow:
    """`user_behaviour`, with the version and as of the event time that follow the read ones."""
    behaviour = user.behaviour
    values = (list(behaviour.items), list(behaviour.actions), list(behaviour.times), user.version)
    return ViewRow(user.user_id, user.at_us, values)
