"""The erasure of a user: what the parts that hold users do for it, as Protocols beside those of `foretaste.kernel.ports`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.users import AttributesVersion, UserFeatures


@dataclass(frozen=True, slots=True)
class ErasedUser:
    """A user that is to be erased, and the erasure's place in the order of the user's registrations."""

    user_id: str
    version: AttributesVersion


class ErasingStore(OnlineStore, Protocol):
    """An online store that can erase users."""

    async def erase(self, users: Sequence[ErasedUser]) -> list[str]:
        """Forget attributes, behaviour and virtual behaviour of B users; the ids of those who registered anew since.

        A registration that the erasure does not replace (`AttributesVersion.replaces`) stays, with all that is stored
        of its user. Looking and erasing are two steps. Through Feast's API alone the user's key stays, with empty
        values.
        """
        ...


def registered_anew(stored: UserFeatures, erased: ErasedUser) -> bool:
    """Whether the stored registration is later than the erasure."""
    return stored.attributes is not None and not erased.version.replaces(stored.attributes_version)
