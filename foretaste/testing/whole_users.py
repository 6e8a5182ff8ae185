"""The in-memory store that also takes users whole."""

from collections.abc import Sequence

from foretaste.kernel.users import BehavedUser, EnrichedUser, ReenrichedUser, UserFeatures
from foretaste.testing.features import InMemoryOneStepStore, InMemoryOnlineStore


class InMemoryWholeUserStore(InMemoryOneStepStore):
    """`InMemoryOneStepStore` with `WholeUserStore` beside it, as Redis has both."""

    async def write_whole(self, users: Sequence[UserFeatures]) -> list[str]:
        left_out: list[str] = []
        for user in users:
            if self._holds(user.user_id):
                left_out.append(user.user_id)
                continue
            version = user.attributes_version
            if user.attributes is not None:
                row = EnrichedUser(
                    user.user_id, user.attributes, None, version.at_ms, version.place, version.digests, user.first_ms
                )
                await InMemoryOnlineStore.write_enriched(self, [row])
            if len(user.behaviour):
                await InMemoryOnlineStore.write_behaviour(
                    self, [BehavedUser(user.user_id, user.behaviour, applied=user.applied)]
                )
            if user.virtual is not None:
                virtual = ReenrichedUser(user.user_id, user.virtual, user.virtual_ms)
                await InMemoryOnlineStore.write_virtual(self, [virtual])
        return left_out
