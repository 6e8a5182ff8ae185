"""The asynchronous client: the blocking one's calls, awaited."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

import httpx
from tenacity import AsyncRetrying

from foretaste.client import calls
from foretaste.client.calls import Call
from foretaste.client.tries import TryPolicy
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.running.registered_items import ItemRegistered
from foretaste.kernel.values import MISSING_ACTION, Attributes
from serving.bodies import (
    ErasureAccepted,
    EventsAccepted,
    GenerationEntry,
    ItemRemoved,
    OnboardResponse,
    RollbackDone,
    StoredUser,
)
from serving.requests import RankResponse

T = TypeVar("T")


class AsyncForetaste:
    """The HTTP service at `url`, as the holder of `token`. It belongs to one event loop; close it, or
    use `async with`.

    Every call raises `RequestRefused` for a request that is wrong or not allowed, and `ServiceAway` where there was no
    answer within the deadline; what may succeed later is tried again until then. `UnreadableAnswer` is for what
    something else answered.
    """

    def __init__(self, url: str, token: str | None = None, *, tries: TryPolicy | None = None) -> None:
        self._url = calls.address(url)
        self._tries = tries or TryPolicy()
        self._client = httpx.AsyncClient(base_url=self._url, headers=calls.standing_headers(token))

    async def rank(
        self,
        user_id: str,
        items: Sequence[str],
        *,
        context: Attributes | None = None,
        shown: int | None = None,
        vouched: bool = False,
    ) -> RankResponse:
        """The candidates, best first. `shown` is how many of them the user gets to see, which training learns from:
        the service's own number where None, none where 0. `vouched`: the user is real, and so
        teaches, though nothing was registered."""
        return await self._answer(calls.rank_call(user_id, items, context, shown, vouched=vouched))

    async def register(
        self,
        user_id: str,
        attributes: Attributes,
        *,
        registered_at: datetime | None = None,
        event_id: str | None = None,
        wait: float = 0.0,
    ) -> EventsAccepted:
        """Sign a user up. With `wait` (seconds), until a ranking can read it; `readable` then says whether it can.

        Called again with the same `event_id` it is carried out once."""
        return await self.register_many([calls.registration(user_id, attributes, registered_at, event_id)], wait=wait)

    async def register_many(self, events: Sequence[UserRegistered], *, wait: float = 0.0) -> EventsAccepted:
        """Sign up to 1000 users up at once."""
        return await self._answer(calls.register_call(events, wait))

    async def onboard(
        self,
        user_id: str,
        answers: Mapping[str, bool | None] | None = None,
        *,
        attributes: Attributes | None = None,
        questions: int = 5,
        wait: float = 0.0,
    ) -> OnboardResponse:
        """Tell what a new user answered about items (None skips one), and get up to so many to ask about next.

        `attributes` sign the user up with it. With `wait` (seconds), until a ranking can read it, as in `register`."""
        return await self._answer(calls.onboard_call(calls.onboarding(user_id, answers, attributes, questions), wait))

    async def behave(
        self,
        user_id: str,
        item_id: str,
        *,
        action: str = MISSING_ACTION,
        at: datetime | None = None,
        ranking_id: str | None = None,
        event_id: str | None = None,
        passed_over: Sequence[str] = (),
        wait: float = 0.0,
    ) -> EventsAccepted:
        """Tell what a user did, now where `at` is None; `ranking_id` is of the ranking that it answers, and
        `passed_over` are items that were shown and not chosen, the one that was looked at last at the end.

        Called again with the same `event_id` it is applied once, though `at` may be another time by then."""
        act = calls.act(user_id, item_id, action, at, ranking_id=ranking_id, event_id=event_id, passed_over=passed_over)
        return await self.behave_many([act], wait=wait)

    async def behave_many(self, events: Sequence[UserBehaved], *, wait: float = 0.0) -> EventsAccepted:
        """Up to 1000 behaviours at once."""
        return await self._answer(calls.behave_call(events, wait))

    async def register_item(
        self, item_id: str, attributes: Attributes, *, registered_at: datetime | None = None, wait: float = 0.0
    ) -> EventsAccepted:
        """Register an item. With `wait` (seconds), until the service has read it; `readable` then says whether it has.
        From then on it ranks the item by its attributes."""
        return await self.register_items([calls.item(item_id, attributes, registered_at)], wait=wait)

    async def register_items(self, events: Sequence[ItemRegistered], *, wait: float = 0.0) -> EventsAccepted:
        """Register up to 1000 items at once."""
        return await self._answer(calls.items_call(events, wait))

    async def remove_item(self, item_id: str, *, wait: float = 0.0) -> ItemRemoved:
        """Take a registered item out. With `wait` (seconds), until the service has; `gone` then says whether."""
        return await self._answer(calls.remove_item_call(item_id, wait))

    async def user(self, user_id: str) -> StoredUser | None:
        """All that is stored of a user; None where nothing is."""
        return await self._answer(calls.user_call(user_id))

    async def erase(self, user_id: str, *, wait: float = 0.0) -> ErasureAccepted:
        """Erase a user. With `wait` (seconds), until the online store has nothing of it; `gone` then says whether."""
        return await self._answer(calls.erase_call(user_id, wait))

    async def generations(self) -> list[GenerationEntry]:
        """Every generation, in order of their numbers."""
        return await self._answer(calls.generations_call())

    async def rollback(self, *, expected: int | None = None, reason: str | None = None) -> RollbackDone:
        """Point all readers back to the previous generation, if `expected` is the active one (None: whichever)."""
        return await self._answer(calls.rollback_call(expected, reason))

    async def ready(self) -> bool:
        """Whether requests would be answered."""
        return await self._answer(calls.ready_call())

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _answer(self, call: Call[T]) -> T:
        began = time.monotonic()
        answer: T = await AsyncRetrying(**self._tries.rules(call), reraise=True)(self._tried, call, began)
        return answer

    async def _tried(self, call: Call[T], began: float) -> T:
        seconds = self._tries.seconds_left(call, time.monotonic() - began)
        try:
            answer = await self._client.request(
                call.method,
                call.path,
                content=call.content,
                params=call.params,
                headers=call.headers,
                timeout=seconds,
            )
        except httpx.TransportError as error:
            raise calls.away(error, self._url) from error
        return call.read(answer)
