"""The bodies of requests for a ranking or a recommendation and of their answers, and what goes beyond their types."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Literal, NotRequired

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from typing_extensions import TypedDict  # pydantic refuses that of `typing` before Python 3.12

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import Id, Text, WireScalar, WireValue
from foretaste.kernel.ranking import Cause, Fallback, Source


def check_candidates(items: Sequence[str], most: int, field: str = "items") -> None:
    """Raises `InvalidInput` for no candidates, more than `most`, or one that comes twice (it names the first)."""
    if not items:
        raise InvalidInput(field, items, "expected at least one candidate")
    if len(items) > most:
        raise InvalidInput(field, len(items), f"expected at most {most} candidates")
    if len(set(items)) == len(items):
        return
    seen: set[str] = set()
    for at, item in enumerate(items):
        if item in seen:
            raise InvalidInput(f"{field}.{at}", item, f"expected each candidate once, it is at {items.index(item)} too")
        seen.add(item)


def whole_number(value: object) -> object:
    """JSON has one kind of numbers: 2.0 is an integer, unlike true and "2"."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class RankRequest(BaseModel):
    """`POST /v1/rank`: a user and the K candidates to put in order."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    user_id: Id
    items: Annotated[list[Id], Field(json_schema_extra={"minItems": 1, "uniqueItems": True})]
    context: Mapping[Text, WireScalar] = Field(default_factory=dict)
    shown: Annotated[int, Field(ge=0, strict=True), BeforeValidator(whole_number)] | None = None
    """How many, from the best on, the user gets to see: impressions, which training learns from. None: the setting's
    number; 0: none."""
    vouched: StrictBool = False
    """The user is a real one, though never registered here: training may learn from what is shown."""
    explain: StrictBool = False
    """Whether the answer says what moved its first items most."""


class ScoredItem(TypedDict):
    """A candidate with its score."""

    item_id: str
    score: float
    """A probability from the ranking tower (eq. 12); under `popularity`, a share of the catalogue's interactions."""
    unknown: NotRequired[Literal[True]]
    """Only of an item that the generation was not trained on: all of them score alike."""


class Influence(BaseModel):
    """One thing that is known of the user, and how far it moved the score of an item."""

    attribute: str | None = None
    """The name of an attribute; or:"""
    behaviour: str | None = None
    """The item of a behaviour."""
    value: WireValue = None
    """The attribute's value, or the behaviour's action."""
    effect: float
    """What the log odds of the score would lose without it."""


class ExplainedItem(BaseModel):
    """What moved the score of an item most, the strongest first."""

    item_id: str
    influences: list[Influence]


class RankResponse(BaseModel):
    """The candidates, best first, those shown in their drawn order if any; equal scores keep the request's order."""

    user_id: str
    ranking_id: str = ""
    """To be sent along with what the user does about it (`UserBehaved.ranking_id`)."""
    served_by: Source
    fallback: Fallback | None = None
    cause: Cause | None = None
    """Why a fallback or a repair was needed."""
    reason: str | None = None
    """The same for a person to read."""
    zero_shot_generation: int | None = None
    """The generation of the virtual behaviour that was read; None where none was."""
    ranking_generation: int | None = None
    """The generation of the ranking tower that scored; None under `popularity`."""
    behaviour_seen: int = 0
    ranked: list[ScoredItem]
    explanation: list[ExplainedItem] | None = None
    """Of the first items, where the request asked for it and the ranking tower scored."""
    probabilities: list[float] | None = None
    """Of each item that is shown, that it stands at its position given those above it: they are to be shown in this
    order. None where no order is drawn (`FORETASTE_EXPLORE_SHARE`)."""


MOST_FILTERED = 10_000
"""Items of an allow or a deny list, and values of an attribute, at most."""


class ItemFilter(BaseModel):
    """Which items may be recommended."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    allow: Annotated[list[Id], Field(min_length=1, max_length=MOST_FILTERED)] | None = None
    """The only ones; None: all that the generation knows."""
    deny: Annotated[list[Id], Field(max_length=MOST_FILTERED)] = Field(default_factory=list)
    attributes: Mapping[Text, Annotated[list[WireScalar], Field(min_length=1, max_length=MOST_FILTERED)]] = Field(
        default_factory=dict
    )
    """By attribute of items, a categorical one or a list, the values of which an item must have one."""


class RecommendRequest(BaseModel):
    """`POST /v1/recommend`: a user, and how many items of the whole catalogue to recommend."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    user_id: Id
    k: Annotated[int, Field(ge=1, strict=True), BeforeValidator(whole_number)] = 20
    exclude_seen: StrictBool = True
    """Leave out what the user acted on, or said no to at sign-up, as far as it is stored (the newest 100)."""
    filter: ItemFilter = Field(default_factory=ItemFilter)
    context: Mapping[Text, WireScalar] = Field(default_factory=dict)
    shown: Annotated[int, Field(ge=0, strict=True), BeforeValidator(whole_number)] | None = None
    """As in a ranking, and k at most."""
    vouched: StrictBool = False
    """As in a ranking."""


class CandidateSource(StrEnum):
    """Where the candidates of a recommendation came from."""

    INDEX = "index"
    POPULAR = "popular"
    """The index was away: `cause` and `reason` say why."""


class RecommendResponse(RankResponse):
    """The k best of the candidates, best first; fewer where fewer may be recommended."""

    candidates: int
    """How many were ranked."""
    candidates_from: CandidateSource
