"""The words of Foretaste as types: events, features, requests and results. No input or output happens here.

Axes, here and everywhere: B users or examples, N attributes, L behaviour length, M virtual vectors, K candidates,
D embedding.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ID = 256
"""Characters in a user or item id, at most."""
MAX_BEHAVIOUR = 100
"""L: behaviours kept for a user, at most (the paper's setting)."""

FloatArray: TypeAlias = npt.NDArray[np.float32]
Scalar: TypeAlias = str | int | float | bool | None
Attributes: TypeAlias = Mapping[str, Scalar]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID, strict=True)]
WireScalar: TypeAlias = StrictStr | StrictBool | StrictInt | StrictFloat | None


class StoredAttributes(dict[str, Scalar]):
    """Attributes with the JSON that they were read from, for whoever sends them on as JSON."""

    __slots__ = ("text",)

    def __init__(self, attributes: Attributes, text: str) -> None:
        super().__init__(attributes)
        self.text = text


class Topic(StrEnum):
    """The Kafka topics, before the prefix that a deployment may add. All are keyed by user id."""

    REGISTERED = "user-registered"
    BEHAVED = "user-behaved"
    ENRICHED = "user-enriched"
    RANKED = "user-ranked"
    REENRICH = "user-reenrich"
    """Not keyed: each event names a page of users whose virtual behaviour of one generation is to be made."""
    DEAD_LETTERS = "dead-letters"


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null", allow_inf_nan=False)


class UserRegistered(_Event):
    """`user-registered`: a user signed up. Attributes are raw values; fields that nobody knows are ignored."""

    user_id: Id
    attributes: Mapping[str, WireScalar]
    registered_at: AwareDatetime | None = None
    """When, by the sender's clock; the Kafka timestamp where absent."""


class UserBehaved(_Event):
    """`user-behaved`: a user acted on an item."""

    user_id: Id
    item_id: Id
    at: AwareDatetime
    action: Annotated[str, Field(max_length=MAX_ID)] = "acted"
    ranking_id: Id | None = None
    """The ranking that it answers, where the sender knows; without it, any that showed the item shortly before."""


class UserEnriched(_Event):
    """`user-enriched`: the user's virtual behaviour of this generation can now be read from the online store."""

    user_id: Id
    generation: Annotated[int, Field(ge=1)]
    enriched_at: AwareDatetime


