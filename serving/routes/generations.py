"""`/v1/generations`: what there is of generations, and the way back to the one before."""

import logging
from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.service_ports import GenerationAdmin
from serving.access.access_control import caller_of
from serving.bodies import GenerationEntry, GenerationList, RollbackDone, RollbackRequest
from serving.routes.documented import WITH_BODY, problems

log = logging.getLogger(__name__)


def generations_router(generations: GenerationAdmin) -> APIRouter:
    """What `foretaste generations list` and `rollback` do, over HTTP."""
    router = APIRouter(tags=["generations"])

    @router.get("/v1/generations", responses=problems(503), summary="Every generation, and which one serves")
    async def summaries() -> GenerationList:
        found = await generations.summaries()
        return GenerationList(generations=[GenerationEntry.model_validate(each) for each in found])

    @router.post(
        "/v1/generations/rollback",
        responses=problems(*WITH_BODY, 409, 503),
        summary="Point all readers back to the previous generation",
    )
    async def rollback(request: Request, body: RollbackRequest | None = None) -> RollbackDone:
        """At once: the one before is still loaded."""
        asked, caller = body or RollbackRequest(), caller_of(request.scope).name
        try:
            left, active = await generations.rollback(f"{asked.reason} ({caller})", asked.expected)
        except InvalidInput as error:
            raise HTTPException(HTTPStatus.CONFLICT.value, f"{error.field}: {error.problem}") from error
        log.warning("generation %d was left for %d: %s (%s)", left, active, asked.reason, caller)
        return RollbackDone(left=left, active=active)

    return router
