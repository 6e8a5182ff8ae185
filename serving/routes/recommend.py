"""`POST /v1/recommend`: the best items of the whole catalogue for a user."""

from fastapi import FastAPI, Request, Response
from pydantic import TypeAdapter

from serving.joining import Joined
from serving.recommending import Recommending
from serving.requests import RecommendRequest, RecommendResponse
from serving.routes.rank import validated

_ONE = TypeAdapter(RecommendRequest)
_ANSWER = TypeAdapter(RecommendResponse)


def add_recommending(api: FastAPI, recommending: Recommending) -> None:
    """Add the route; requests that come together share one read, one call of the index and one of the tower."""
    joined = Joined(recommending.recommend)
    schema = RecommendRequest.model_json_schema()
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    @api.post("/v1/recommend", response_model=RecommendResponse, openapi_extra=body)
    async def recommend(http: Request) -> Response:
        """The k best items of the whole catalogue, best first."""
        request = validated(_ONE, await http.body())
        await recommending.check(request)
        return Response(_ANSWER.dump_json(await joined.ask(request)), media_type="application/json")
