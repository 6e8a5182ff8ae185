"""`POST /v1/onboard`: a few questions to a new user, and the answers."""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from foretaste.kernel.service_ports import EventIntake
from serving.bodies import OnboardRequest, OnboardResponse
from serving.idempotency import IdempotentRequests
from serving.onboarding import Onboarding, OnboardStep
from serving.routes.documented import WITH_BODY, IdempotencyKey, Wait, named_in_body, problems
from serving.users import StoredUsers

_EXAMPLES = {
    "ask": {"summary": "A user who signs up", "value": {"user_id": "anna", "attributes": {"gender": "F", "age": 25}}},
    "answer": {
        "summary": "Answers, and what to ask next",
        "value": {"user_id": "anna", "answers": {"Heat (1995)": True, "Toy Story (1995)": False}, "questions": 3},
    },
}


def onboard_router(
    onboarding: Onboarding, intake: EventIntake, users: StoredUsers, idempotent: IdempotentRequests
) -> APIRouter:
    """Answers become events on `user-behaved`, attributes one on `user-registered`."""
    router = APIRouter(tags=["users"])

    @router.post(
        "/v1/onboard",
        response_model=OnboardResponse,
        responses=problems(*WITH_BODY, 409, 503),
        summary="Ask a new user, and take the answers",
    )
    async def onboard(
        request: Request,
        body: Annotated[OnboardRequest, Body(openapi_examples=_EXAMPLES)],
        wait: Wait = 0.0,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Whether the user likes a few items, those whose answers tell most of the taste.

        Answered once Kafka has acknowledged what was said, or `wait` seconds later at most. A generation that learned
        nothing from such answers asks nothing.
        """

        async def carry_out() -> OnboardResponse:
            step = await onboarding.step(body, partial(idempotent.event_id, request, idempotency_key))
            with named_in_body("users", batch=False):
                await intake.register(step.registrations)
                await intake.behave(step.answers)
            return step.response.model_copy(update={"readable": await _readable(users, step, wait)})

        return await idempotent.answer(request, idempotency_key, carry_out, HTTPStatus.OK)

    return router


async def _readable(users: StoredUsers, step: OnboardStep, wait: float) -> bool | None:
    """As `OnboardResponse.readable`."""
    if not wait or not (step.registrations or step.answers):
        return None
    both = users.registered(step.registrations, wait), users.behaved(step.answers, wait)
    return all(await asyncio.gather(*both))