class ReenrichUsers(_Event):
    """`user-reenrich`: these users need virtual behaviour of this generation, unless they are warm or have it."""

    generation: Annotated[int, Field(ge=1)]
    user_ids: tuple[Id, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event was read: its topic, partition and offset, and its Kafka timestamp in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Message:
    """A Kafka record as it was read, not yet decoded."""

    key: bytes | None
    value: bytes | None
    origin: Origin


class Reason(StrEnum):
    """Why an event became a dead letter."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    INVALID = "invalid"
    UNKNOWN_ITEM = "unknown_item"
    NON_FINITE = "non_finite"
    FOREIGN = "foreign"
    """Nothing that was ever an event here: somebody else put it on the topic of dead letters."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that cannot be processed, kept whole with its reason; `detail` names the field and the value."""

    message: Message
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The items a user acted on, newest last, at most `MAX_BEHAVIOUR`: three columns of one length.

    `times` are milliseconds since the epoch, never falling. Empty means cold (eq. 9).
    """

    items: Sequence[str] = ()
    actions: Sequence[str] = ()
    times: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class VirtualBehaviour:
    """v̂ of eq. 8, `vectors` (M, D), which the ranking tower of the same generation reads in place of behaviour."""

    generation: int
    vectors: FloatArray


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """All that the online store holds of a user, in one read. What was never written is None or empty."""

    user_id: str
    attributes: Attributes | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
    behaviour_version: int = 0
    """Rises with each write of the behaviour (microseconds since the epoch); 0 if never written."""
    virtual: VirtualBehaviour | None = None
    """What the slot of the generation asked for holds: check `virtual.generation`, it may be another one."""
    attributes_ms: int = 0
    """`at_ms` of the attributes; 0 if never written."""
    virtual_ms: int = 0
    """`at_ms` of this virtual behaviour; 0 if never written."""

    @property
    def as_of_ms(self) -> int:
        """The newer of both. A repair or a re-enrichment is written as of one millisecond later, and so yields to any
        registration after the one it read."""
        return max(self.attributes_ms, self.virtual_ms)

    def current_virtual(self, generation: "Generation") -> VirtualBehaviour | None:
        """The virtual behaviour if `generation` can read it and it is no older than the attributes, else None.

        The shape tells a generation from one of the same number before everything was trained anew. What is older than
        the attributes was made from others: they were written alone since, or somebody wrote over what belongs to them.
        """
        held = self.virtual
        if held is None or held.generation != generation.number or held.vectors.shape != generation.virtual_shape:
            return None
        return held if self.virtual_ms >= self.attributes_ms else None


@dataclass(frozen=True, slots=True)
class EnrichedUser:
    """One row of the sign-up way's write: attributes and virtual behaviour, as of `at_ms` (epoch milliseconds)."""

    user_id: str
    attributes: Attributes
    virtual: VirtualBehaviour | None
    """None for a warm user, who needs none."""
    at_ms: int


@dataclass(frozen=True, slots=True)
class ReenrichedUser:
    """One row of a read repair or a re-enrichment: virtual behaviour alone, as of `at_ms` (epoch milliseconds)."""

    user_id: str
    virtual: VirtualBehaviour
    at_ms: int


@dataclass(frozen=True, slots=True)
class BehavedUser:
    """One row of the behaviour way's write: the user's whole behaviour, with a version above the one read."""

    user_id: str
    behaviour: Behaviour
    version: int


@dataclass(frozen=True, slots=True)
class Generation:
    """What every reader needs to know of a generation, small enough to be read whole.

    `attributes` and `context` map each field that the towers read to "categorical" or "numeric".
    `mean_virtual` (M, D) is the mean virtual behaviour over the training users, the third step of degradation.
    """

    number: int
    warm_after: int
    attributes: Mapping[str, str]
    context: Mapping[str, str]
    mean_virtual: FloatArray
    created_at: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    profile: str = ""
    """What it was trained on, as JSON that `foretaste watch` compares with what is served; empty where absent."""

    @property
    def virtual_shape(self) -> tuple[int, int]:
        """(M, D)."""
        rows, columns = self.mean_virtual.shape
        return rows, columns

    @property
    def digest(self) -> str:
        """sha256 over all fields but the profile, in hexadecimal: it tells two trainings under one number apart.

        A number that was recorded without its profile, by an earlier version, stands for the same training with it.
        """
        plain = asdict(replace(self, profile="")) | {"mean_virtual": self.mean_virtual.tolist()}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Serving:
    """Which generations are in use, read at one instant."""

    active: Generation | None = None
    """The one that readers use."""
    filling: Generation | None = None
    """The next one, while virtual behaviour is made for it: sign-ups get both."""
    previous: int | None = None
    """Active before this one, and kept for `rollback`."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of the pointer."""

    number: int
    came_from: int | None
    at: str
    """ISO 8601, UTC."""
    reason: str
    filled: bool = False
    """Whether every cold or warming user had been re-enriched for `number`."""


@dataclass(frozen=True, eq=False, slots=True)
class Logged:
    """A part of the training log, each row once, in order of time.

    `rankings` and `behaviours` are Arrow tables whose columns are the fields of `UserRanked` and `UserBehaved`:
    `attributes` and `context` as JSON texts (null where none were known), times as timestamps in UTC.
    `skipped` names the files that could not be read.
    """

    rankings: "pa.Table"
    behaviours: "pa.Table"
    skipped: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RankingInput:
    """One request to the ranking tower: one user, K candidate items.

    `behaviour` and `virtual` (M, D) both travel; the tower takes virtual for a cold user, real for a warm one and
    weighs both while warming (eqs. 9 and 10, and `warm_after`).
    """

    attributes: Attributes
    context: Attributes
    behaviour: Behaviour
    virtual: FloatArray
    items: Sequence[str]


class Source(StrEnum):
    """What stood in for, or was, the user's behaviour when an answer was computed."""

    REAL = "real"
    BLENDED = "blended"
    VIRTUAL = "virtual"
    READ_REPAIRED = "read_repaired"
    FALLBACK = "fallback"


class Fallback(StrEnum):
    """Which fallback, in the order of degradation."""

    MEAN_BEHAVIOUR = "mean_behaviour"
    POPULARITY = "popularity"


class UserRanked(_Event):
    """`user-ranked`: a ranking as it was served, with the features that the towers read: what training learns from.

    `items` are those that were shown, best first; `scores` are theirs. `attributes` is None where none were known.
    """

    ranking_id: Id
    user_id: Id
    at: AwareDatetime
    items: tuple[Id, ...]
    scores: tuple[float, ...]
    context: Mapping[str, WireScalar] = Field(default_factory=dict)
    attributes: Mapping[str, WireScalar] | None = None
    behaviour_items: tuple[str, ...] = ()
    behaviour_actions: tuple[str, ...] = ()
    behaviour_times: tuple[int, ...] = ()
    """Milliseconds since the epoch, as in `Behaviour`."""
    served_by: Source
    fallback: Fallback | None = None
    reason: str | None = None
    zero_shot_generation: int | None = None
    ranking_generation: int | None = None
    warm_after: int | None = None
    """Of the generation that served; None where there was none."""


class RankRequest(BaseModel):
    """`POST /v1/rank`: a user and the K candidates to put in order."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    user_id: Id
    items: list[Id]
    context: Mapping[str, WireScalar] = Field(default_factory=dict)
    shown: Annotated[int, Field(ge=0)] | None = None
    """How many, from the best on, the user gets to see: impressions, which training learns from. None: the setting's
    number; 0: none."""


class ScoredItem(BaseModel):
    item_id: str
    score: float
    """A probability from the ranking tower (eq. 12); under `popularity`, a share of the catalogue's interactions."""


class RankResponse(BaseModel):
    """The candidates, best first; equal scores keep the order of the request."""

    user_id: str
    ranking_id: str = ""
    """To be sent along with what the user does about it (`UserBehaved.ranking_id`)."""
    served_by: Source
    fallback: Fallback | None = None
    reason: str | None = None
    """Why a fallback or a repair was needed."""
    zero_shot_generation: int | None = None
    """The generation of the virtual behaviour that was read; None where none was."""
    ranking_generation: int | None = None
    """The generation of the ranking tower that scored; None under `popularity`."""
    behaviour_seen: int = 0
    ranked: list[ScoredItem]
