"""`POST /v1/rank`: candidates in order for a user."""

from fastapi import APIRouter

from foretaste.kernel.events import oversized_integer
from serving.ranking import Ranking
from serving.requests import RankRequest, RankResponse
from serving.routes.documented import WITH_BODY, problems

_EXAMPLE = {"user_id": "anna", "items": ["Heat (1995)", "Toy Story (1995)"], "context": {"hour": 20}}
_BEYOND_TYPES = {"properties": {"items": {"minItems": 1, "uniqueItems": True}}}
"""What the ranking checks itself."""
_BODY = {"content": {"application/json": {"schema": _BEYOND_TYPES, "example": _EXAMPLE}}}


def rank_router(ranking: Ranking) -> APIRouter:
    """A `RankRequest`, answered by a `RankResponse`."""
    router = APIRouter(tags=["rankings"])

    @router.post(
        "/v1/rank",
        responses=problems(*WITH_BODY, 503),
        summary="Put candidates in order for a user",
        openapi_extra={"requestBody": _BODY},
    )
    async def rank(request: RankRequest) -> RankResponse:
        """A user who is new never makes an error. What the user gets to see is noted for training: see `shown`."""
        wrong = oversized_integer("context", request.context)
        if wrong is not None:
            raise wrong
        return await ranking.rank(request)

    return router
