"""Re-enrichment as a whole: every cold or warming user of the store gets virtual behaviour of a new generation."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import ReenrichUsers
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Backlog, Clock, Coverage, Progress
from streams.codec import EVENTS
from streams.parts import SignUpParts
from streams.reenrich_worker import SHARE, shares

Report = Callable[[int, int | None], object]
"""Called with the users walked so far, and about how many there are (None: nobody counted them yet)."""
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ReenrichmentConfig:
    """How a re-enrichment goes on. Times are in seconds."""

    pages: int = 4
    """Events of `SHARE` users that one step of the walk sends."""
    grace: float = 3.0
    """Between the start of filling and the walk: batches of sign-ups that know nothing of it end meanwhile."""
    rounds: int = 3
    """Walks that look for users that still lack virtual behaviour, at most."""
    tolerated: float = 0.0
    """The share of users that may lack it in the end: those whose virtual behaviour is not finite always will."""
    look_every: float = 0.2
    """Between two looks at what the workers have not handled yet."""
    patience: float = 120.0
    """For the workers, while they handle nothing."""


@dataclass(frozen=True, slots=True)
class _State:
    """Round 0 sends every user; each later one counts and sends the users that still lack virtual behaviour."""

    round: int = 0
    cursor: str | None = ""
    """None once the walk is over."""
    users: int = 0
    missing: int = 0
    before: int | None = None
    """Users of the round before."""


class Reenrichment:
    """Re-enriches all users for one generation, over the workers. One at a time, which whoever runs it sees to.

    1. The generation starts filling: from then on sign-ups get its virtual behaviour too. A grace passes.
    2. The store is walked. A step reads the next users, sends them in pages, which Kafka spreads over its partitions,
       and then keeps its cursor. Whoever is killed goes on from there, and sends one step again at most; but from the
       beginning where the generation has stopped filling since.
    3. Once the workers have acknowledged every page, another walk counts the users that still lack it (somebody
       wrote at the same moment, a page became a dead letter) and sends those again.
    4. Done when none is missing. What was kept of the walk is forgotten.

    Memory does not grow with the number of users. Raises `Unavailable` when a part is away (running again goes on),
    when the workers handle nothing for `patience` seconds, when the generation stops filling meanwhile, and when users
    are still missing after `rounds`; `InvalidInput` as `Generations.fill` does.
    """

    def __init__(
        self,
        parts: SignUpParts,
        progress: Progress,
        backlog: Backlog,
        *,
        topic: str,
        config: ReenrichmentConfig | None = None,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._store = parts.store
        self._generations = parts.generations
        self._events = parts.events
        self._progress = progress
        self._backlog = backlog
        self._topic = topic
        self._config = config or ReenrichmentConfig()
        self._clock = clock
        self._sleep = sleep

    async def run(self, number: int, report: Report = lambda done, total: None) -> Coverage:
        """All of it for generation `number`, or the rest of it where another run was cut short."""
        generation, goes_on = await self._started(number)  # 1
        kept = await self._progress.read(number) if goes_on else None
        if kept is None:
            await self._sleep(self._config.grace)
        state = _State() if kept is None else _State(**json.loads(kept))
        while True:
            state = await self._walk(generation, state, report)  # 2
            if state.round > 0 and state.missing <= self._config.tolerated * state.users:
                break
            await self._handled(number)  # 3
            if state.round >= self._config.rounds:
                await self._progress.forget(number)
                problem = f"{state.missing} of {state.users} users still lack virtual behaviour of generation {number}"
                raise Unavailable("re-enrichment", f"{problem} after {state.round} rounds")
            state = _State(round=state.round + 1, before=state.users)
        await self._progress.forget(number)  # 4
        return Coverage(state.users, state.missing, state.round)

    async def _started(self, number: int) -> tuple[Generation, bool]:
        """The generation, and whether it was in use already: where filling ended meanwhile, others may have written in
        its slot since, and a walk that was cut short counts for nothing."""
        generation = await self._generations.get(number)
        if generation is None:
            raise InvalidInput("generation", number, "expected a recorded generation")
        serving = await self._generations.serving()
        if serving.active is None or serving.active.number != number:
            await self._generations.fill(number)
        return generation, number in serving.in_use

    async def _walk(self, generation: Generation, state: _State, report: Report) -> _State:
        while state.cursor is not None:
            users, cursor = await self._store.users(state.cursor, self._config.pages * SHARE)
            wanted = users if state.round == 0 else await self._lacking(users, generation)
            await self._send(wanted, generation.number)
            missing = state.missing + (len(wanted) if state.round else 0)
            state = replace(state, cursor=cursor, users=state.users + len(users), missing=missing)
            await self._progress.write(generation.number, json.dumps(asdict(state)))
            report(state.users, state.before)
            await self._check_in_use(generation.number)  # else pages are dropped, and walks count in vain
        return state

    async def _lacking(self, users: Sequence[str], generation: Generation) -> list[str]:
        read = [await self._store.read(share, generation.number) for share in shares(users)]
        return [user.user_id for share in read for user in share if generation.lacks(user)]

    async def _send(self, users: Sequence[str], number: int) -> None:
        events = [ReenrichUsers(generation=number, user_ids=tuple(page)) for page in shares(users) if page]
        await self._events.send_all(self._topic, [(None, EVENTS.encode(event)) for event in events])

    async def _handled(self, number: int) -> None:
        """Returns once the workers have acknowledged every page."""
        least, since = await self._backlog.remaining(), self._clock()
        remaining = least
        while remaining:
            await self._check_in_use(number)
            if self._clock() - since > self._config.patience:
                problem = f"have handled none of {remaining} pages for {self._config.patience:g} s"
                raise Unavailable("workers", problem)
            await self._sleep(self._config.look_every)
            remaining = await self._backlog.remaining()
            if remaining < least:
                least, since = remaining, self._clock()

    async def _check_in_use(self, number: int) -> None:
        serving = await self._generations.serving()
        if number not in serving.in_use:
            raise Unavailable("re-enrichment", f"generation {number} is not filling any more")
