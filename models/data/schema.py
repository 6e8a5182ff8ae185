"""`dataset.yaml`: which columns of a dataset folder are ids, attributes, actions, labels and times."""

from datetime import UTC, date, datetime
from typing import Annotated, Self, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

from models.data.times import TimeUnit, date_of_digits
from models.runtime.fields import KINDS

COLUMNS = ("user_id", "item_id", "action", "time_ms", "label")
"""Names that `Dataset` gives to columns of its own; no attribute or context field may take one."""

Column = Annotated[str, Field(min_length=1)]


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"expected one of {', '.join(KINDS)}")
    return kind


FieldKind: TypeAlias = Annotated[str, AfterValidator(_known_kind)]
"""The name of a kind of attribute, one of `KINDS`: "categorical", "numeric", "list" or "vector"."""


_MOMENT: TypeAdapter[datetime] = TypeAdapter(datetime)


def _as_utc(moment: object) -> object:
    """A date (2026-03-01, 20260301) is its midnight, and what has no zone is UTC, as in the files themselves."""
    if isinstance(moment, int) and not isinstance(moment, bool):
        moment = str(moment)
    if isinstance(moment, str):
        moment = date_of_digits(moment.strip()) or _MOMENT.validate_python(moment.strip())
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) and moment.tzinfo is None else moment


Moment: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_as_utc)]
"""An instant: ISO 8601, a date, or seconds since the epoch, from 2e10 on milliseconds."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UsersSection(_Section):
    """`users`: the id column, and the attributes known at registration (at least one)."""

    id: Column
    attributes: Annotated[dict[Column, FieldKind], Field(min_length=1)]
    registered: Column | None = None
    """When the user registered first; may be empty where that is not known. Without it, the user's first event stands
    for the registration."""
    registered_unit: TimeUnit = "s"
    """The unit of a numeric column, as `time_unit` of the interactions."""


class ItemsSection(_Section):
    """`items`: the id column, and what is known of an item."""

    id: Column
    attributes: dict[Column, FieldKind] = Field(default_factory=dict)


class InteractionsSection(_Section):
    """`interactions`: who met what, when, how, and with which outcome."""

    user: Column
    item: Column
    time: Column
    time_unit: TimeUnit = "s"
    """The unit of a numeric time column, counted from the epoch; ISO texts and timestamps need none."""
    action: Column | None = None
    """What was done ("clicked", "rated-5"); without it, every action is "acted"."""
    label: Column | None = None
    """1 for an impression that was acted on, 0 for one that was not; without it, every interaction is a 1."""
    context: dict[Column, FieldKind] = Field(default_factory=dict)


class BehavioursSection(_Section):
    """`behaviours`, where the folder has them: who did what, when and how. Every item is one of `items`.

    They take the place of the interactions in every history, so that impressions of one kind of item may follow
    behaviour of another: categories browsed before advertisements.
    """

    user: Column
    item: Column
    time: Column
    time_unit: TimeUnit = "s"
    """As that of the interactions."""
    action: Column | None = None
    """As that of the interactions."""


class DatasetDescription(_Section):
    """The whole of `dataset.yaml`."""

    name: Annotated[str, Field(min_length=1)]
    licence: str | None = None
    """Said aloud when the data are used."""
    users: UsersSection
    items: ItemsSection
    interactions: InteractionsSection
    behaviours: BehavioursSection | None = None
    """Without it, behaviour is every interaction with label 1."""
    split: Moment | None = None
    """Training sees what lies before it; by default the instant before which 80 % of the interactions lie."""

    @model_validator(mode="after")
    def _no_reserved_names(self) -> Self:
        for section, fields in (
            ("users.attributes", self.users.attributes),
            ("items.attributes", self.items.attributes),
            ("interactions.context", self.interactions.context),
        ):
            taken = [name for name in fields if name in COLUMNS]
            if taken:
                raise ValueError(f"{section}: {taken[0]!r} is a name that Foretaste uses itself; rename that column")
        return self

    @model_validator(mode="after")
    def _context_of_one_value(self) -> Self:
        several = {name: kind for name, kind in self.interactions.context.items() if KINDS[kind].is_several}
        for name, kind in several.items():
            raise ValueError(
                f"interactions.context: {name!r} cannot be a {kind}: a moment's fields have one value each"
            )
        return self
