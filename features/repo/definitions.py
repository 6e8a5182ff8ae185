"""What Feast knows of a user: four views with a push source each, and the `ranking` service that reads them all; two
views of the offline store alone, the training log: what was served, and what users did; and two views for online stores
that are reached through Feast's API alone, the directory of users and the behaviours applied last.

Feast imports every module of this folder when it applies it, so this holds declarations alone. The paths are where an
offline store keeps each view's history; the online way does not touch them.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Array, Float32, Float64, Int64, String, UnixTimestamp

FOREVER = timedelta(0)

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="a user, new or not")
page = Entity(
    name="directory_page", join_keys=["page_id"], value_type=ValueType.STRING, description="a page of the directory"
)


def _view(name: str, description: str, features: list[Field], entity: Entity = user) -> FeatureView:
    history = FileSource(name=f"{name}_history", path=f"data/{name}.parquet", timestamp_field="event_timestamp")
    return FeatureView(
        name=name,
        description=description,
        entities=[entity],
        schema=[Field(name=entity.join_key, dtype=String), *features],
        source=PushSource(name=f"{name}_push", batch_source=history),
        ttl=FOREVER,
        online=True,
    )


def _slot(parity: str) -> FeatureView:
    return _view(
        f"virtual_behaviour_{parity}",
        f"Virtual behaviour (eq. 8) of {parity} generations: one of two slots, one serves while the other fills",
        [
            Field(name="vectors", dtype=Array(Float32), description="(M, D) in rows, flattened"),
            Field(name="dimension", dtype=Int64, description="D"),
            Field(name="generation", dtype=Int64, description="whose zero-shot tower made it"),
        ],
    )


def _log(name: str, description: str, features: list[Field]) -> FeatureView:
    rows = FileSource(name=f"{name}_log", path=name, timestamp_field="event_timestamp")
    return FeatureView(
        name=name,
        description=description,
        entities=[user],
        schema=[Field(name="user_id", dtype=String), *features],
        source=rows,
        ttl=FOREVER,
        online=False,
    )


user_attributes = _view(
    "user_attributes",
    "What is known at registration",
    [Field(name="attributes", dtype=String, description="a JSON object of raw values, as the towers take it")],
)
user_behaviour = _view(
    "user_behaviour",
    "The items a user acted on, newest last: three columns of one length",
    [
        Field(name="items", dtype=Array(String)),
        Field(name="actions", dtype=Array(String)),
        Field(name="times", dtype=Array(Int64), description="milliseconds since the epoch"),
        Field(name="version", dtype=Int64, description="rises by one with each write"),
    ],
)
virtual_behaviour_even = _slot("even")
virtual_behaviour_odd = _slot("odd")
user_applied_behaviours = _view(
    "user_applied_behaviours",
    "Which behaviours were applied last, where they cannot be kept beside the behaviour itself",
    [
        Field(name="digests", dtype=Array(String), description="in hexadecimal, the newest last"),
        Field(name="fresh", dtype=Int64, description="how many of them the write of this version applies"),
        Field(name="version", dtype=Int64, description="of the behaviour that is written next"),
    ],
)
user_first_registration = _view(
    "user_first_registration",
    "When a user registered first, where that cannot be kept beside the attributes, and was before them",
    [
        Field(
            name="registered",
            dtype=Int64,
            description="milliseconds since the epoch; 0 where the attributes' time is it",
        )
    ],
)
user_directory = _view(
    "user_directory",
    "Pages of users who have attributes, for stores that cannot list them; the page `writers` names who wrote pages",
    [Field(name="entries", dtype=Array(String))],
    entity=page,
)

ranking = FeatureService(
    name="ranking",
    description="All that a ranking request reads, in one read",
    features=[user_attributes, user_behaviour, virtual_behaviour_even, virtual_behaviour_odd],
)

rankings = _log(
    "rankings",
    "Rankings as they were served, one row each, with the features that the towers read",
    [
        Field(name="ranking_id", dtype=String),
        Field(name="items", dtype=Array(String), description="what was shown, best first"),
        Field(name="scores", dtype=Array(Float64), description="theirs"),
        Field(name="context", dtype=String, description="a JSON object of raw values"),
        Field(name="attributes", dtype=String, description="a JSON object of raw values; null where none were known"),
        Field(name="behaviour_items", dtype=Array(String)),
        Field(name="behaviour_actions", dtype=Array(String)),
        Field(name="behaviour_times", dtype=Array(Int64), description="milliseconds since the epoch"),
        Field(name="served_by", dtype=String),
        Field(name="fallback", dtype=String),
        Field(name="cause", dtype=String),
        Field(name="reason", dtype=String),
        Field(name="zero_shot_generation", dtype=Int64),
        Field(name="ranking_generation", dtype=Int64),
        Field(name="warm_after", dtype=Int64),
        Field(name="registered_at", dtype=UnixTimestamp, description="when the user had registered first"),
        Field(name="probabilities", dtype=Array(Float64), description="of each position, where the order was drawn"),
    ],
)
behaviours = _log(
    "behaviours",
    "What users did, one row each",
    [
        Field(name="item_id", dtype=String),
        Field(name="action", dtype=String),
        Field(name="ranking_id", dtype=String, description="the ranking that it answers, where that is known"),
        Field(name="event_id", dtype=String, description="its sender's name of it, else its place in Kafka"),
        Field(name="passed_over", dtype=Array(String), description="items that were shown beside it and not chosen"),
    ],
)
