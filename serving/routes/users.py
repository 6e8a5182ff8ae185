"""`/v1/users`: sign-ups, what is stored of a user, and its erasure."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response
from starlette.exceptions import HTTPException

from foretaste.kernel.events import MAX_ID, UserErased
from foretaste.kernel.service_ports import EventIntake
from serving.bodies import ErasureAccepted, EventsAccepted, SignUpBody, StoredUser, UsersRegistered
from serving.idempotency import IdempotentRequests
from serving.routes.documented import WITH_BODY, IdempotencyKey, Wait, named_in_body, problems
from serving.users import StoredUsers

_ANNA = {"user_id": "anna", "attributes": {"gender": "F", "age": 25}}
_EXAMPLES = {
    "one": {"summary": "One user", "value": _ANNA},
    "batch": {"summary": "A batch", "value": {"users": [_ANNA, {"user_id": "ben", "attributes": {"age": 41}}]}},
}


def users_router(intake: EventIntake, users: StoredUsers, idempotent: IdempotentRequests) -> APIRouter:
    """A sign-up becomes an event on `user-registered`; a worker makes virtual behaviour of it."""
    router = APIRouter(tags=["users"])

    @router.post(
        "/v1/users",
        status_code=202,
        response_model=EventsAccepted,
        responses=problems(*WITH_BODY, 409, 503),
        summary="Sign up one user or a batch",
    )
    async def register(
        request: Request,
        body: Annotated[SignUpBody, Body(openapi_examples=_EXAMPLES)],
        wait: Wait = 0.0,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Answered once Kafka has acknowledged the events, or `wait` seconds later at most.

        A sign-up without an `event_id` gets one of the `Idempotency-Key`, where there is one.
        """
        batch = isinstance(body, UsersRegistered)
        events = [
            event
            if event.event_id is not None
            else event.model_copy(update={"event_id": idempotent.event_id(request, idempotency_key, place)})
            for place, event in enumerate(body.users if isinstance(body, UsersRegistered) else [body])
        ]

        async def carry_out() -> EventsAccepted:
            with named_in_body("users", batch=batch):
                await intake.register(events)
            readable = await users.registered(events, wait) if wait else None
            return EventsAccepted(accepted=len(events), readable=readable)

        return await idempotent.answer(request, idempotency_key, carry_out, HTTPStatus.ACCEPTED)

    @router.get(
        "/v1/users/{user_id:path}",
        responses=problems(404, 422, 503),
        summary="All that is stored of a user",
    )
    async def read(
        user_id: Annotated[str, Path(min_length=1, max_length=MAX_ID, examples=["anna"])],
    ) -> StoredUser:
        """Attributes, behaviour, virtual behaviour, the user's stage, and the active generation."""
        found = await users.read(user_id)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND.value, f"nothing is stored of the user {user_id[:80]!r}")
        return found

    @router.delete(
        "/v1/users/{user_id:path}",
        status_code=202,
        response_model=ErasureAccepted,
        responses=problems(409, 422, 503),
        summary="Erase a user",
    )
    async def erase(
        request: Request,
        user_id: Annotated[str, Path(min_length=1, max_length=MAX_ID, examples=["anna"])],
        wait: Wait = 0.0,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Answered once Kafka has acknowledged the event, or `wait` seconds later at most.

        All that is known of the user goes: what the online store has within a second, what the training log has by its
        next compaction. A later sign-up begins anew.
        """
        event = UserErased(user_id=user_id, event_id=idempotent.event_id(request, idempotency_key, 0))

        async def carry_out() -> ErasureAccepted:
            with named_in_body("users", batch=False):
                await intake.erase(event)
            return ErasureAccepted(gone=await users.erased(event, wait) if wait else None)

        return await idempotent.answer(request, idempotency_key, carry_out, HTTPStatus.ACCEPTED)

    return router
