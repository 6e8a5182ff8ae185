"""Which users there are, in a view of Feast's: Feast's API has no list of keys."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from features.online.feast_client import FeastClient
from features.online.layout import readable_nanos, texts_of
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.ports import Clock

VIEW, KEY = "user_directory", "page_id"
WRITERS = "writers"
"""The row that holds the name of every writer, oldest first."""
PAGE = 100
"""Users of a page."""
TRIES = 5
"""To stand in `WRITERS`, which others write too."""
LOOK_AHEAD = 8
"""Pages that must be missing in a row where a writer ends: one that was lost or damaged hides none behind it."""
_COLUMNS = ((VIEW, "entries"), (VIEW, None))


class UserDirectory:
    """Pages of user ids. Each writer, which is one open store of one process, has pages of its own.

    Page n of a writer is the row `<writer>/<n>`. So no two processes write the same page, which needs no
    compare-and-set. They share only the row of the writers: a name that another process wrote over there is put back
    with the writer's next users.
    """

    def __init__(self, client: FeastClient, now: Clock) -> None:
        self._client = client
        self._now = now
        self._writer = uuid4().hex
        self._number = -1
        self._page: list[str] = []
        self._at_us = 0
        self._turn = asyncio.Lock()

    async def add(self, users: Sequence[str]) -> None:
        """Returns once all of them stand in a page. Nothing is taken as written before it is."""
        if not users:
            return
        async with self._turn:
            number, page = self._number, list(self._page)
            pages: dict[str, list[str]] = {}
            for user in users:
                if number < 0 or len(page) == PAGE:
                    number, page = number + 1, []
                page.append(user)
                pages[f"{self._writer}/{number}"] = page
            await self._listed()
            self._at_us = at_us = max(self._at_us + 1, int(self._now() * 1_000_000))
            await self._client.write(VIEW, {KEY: list(pages), "entries": list(pages.values())}, [at_us] * len(pages))
            self._number, self._page = number, page

    async def walk(self, cursor: str, count: int) -> tuple[list[str], str | None]:
        """About `count` users from `cursor` on, and the next cursor; None at the end. See `OnlineStore.users`.

        A cursor is `writer number`, of the page that comes next. One of a writer that is not listed begins anew.
        """
        writers, _ = await self._writers()
        if not writers:
            return [], None
        writer, number = cursor.split(" ") if cursor else (writers[0], "0")
        if writer not in writers:
            writer, number = writers[0], "0"
        first, wanted = int(number), max(1, count // PAGE)
        looked = range(first, first + wanted + LOOK_AHEAD)
        rows = await self._client.read(_COLUMNS, KEY, [f"{writer}/{each}" for each in looked])
        pages = [texts_of(entries) for entries, _ in rows]
        users = [user for page in pages[:wanted] for user in page]
        last = max((place for place, (entries, _) in enumerate(rows) if entries is not None), default=-1)
        if last >= wanted:
            return users, f"{writer} {first + wanted}"
        later = writers[writers.index(writer) + 1 :]
        return users, f"{later[0]} 0" if later else None

    async def _listed(self) -> None:
        """Raises `Unavailable` where others wrote over the writer's name each time."""
        for _ in range(TRIES):
            writers, at_us = await self._writers()
            if self._writer in writers:
                return
            at_us = max(at_us + 1, int(self._now() * 1_000_000))
            await self._client.write(VIEW, {KEY: [WRITERS], "entries": [[*writers, self._writer]]}, [at_us])
        raise Unavailable("user directory", f"others wrote over the name of this writer {TRIES} times")

    async def _writers(self) -> tuple[list[str], int]:
        """Their names, and when the row was written (microseconds)."""
        ((entries, time),) = await self._client.read(_COLUMNS, KEY, [WRITERS])
        return list(texts_of(entries)), readable_nanos(time) // 1000
