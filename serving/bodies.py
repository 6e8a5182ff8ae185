"""The bodies of users, behaviours, generations and problems. Those of a ranking are in `serving.requests`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StrictBool, Tag

from foretaste.kernel.events import Id, Text, UserBehaved, UserRegistered, WireValue
from foretaste.kernel.running.registered_items import ItemRegistered
from foretaste.kernel.users import Stage
from foretaste.kernel.values import Scalar
from serving.requests import whole_number

MAX_BATCH = 1000
"""Events of one request, at most."""
MOST_QUESTIONS = 64
"""Of one request."""
MAX_WAIT = 10.0
"""Seconds that a request may wait until what it sent can be read, at most."""


class HttpBody(BaseModel):
    """What the bodies have in common: what stands under a field describes it in the OpenAPI document."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class UsersRegistered(HttpBody):
    """Many sign-ups at once."""

    users: Annotated[list[UserRegistered], Field(min_length=1, max_length=MAX_BATCH)]


class UsersBehaved(HttpBody):
    """Many behaviours at once."""

    behaviours: Annotated[list[UserBehaved], Field(min_length=1, max_length=MAX_BATCH)]


class ItemsRegistered(HttpBody):
    """Many items at once."""

    items: Annotated[list[ItemRegistered], Field(min_length=1, max_length=MAX_BATCH)]


ONE, BATCH = "one", "batch"
"""Names of the two forms of a body; they stand in the paths of pydantic's errors alone."""


def _form(name: str) -> Discriminator:
    """A body with a list of that name is a batch."""

    def form(body: Any) -> str:
        return BATCH if isinstance(body, dict) and name in body else ONE

    return Discriminator(form)


SignUpBody: TypeAlias = Annotated[
    Annotated[UserRegistered, Tag(ONE)] | Annotated[UsersRegistered, Tag(BATCH)], _form("users")
]
BehaviourBody: TypeAlias = Annotated[
    Annotated[UserBehaved, Tag(ONE)] | Annotated[UsersBehaved, Tag(BATCH)], _form("behaviours")
]

ItemBody: TypeAlias = Annotated[
    Annotated[ItemRegistered, Tag(ONE)] | Annotated[ItemsRegistered, Tag(BATCH)], _form("items")
]


class OnboardRequest(HttpBody):
    """A user, and what the user answered to questions that were asked before."""

    user_id: Id
    attributes: Mapping[Text, WireValue] | None = None
    """Of a user who signs up with this; None: nobody signs up."""
    answers: Annotated[Mapping[Id, StrictBool | None], Field(max_length=MOST_QUESTIONS)] = Field(default_factory=dict)
    """By item, whether the user likes it; null for one that is skipped, which this answer does not ask again."""
    questions: Annotated[int, Field(ge=0, le=MOST_QUESTIONS, strict=True), BeforeValidator(whole_number)] = 5
    """How many more are wanted, at most."""


class OnboardResponse(HttpBody):
    """What to ask the user next. What was answered is durable in Kafka; a worker stores it."""

    user_id: str
    generation: int
    """Which asks."""
    items: list[str]
    """Whether the user likes each of them: the one whose answer tells most first; none where nothing is left to ask."""
    answered: int
    """Items that the user has answered about."""
    readable: bool | None = None
    """Whether a ranking could read it all within the `wait`; None where none was asked for or nothing was sent."""


class EventsAccepted(HttpBody):
    """The events are durable in Kafka; workers carry them out."""

    accepted: int
    """How many."""
    readable: bool | None = None
    """Whether what they wrote could be read within the `wait`; None where none was asked for."""


class ErasureAccepted(HttpBody):
    """The erasure is durable in Kafka; workers carry it out."""

    gone: bool | None = None
    """Whether the online store had nothing of the user any more within the `wait`, but for what a later registration
    brought; None where no wait was asked for."""


class StoredBehaviour(HttpBody):
    """One act of a user."""

    item_id: str
    action: str
    at: datetime


class StoredVirtualBehaviour(HttpBody):
    """What the zero-shot tower made of a user's attributes."""

    generation: int
    current: bool
    """Whether the active generation reads it: it is of that generation, and no older than the attributes."""
    vectors: list[list[float]]
    """(M, D)."""
    at: datetime


class StoredUser(HttpBody):
    """All that the online store holds of a user."""

    user_id: str
    stage: Stage | None
    """As the active generation sees it; None where none is active."""
    generation: int | None
    """The active one."""
    attributes: dict[str, Scalar | list[Scalar]] | None
    """None where no sign-up was read."""
    attributes_at: datetime | None
    behaviour: list[StoredBehaviour]
    """Newest last; the newest 100 at most."""
    virtual_behaviour: StoredVirtualBehaviour | None
    damaged: list[str]
    """Feature views whose stored row cannot be read: what they hold counts as never written."""


class ItemRemoved(HttpBody):
    """The event is durable in Kafka; a worker takes the item out."""

    gone: bool | None = None
    """Whether the service that answers has taken it out within the time that it was to wait; None where it was not."""


class GenerationEntry(HttpBody):
    """A generation: its state, what it came from, and what it was worth in its own training's evaluation."""

    number: int
    state: str
    """active, previous, filling, loaded (Triton answers for it), recorded (it does not), written (a folder alone)."""
    created_at: str | None
    base: int | None
    """The generation that its training went on from."""
    metrics: dict[str, float | None]
    verdict: str | None
    """What the gate decided, where it was asked."""
    damage: str | None
    """What is wrong with its files."""


class GenerationList(HttpBody):
    """Every generation that is recorded or written, in order of their numbers."""

    generations: list[GenerationEntry]


class RollbackRequest(HttpBody):
    """Back to the previous generation."""

    expected: Annotated[int, Field(ge=1, le=2**31, strict=True), BeforeValidator(whole_number)] | None = None
    """The generation that is to be left: another one is active, and nothing happens but 409. So a rollback that is
    sent twice does not lead back."""
    reason: Annotated[str, Field(max_length=200)] = "rollback over HTTP"
    """Kept with the move."""


class RollbackDone(HttpBody):
    """The pointer has moved; every reader follows within a second."""

    left: int
    active: int


class FieldProblem(HttpBody):
    """What is wrong with one field."""

    field: str
    value: str | float | bool | None
    """As it came, shortened."""
    problem: str


class Problem(HttpBody):
    """A problem document, RFC 9457."""

    type: str
    """about:blank: the status says it all."""
    title: str
    status: int
    detail: str
    """What is wrong, for a person to read."""
    field: str | None = None
    """The first field that is wrong, where one is."""
    value: str | float | bool | None = None
    """The first wrong value."""
    errors: list[FieldProblem] = []
    """All that is wrong."""
