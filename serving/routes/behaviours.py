"""`POST /v1/behaviours`: what users did."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from foretaste.kernel.service_ports import EventIntake
from serving.bodies import BehaviourBody, EventsAccepted, UsersBehaved
from serving.idempotency import IdempotentRequests
from serving.routes.documented import WITH_BODY, IdempotencyKey, Wait, named_in_body, problems
from serving.users import StoredUsers

_ACT = {"user_id": "anna", "item_id": "Heat (1995)", "action": "rated-5", "at": "2025-12-31T12:00:00Z"}
_EXAMPLES = {
    "one": {"summary": "One behaviour", "value": _ACT},
    "batch": {"summary": "A batch", "value": {"behaviours": [_ACT, _ACT | {"item_id": "Toy Story (1995)"}]}},
}


def behaviours_router(intake: EventIntake, users: StoredUsers, idempotent: IdempotentRequests) -> APIRouter:
    """A behaviour becomes an event on `user-behaved`; a worker appends it to what the user did before."""
    router = APIRouter(tags=["behaviours"])

    @router.post(
        "/v1/behaviours",
        status_code=202,
        response_model=EventsAccepted,
        responses=problems(*WITH_BODY, 409, 503),
        summary="Send one behaviour or a batch",
    )
    async def behave(
        request: Request,
        body: Annotated[BehaviourBody, Body(openapi_examples=_EXAMPLES)],
        wait: Wait = 0.0,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Answered once Kafka has acknowledged the events, or `wait` seconds later at most.

        A behaviour that names its ranking (`ranking_id`) is that ranking's outcome. One that comes again under the same
        `event_id`, or without any but of the same item, action and time, is applied once.
        """
        batch = isinstance(body, UsersBehaved)
        events = body.behaviours if isinstance(body, UsersBehaved) else [body]

        async def carry_out() -> EventsAccepted:
            with named_in_body("behaviours", batch=batch):
                await intake.behave(events)
            readable = await users.behaved(events, wait) if wait else None
            return EventsAccepted(accepted=len(events), readable=readable)

        return await idempotent.answer(request, idempotency_key, carry_out, HTTPStatus.ACCEPTED)

    return router
