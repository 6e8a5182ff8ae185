"""`user-profiles`: what the online store holds of a user's registration, as an event and back."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import Message, UserProfile
from foretaste.kernel.users import AttributesVersion, UserFeatures
from foretaste.kernel.values import Attributes
from streams.codec import EVENTS, Undecodable
from streams.rules import to_ms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def profile_record(user_id: str, attributes: Attributes, version: AttributesVersion) -> tuple[bytes, bytes] | None:
    """The key and the value of a user's record, of attributes that are from the registration `version`.

    None for attributes that no sign-up can have: others write to the online store too.
    """
    try:
        UserProfile(user_id=user_id, attributes=attributes, registered_at=_EPOCH)
        return checked_record(user_id, attributes, version)
    except (ValidationError, InvalidInput):
        return None


def checked_record(user_id: str, attributes: Attributes, version: AttributesVersion) -> tuple[bytes, bytes]:
    """The same of attributes that a sign-up had: they are not checked once more."""
    profile = UserProfile.model_construct(
        user_id=user_id,
        attributes=attributes,
        registered_at=datetime.fromtimestamp(version.at_ms / 1000, UTC),
        place=version.place,
        registrations=version.digests,
    )
    return user_id.encode(), EVENTS.encode(profile)


def registered_user(profile: UserProfile) -> UserFeatures:
    """A user of whom nothing but the registration is known."""
    return UserFeatures(
        profile.user_id,
        profile.attributes,
        attributes_ms=to_ms(profile.registered_at),
        attributes_place=profile.place,
        registrations=profile.registrations,
    )


@dataclass
class ReadProfiles:
    """What some records of `user-profiles` come to."""

    users: dict[str, UserFeatures] = field(default_factory=dict)
    """The newest registration of each user, by user."""
    erased: dict[str, int] = field(default_factory=dict)
    """Users with a null value, and when they were erased at the latest (epoch milliseconds): at the time of its record,
    or just before the registration that stands behind it. Of one who registered again since, both hold."""
    unreadable: int = 0
    """Records that are no profile of the user that their key names."""

    @classmethod
    def of(cls, messages: Iterable[Message]) -> "ReadProfiles":
        """Of a user's registrations the newest counts, whichever comes last. A null value ends those before it in its
        partition and none behind it, whatever their times: the erasure was before its record was produced. Between
        partitions, which have no order, and hold one user after the topic gained some, the times tell."""
        of_partition: dict[int, ReadProfiles] = {}
        for message in messages:
            of_partition.setdefault(message.origin.partition, cls()).add(message)
        found = cls()
        for each in of_partition.values():
            found._merge(each)
        found.users = {
            user_id: user for user_id, user in found.users.items() if user.attributes_ms > found.erased.get(user_id, -1)
        }
        return found

    def add(self, message: Message) -> None:
        """The record that follows in the one partition of these records."""
        user_id = _user_of(message)
        if user_id is None:
            self.unreadable += 1
        elif message.value is None:
            self.users.pop(user_id, None)
            self.erased[user_id] = message.origin.timestamp_ms
        elif (user := _registered(user_id, message.value)) is None:
            self.unreadable += 1
        else:
            if user_id not in self.users and user_id in self.erased:
                self.erased[user_id] = min(self.erased[user_id], user.attributes_ms - 1)
            self._add_user(user)

    def _add_user(self, user: UserFeatures) -> None:
        held = self.users.get(user.user_id)
        if held is None or user.attributes_version.replaces(held.attributes_version):
            self.users[user.user_id] = user

    def _merge(self, other: "ReadProfiles") -> None:
        for user in other.users.values():
            self._add_user(user)
        for user_id, at_ms in other.erased.items():
            self.erased[user_id] = max(self.erased.get(user_id, at_ms), at_ms)
        self.unreadable += other.unreadable


def _registered(user_id: str, value: bytes) -> UserFeatures | None:
    """The user of a profile; None for what is no profile of that user."""
    try:
        user = registered_user(EVENTS.decode(value, UserProfile))
    except Undecodable:
        return None
    return user if user.user_id == user_id else None


def _user_of(message: Message) -> str | None:
    """Whose record it is; None for a key that is no user id."""
    try:
        return message.key.decode() if message.key else None
    except UnicodeDecodeError:
        return None
