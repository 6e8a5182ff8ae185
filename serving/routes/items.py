"""`POST /v1/items`: items that are new, or have other attributes."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response

from foretaste.kernel.events import MAX_ID
from foretaste.kernel.running.registered_items import RegisteredItems
from foretaste.kernel.service_ports import EventIntake
from serving.bodies import EventsAccepted, ItemBody, ItemRemoved, ItemsRegistered
from serving.idempotency import IdempotentRequests
from serving.routes.documented import WITH_BODY, IdempotencyKey, Wait, named_in_body, problems

_ITEM = {"item_id": "Gladiator II (2024)", "attributes": {"genre": "Action", "year": 2024}}
_EXAMPLES = {
    "one": {"summary": "One item", "value": _ITEM},
    "batch": {"summary": "A batch", "value": {"items": [_ITEM, _ITEM | {"item_id": "Anora (2024)"}]}},
}


def items_router(intake: EventIntake, items: RegisteredItems, idempotent: IdempotentRequests) -> APIRouter:
    """An item becomes an event on `item-registered`; a worker keeps it where every service finds it."""
    router = APIRouter(tags=["items"])

    @router.post(
        "/v1/items",
        status_code=202,
        response_model=EventsAccepted,
        responses=problems(*WITH_BODY, 409, 503),
        summary="Register one item or a batch",
    )
    async def register(
        request: Request,
        body: Annotated[ItemBody, Body(openapi_examples=_EXAMPLES)],
        wait: Wait = 0.0,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Answered once Kafka has acknowledged the events, or `wait` seconds later at most.

        From then on the item is ranked, and recommended, as items with its attributes are, until a refresh has learned
        of it. `readable` says whether the service that answers has read the registration. Registered again with other
        attributes, it has those; one that the active generation learned of is as that knows it.
        """
        batch = isinstance(body, ItemsRegistered)
        events = body.items if isinstance(body, ItemsRegistered) else [body]

        async def carry_out() -> EventsAccepted:
            with named_in_body("items", batch=batch):
                await intake.register_items(events)
            own = {each.item_id: each.attributes for each in events}
            return EventsAccepted(accepted=len(events), readable=await items.taken_in(own, wait) if wait else None)

        return await idempotent.answer(request, idempotency_key, carry_out, HTTPStatus.ACCEPTED)

    @router.delete(
        "/v1/items/{item_id:path}",
        status_code=202,
        response_model=ItemRemoved,
        responses=problems(409, 422, 503),
        summary="Take an item out",
    )
    async def remove(
        request: Request,
        item_id: Annotated[str, Path(min_length=1, max_length=MAX_ID, examples=["Anora (2024)"])],
        wait: Wait = 0.0,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Answered once Kafka has acknowledged the event, or `wait` seconds later at most.

        What was registered of the item is forgotten. One that the active generation learned of stays as that knows it:
        deny it in requests.
        """

        async def carry_out() -> ItemRemoved:
            await intake.remove_item(item_id)
            return ItemRemoved(gone=await items.taken_in({item_id: None}, wait) if wait else None)

        return await idempotent.answer(request, idempotency_key, carry_out, HTTPStatus.ACCEPTED)

    return router
