"""`POST /v1/recommend`: the best items of the whole catalogue for a user."""

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from serving.rankings.joining import Joined
from serving.rankings.recommending import Recommending
from serving.requests import RecommendRequest, RecommendResponse
from serving.routes.direct import DirectRoute
from serving.routes.documented import WITH_BODY, problems
from serving.routes.reading import read

_ONE = TypeAdapter(RecommendRequest)
_ANSWER = TypeAdapter(RecommendResponse)
_EXAMPLE = {"user_id": "anna", "k": 10, "filter": {"attributes": {"genre": ["Comedy"]}}, "context": {"hour": 20}}
_SCHEMA = {"$ref": "#/components/schemas/RecommendRequest"}
_BODY = {"required": True, "content": {"application/json": {"schema": _SCHEMA, "example": _EXAMPLE}}}


def recommend_router(recommending: Recommending) -> APIRouter:
    """A `RecommendRequest`, answered by a `RecommendResponse`; what comes together shares each step."""
    joined = Joined(recommending.recommend)
    router = APIRouter(tags=["rankings"], route_class=DirectRoute, lifespan=joined.lifespan)

    @router.post(
        "/v1/recommend",
        response_model=RecommendResponse,
        responses=problems(*WITH_BODY, 503),
        summary="Recommend the best items of the whole catalogue to a user",
        openapi_extra={"requestBody": _BODY},
    )
    async def recommend(http: Request) -> Response:
        """A user who is new never makes an error. What the user gets to see is noted for training: see `shown`."""
        request = read(await http.body(), _ONE)
        asked_at = recommending.clock()
        await recommending.check(request)
        return Response(_ANSWER.dump_json(await joined.ask(request, asked_at)), media_type="application/json")

    return router
