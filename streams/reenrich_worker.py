"""The way of re-enrichment: virtual behaviour of a new generation for users that have signed up already. Only ports."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from aiolimiter import AsyncLimiter

from foretaste.kernel.events import DeadLetter, Message, ReenrichUsers
from foretaste.kernel.generations import Generation
from foretaste.kernel.users import ReenrichedUser, VirtualBehaviour
from streams.decoding import decode_page
from streams.parts import SignUpParts
from streams.shares import each_share
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics
from streams.zero_shot import finite, virtual_behaviour

SHARE = 256
"""Users of one read, one call and one write: few enough that a sign-up waits for them some milliseconds."""
LARGEST_SHARE = SHARE * 3 // 2
"""Users of a share at most, where a few are left over."""
AT_ONCE = 3
"""Shares on their way: while the tower computes one, the next is read and the one before is written."""


class Pages:
    """Handles batches of `user-reenrich` messages, each a page of users, each call one batch.

    1. Every message is decoded; a bad one becomes a dead letter. One read tells which generations are in use: users of
       a page for another one (rolled back, retired) are dropped. The others go on in shares of `SHARE` users, `AT_ONCE`
       at a time, at `pace`.
    2. One read of a share's users, with the slot of the generation.
    3. A user that is warm for it, has current virtual behaviour of it or is unknown is left out.
    4. One call of the zero-shot tower, pinned to it, for the others.
    5. The answer is checked: another shape stops the batch, what is not finite is left to a read repair. The others'
       virtual behaviour is written in one write, as of one millisecond after what was read; the store takes none that
       was made from attributes that are others by now.
    6. The dead letters are produced; on return the messages may be acknowledged.

    Stopped anywhere, all may be done again: a user that was written is left out then. Raises `Unavailable` when a part
    is away.
    """

    def __init__(
        self, parts: SignUpParts, dead_letters: DeadLetters, metrics: Metrics, *, pace: AsyncLimiter | None = None
    ) -> None:
        self._parts = parts
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._pace = pace

    async def __call__(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 6 for one batch."""
        decoded = [decode_page(message) for message in messages]  # 1
        pages = [each for each in decoded if isinstance(each, ReenrichUsers)]
        if pages:
            await self._fill(pages)  # 2 to 5
        await self._dead_letters.keep([each for each in decoded if isinstance(each, DeadLetter)])  # 6

    async def _fill(self, pages: Sequence[ReenrichUsers]) -> None:
        serving = await self._parts.generations.serving()
        used = serving.in_use
        for number, generation_shares in _by_generation(pages).items():
            if number in used:
                await each_share(partial(self._fill_share, generation=used[number]), generation_shares, AT_ONCE)
            else:
                self._metrics.reenriched.labels("dropped").inc(sum(map(len, generation_shares)))

    async def _fill_share(self, user_ids: Sequence[str], generation: Generation) -> None:
        if self._pace is not None:
            await self._pace.acquire(len(user_ids))
        users = await self._parts.store.read(user_ids, generation.number)  # 2
        lacking = [user for user in users if generation.lacks(user)]  # 3
        attributes = [user.attributes or {} for user in lacking]
        vectors = await virtual_behaviour(self._parts.towers, attributes, generation)  # 4
        made = [  # 5
            ReenrichedUser.after(user, VirtualBehaviour(generation.number, virtual))
            for user, virtual, good in zip(lacking, vectors, finite(vectors), strict=True)
            if good
        ]
        refused = await self._parts.store.write_virtual(made) if made else ()
        unknown = sum(user.attributes is None for user in users)
        counted = {
            "made": len(made) - len(refused),
            "refused": len(refused),
            "non_finite": len(lacking) - len(made),
            "unknown": unknown,
            "not_needed": len(users) - len(lacking) - unknown,
        }
        for outcome, count in counted.items():
            self._metrics.reenriched.labels(outcome).inc(count)


def _by_generation(pages: Sequence[ReenrichUsers]) -> dict[int, list[Sequence[str]]]:
    """The users of the pages by generation, in shares, each user once."""
    of_generation: defaultdict[int, dict[str, None]] = defaultdict(dict)
    for page in pages:
        of_generation[page.generation].update(dict.fromkeys(page.user_ids))
    return {number: shares(list(users)) for number, users in of_generation.items()}


def pace_of(rate: float) -> AsyncLimiter:
    """At most `rate` users a second, evenly spread but for a first share. What waits can be cancelled."""
    return AsyncLimiter(LARGEST_SHARE, LARGEST_SHARE / rate)


def shares(users: Sequence[str]) -> list[Sequence[str]]:
    """All of them, about `SHARE` at a time, and evenly: a rest of a few users costs a read, a call and a write too."""
    count = max(1, round(len(users) / SHARE))
    ends = [len(users) * each // count for each in range(count + 1)]
    return [users[start:end] for start, end in pairwise(ends)]
