"""Questions to a new user: which to ask next, and the events that carry the answers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.ports import Clock, OnlineStore
from foretaste.kernel.service_ports import AsksQuestions
from foretaste.kernel.users import Stage
from foretaste.kernel.values import ANSWERS
from serving.active import ActiveGeneration
from serving.bodies import OnboardRequest, OnboardResponse

ACTION = {is_yes: action for action, is_yes in ANSWERS.items()}
"""Of the behaviour that an answer is, by whether it says yes."""


def no_event_id(_place: int) -> None:
    """Events without ids of their own."""


@dataclass(frozen=True, slots=True)
class OnboardStep:
    """One exchange with a user: the events of what was said, and what is asked next."""

    registrations: Sequence[UserRegistered]
    answers: Sequence[UserBehaved]
    response: OnboardResponse


class Onboarding:
    """The questions of the active generation; an answer is a behaviour of an action of its own.

    So the store keeps it and a ranking reads it as it does any behaviour: in order, once, until an erasure. `now` is in
    seconds since the epoch.
    """

    def __init__(
        self, store: OnlineStore, towers: AsksQuestions, active: ActiveGeneration, now: Clock = time.time
    ) -> None:
        self._store = store
        self._towers = towers
        self._active = active
        self._now = now

    async def step(self, request: OnboardRequest, event_id: Callable[[int], str | None] = no_event_id) -> OnboardStep:
        """What a request says, and what is asked next.

        1. An answer about an item that the active generation does not know is refused.
        2. What the user answered, skipped just now, or acted on is not asked again, and a warm user nothing.
        3. Answers become behaviours of this moment, attributes a sign-up. `event_id` names each, by its place.

        Raises `InvalidInput` that names the unknown items, and `Unavailable`.
        """
        generation = await self._active.get()
        said = [item for item, is_yes in request.answers.items() if is_yes is not None]
        unknown = await self._towers.unknown(said, generation.number)  # 1
        if unknown:
            raise InvalidInput("answers", unknown, f"generation {generation.number} knows no such item")
        asked = await self._towers.questions(generation.number)  # 2
        (stored,) = await self._store.read([request.user_id], generation.number)
        behaviour = stored.behaviour
        answered = {item for item, action, _ in behaviour.rows if action in ANSWERS}
        answered |= set(said)
        known = answered | request.answers.keys() | set(behaviour.acts.items)
        is_warm = generation.stage(len(behaviour.acts)) is Stage.WARM
        response = OnboardResponse(
            user_id=request.user_id,
            generation=generation.number,
            items=[] if is_warm else [item for item in asked if item not in known][: request.questions],
            answered=len(answered),
        )
        return OnboardStep(self._registrations(request, event_id), self._answers(request, event_id), response)  # 3

    def _registrations(
        self, request: OnboardRequest, event_id: Callable[[int], str | None]
    ) -> Sequence[UserRegistered]:
        if request.attributes is None:
            return []
        return [UserRegistered(user_id=request.user_id, attributes=request.attributes, event_id=event_id(0))]

    def _answers(self, request: OnboardRequest, event_id: Callable[[int], str | None]) -> Sequence[UserBehaved]:
        at = datetime.fromtimestamp(self._now(), UTC)
        said = [(item, is_yes) for item, is_yes in request.answers.items() if is_yes is not None]
        return [
            UserBehaved(user_id=request.user_id, item_id=item, at=at, action=ACTION[is_yes], event_id=event_id(place))
            for place, (item, is_yes) in enumerate(said, 1)
        ]
