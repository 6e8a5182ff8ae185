"""The keys of users in Redis, Feast's own: the entity key and the project. What all users share is made once."""

import re
import struct

from features.feast_api import EntityKey, Value

# `feast_api` goes first: it imports Feast without what that does besides
# isort: split
from feast.infra.online_stores.helpers import _redis_key

_LENGTH = struct.Struct("<I")


class Keys:
    """The keys of a project's users."""

    def __init__(self, project: str) -> None:
        nobody = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val="")])
        self._project = project.encode()
        self._head = _redis_key(project, nobody).removesuffix(self._project)[: -_LENGTH.size]

    def of(self, user_id: str) -> bytes:
        """What Feast's `_redis_key` says of this user."""
        value = user_id.encode()
        return b"".join((self._head, _LENGTH.pack(len(value)), value, self._project))

    def user_of(self, key: bytes) -> str | None:
        """Whose key it is; None for any other key, one of another project among them."""
        start = len(self._head) + _LENGTH.size
        if len(key) < start or not key.startswith(self._head):
            return None
        end = start + _LENGTH.unpack_from(key, len(self._head))[0]
        if key[end:] != self._project or end > len(key):
            return None
        try:
            return key[start:end].decode()
        except UnicodeDecodeError:
            return None

    @property
    def offsets(self) -> bytes:
        """A hash: how far each partition's events have had their effects."""
        return b"{%b}:offsets" % self._project

    @property
    def syncs(self) -> bytes:
        """A number that is written to wait for the disk behind it."""
        return b"{%b}:syncs" % self._project

    @property
    def pattern(self) -> bytes:
        """A glob that all of them match, and few others."""
        return b"*".join(re.sub(rb"([*?\[\]\\^])", rb"\\\1", part) for part in (self._head, self._project))
