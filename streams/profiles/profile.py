"""`user-profiles`: what the online store holds of a user's registration, as an event and back."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import ValidationError

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.event_order import AttributesVersion, first_registration
from foretaste.kernel.events import Message, UserProfile
from foretaste.kernel.users import UserFeatures
from foretaste.kernel.values import Attributes, utc_time
from streams.codec import EVENTS, Undecodable
from streams.rules import to_ms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def profile_record(
    user_id: str, attributes: Attributes, version: AttributesVersion, first_ms: int = 0
) -> tuple[bytes, bytes] | None:
    """The key and the value of a user's record, of attributes that are from the registration `version`; `first_ms` as
    in `UserFeatures`.

    None for attributes and times that no sign-up can have: others write to the online store too.
    """
    if utc_time(version.at_ms) is None:
        return None
    try:
        UserProfile(user_id=user_id, attributes=attributes, registered_at=_EPOCH)
        return checked_record(user_id, attributes, version, first_ms)
    except (ValidationError, InvalidInput):
        return None


def checked_record(
    user_id: str, attributes: Attributes, version: AttributesVersion, first_ms: int = 0
) -> tuple[bytes, bytes]:
    """The same of attributes that a sign-up had: they are not checked once more."""
    profile = UserProfile.model_construct(
        user_id=user_id,
        attributes=attributes,
        registered_at=datetime.fromtimestamp(version.at_ms / 1000, UTC),
        place=version.place,
        registrations=version.digests,
        first_registered_at=utc_time(first_ms) if first_ms else None,
    )
    return user_id.encode(), EVENTS.encode(profile)


def registered_user(profile: UserProfile) -> UserFeatures:
    """A user of whom nothing but the registration is known."""
    at_ms, first = to_ms(profile.registered_at), profile.first_registered_at
    return UserFeatures(
        profile.user_id,
        profile.attributes,
        attributes_ms=at_ms,
        attributes_place=profile.place,
        first_ms=first_registration(at_ms, None if first is None else to_ms(first)),
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
        """Of a user's registrations the newest counts, whichever comes last. Of when its user registered first, its
        last record tells: an erasure between takes back what an earlier one told. A null value ends those before it in
        its partition and none behind it, whatever their times: the erasure was before its record was produced. Between
        partitions, which have no order, and hold one user after the topic gained some, the times tell."""
        of_partition: dict[int, ReadProfiles] = {}
        for message in messages:
            of_partition.setdefault(message.origin.partition, cls()).add(message)
        found = cls(unreadable=sum(each.unreadable for each in of_partition.values()))
        for each in of_partition.values():
            for user_id, at_ms in each.erased.items():
                found.erased[user_id] = max(found.erased.get(user_id, at_ms), at_ms)
        for each in of_partition.values():
            found._merge(each)
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
                self.erased[user_id] = min(self.erased[user_id], (user.registered_ms or 0) - 1)
            self._add_user(user)

    def _add_user(self, user: UserFeatures) -> None:
        held = self.users.get(user.user_id)
        self.users[user.user_id] = user if held is None else _together(held, user)

    def _merge(self, other: "ReadProfiles") -> None:
        """Add what another partition's records come to, for which the erasures of all are known by now."""
        for user in other.users.values():
            erased_ms = self.erased.get(user.user_id, -1)
            if user.attributes_ms > erased_ms:
                self._add_user(user if user.first_ms > erased_ms else replace(user, first_ms=0))


def _registered(user_id: str, value: bytes) -> UserFeatures | None:
    """The user of a profile; None for what is no profile of that user."""
    try:
        user = registered_user(EVENTS.decode(value, UserProfile))
    except Undecodable:
        return None
    return user if user.user_id == user_id else None


def _together(held: UserFeatures, later: UserFeatures) -> UserFeatures:
    """The newer registration of two records, with what the other tells of those before it. Of the same one the later
    record counts, with the digests of both."""
    version, held_version = later.attributes_version, held.attributes_version
    if version.is_same(held_version):
        return replace(held, first_ms=later.first_ms, registrations=version.after(held_version).digests)
    newer, older = (later, held) if version.replaces(held_version) else (held, later)
    is_known = newer.attributes_version.remembers(older.attributes_version)
    older_ms = older.first_ms if is_known else older.registered_ms
    return replace(newer, first_ms=first_registration(newer.attributes_ms, newer.first_ms, older_ms))


def _user_of(message: Message) -> str | None:
    """Whose record it is; None for a key that is no user id."""
    try:
        return message.key.decode() if message.key else None
    except UnicodeDecodeError:
        return None
