"""Users of the online store by stage, counted a few hundred at a time by whoever looks."""

from collections import Counter

from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.users import Stage, UserFeatures
from serving.console.bodies import UserCounts

USERS, PAGES = 500, 8
"""Of one look, about: about 10 ms of Redis."""
_VIRTUAL = "virtual"


class UserCensus:
    """Walks over all users, some pages a look, and begins again at the end.

    A small store is told whole at each look; of a larger one, the counts of the last whole walk stand until the next
    one has ended, and before the first has, what it came across. Whom a walk meets on two pages counts twice.
    """

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._generation: int | None = None
        self._cursor = ""
        self._counting: Counter[str] = Counter()
        self._whole: Counter[str] | None = None

    async def look(self, generation: Generation) -> UserCounts:
        """The counts after some more pages. Raises `Unavailable`; the next look goes on where this one stopped."""
        if generation.number != self._generation:  # stages and current virtual behaviour are the generation's
            self._begin()
            self._generation, self._whole = generation.number, None
        read = 0
        for _ in range(PAGES):
            read += await self._page(generation)
            if read >= USERS or not self._cursor:
                break
        return _shown(self._counting, whole=False) if self._whole is None else _shown(self._whole, whole=True)

    async def _page(self, generation: Generation) -> int:
        """Count one page; how many users it had. The cursor is "" once the walk has ended."""
        ids, cursor = await self._store.users(self._cursor, USERS)
        users = await self._store.read(list(dict.fromkeys(ids)), generation.number) if ids else []
        for user in users:
            self._counting.update(_counted(user, generation))
        self._cursor = cursor or ""
        if cursor is None:
            self._whole = self._counting
            self._begin()
        return len(users)

    def _begin(self) -> None:
        self._cursor, self._counting = "", Counter()


def _counted(user: UserFeatures, generation: Generation) -> list[str]:
    stage = generation.stage(len(user.behaviour.acts))
    needed = stage is not Stage.WARM and generation.virtual_of(user) is not None
    return [stage.value, _VIRTUAL] if needed else [stage.value]


def _shown(counted: Counter[str], *, whole: bool) -> UserCounts:
    of_stage = {stage.value: counted[stage.value] for stage in Stage}
    return UserCounts(users=sum(of_stage.values()), virtual=counted[_VIRTUAL], whole=whole, **of_stage)
