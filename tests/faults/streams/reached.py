"""What a load and whoever hears of it work on."""

from dataclasses import dataclass, field

from features.online.redis_store import RedisStore
from foretaste.kernel.generations import Generation
from foretaste.kernel.users import UserFeatures
from foretaste.kernel.values import number
from streams.topics import TopicNames
from tests.faults.streams.history import Stored
from tests.faults.streams.load import FIRST_AGE

Offsets = dict[tuple[str, int], int]
"""By topic and partition."""


@dataclass
class Reached:
    """Addresses before which no proxy stands, and what is kept from one fault to the next."""

    kafka: str
    idempotent: bool
    names: TopicNames
    partitions: int
    """Of each topic, as it was made."""
    api: str
    generation: Generation
    heard: Offsets = field(default_factory=dict)
    """Where the listener goes on."""
    sent: Offsets = field(default_factory=dict)
    """One above the last record that was sent."""

    async def read(self, store: RedisStore, users: list[str]) -> list[Stored]:
        """What the store holds of users, now. Raises `Unavailable`."""
        return [self._stored(each) for each in await store.read(users, self.generation.number)]

    def _stored(self, features: UserFeatures) -> Stored:
        attributes, behaviour = features.attributes, features.behaviour
        return Stored(
            features.user_id,
            None if attributes is None else int(number(attributes["age"])) - FIRST_AGE,
            attributes is not None and not self.generation.lacks(features),
            list(zip(behaviour.actions, behaviour.times, strict=True)),
        )
