"""The bodies of the console's own routes."""

from datetime import datetime
from typing import Annotated, TypeAlias

from pydantic import Field

from foretaste.kernel.events import Id
from foretaste.kernel.users import Stage
from foretaste.kernel.values import Scalar
from serving.bodies import HttpBody

MOST_COMPARED = 1000
"""Candidates of a comparison."""
Point: TypeAlias = Annotated[list[float], Field(min_length=2, max_length=2)]
"""x and y in [0, 1]."""


class EventsSeen(HttpBody):
    """A topic of events."""

    events: int
    """Ever produced, by the topic's offsets."""
    unhandled: int
    """That the workers, or the writer of the training log, have not handled yet."""


class UserCounts(HttpBody):
    """Users of the online store by stage, as the walk over all of them has come across them."""

    users: int
    cold: int
    warming: int
    warm: int
    virtual: int
    """Those whom the active generation needs virtual behaviour of, and has it current."""
    whole: bool
    """Whether the walk has been over all users: it takes one look for about 500 of them."""


class RankingSeconds(HttpBody):
    """A histogram of the seconds that rankings took in this process, since it started."""

    upper: list[float]
    """Upper bounds of the buckets, rising; the last bucket has none."""
    counts: list[int]
    """Rankings of each bucket, one more than `upper`."""


class ConsoleOverview(HttpBody):
    """The system at a glance, at most a second old."""

    at: datetime
    generation: int | None
    """The active one."""
    events: dict[str, EventsSeen]
    """registered, behaved, enriched, ranked (shown ones) and dead_letters; empty while Kafka is away."""
    users: UserCounts | None
    """None while the online store is away."""
    answers: dict[str, int]
    """Rankings of this process, by what served them."""
    ranking_seconds: RankingSeconds
    away: list[str]
    """Parts that did not answer this look."""


class FieldOffer(HttpBody):
    """A field, with values that the generation knows."""

    kind: str
    """categorical, numeric, list or vector."""
    values: list[Scalar | list[Scalar]]
    """The most frequent first; of a numeric one, the edges of its bins, rising; of a list or a vector, some that are
    known."""


class GenerationOffer(HttpBody):
    """What the active generation knows, to choose from."""

    generation: int
    warm_after: int
    """Behaviours from which on a user is warm."""
    attributes: dict[str, FieldOffer]
    context: dict[str, FieldOffer]
    actions: list[str]
    items: list[str]
    """The most popular, best first."""


class MappedBehaviour(HttpBody):
    """Real and virtual behaviour of some training users on one plane, each a point (x, y) in [0, 1]²."""

    generation: int
    real: list[Point]
    virtual: list[Point]


class MappedUser(HttpBody):
    """Where a user's virtual behaviour lies on the map: between the known ones that are nearest to it."""

    generation: int
    x: float
    y: float
    distance: float
    """To the nearest known one, as a share of their mean distance from the centre; 0: it is one of them."""


class CompareRequest(HttpBody):
    """A user and candidates, to be ranked with and without virtual behaviour."""

    user_id: Id
    items: Annotated[list[Id], Field(min_length=1, max_length=MOST_COMPARED, json_schema_extra={"uniqueItems": True})]


class ComparedItem(HttpBody):
    """A candidate of a comparison."""

    item_id: str
    score: float
    """With the virtual behaviour."""
    without: float
    """The score with the mean of all users' virtual behaviour in its place."""
    lift: float
    """The difference of their log odds: how far the virtual behaviour speaks for the item."""


class ComparedRankings(HttpBody):
    """The candidates as the user gets them, best first, each with its score without virtual behaviour."""

    user_id: str
    generation: int
    stage: Stage
    """A warm user's ranking does not read virtual behaviour: both scores are the same."""
    ranked: list[ComparedItem]
