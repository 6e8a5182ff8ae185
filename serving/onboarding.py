"""Questions to a new user: which to ask next, and the sign-up that carries the answers."""

from dataclasses import dataclass

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import UserRegistered
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.running.answers import AsksQuestions, answered, with_answers, with_kept_answers
from foretaste.kernel.values import ANSWERED
from serving.active import ActiveGeneration
from serving.bodies import OnboardRequest, OnboardResponse


@dataclass(frozen=True, slots=True)
class OnboardStep:
    """One exchange with a user: what is sent, None where nothing was said, and what is asked next."""

    event: UserRegistered | None
    response: OnboardResponse


class Onboarding:
    """The questions of the active generation, and answers as part of a user's attributes.

    A worker makes virtual behaviour of attributes and answers together, so that the next ranking reads both, and a
    later generation makes it anew of both.
    """

    def __init__(self, store: OnlineStore, towers: AsksQuestions, active: ActiveGeneration) -> None:
        self._store = store
        self._towers = towers
        self._active = active

    async def step(self, request: OnboardRequest) -> OnboardStep | None:
        """What a request says, and what is asked next.

        1. What the active generation asks; an answer to something else is refused.
        2. What is stored of the user.
        3. The attributes with all answers so far; what was not answered yet, nor acted on, is asked next.

        None for a user of whom neither the request nor the store has attributes. Raises `InvalidInput` that names the
        item of an answer that no question asked for, and `Unavailable`.
        """
        generation = await self._active.get()
        asked = await self._towers.questions(generation.number)  # 1
        for item in request.answers:
            if item not in asked:
                problem = f"an answer about an item that generation {generation.number} does not ask about"
                raise InvalidInput("answers", item, problem)
        (stored,) = await self._store.read([request.user_id], generation.number)  # 2
        given = stored.attributes if request.attributes is None else request.attributes
        if given is None:
            return None
        attributes = with_answers(with_kept_answers(given, stored.attributes), request.answers)  # 3
        known = {item for name in ANSWERED for item in answered(attributes, name)}
        left = [item for item in asked if item not in known and item not in stored.behaviour.items]
        event = None
        if request.answers or request.attributes is not None:
            event = UserRegistered(user_id=request.user_id, attributes=attributes, event_id=request.event_id)
        response = OnboardResponse(
            user_id=request.user_id,
            generation=generation.number,
            items=left[: request.questions],
            answered=len(known),
        )
        return OnboardStep(event, response)
