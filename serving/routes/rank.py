"""`POST /v1/rank`: bytes in, bytes out; no object a candidate is made between them."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, TypeAdapter

from serving.rankings.joining import Joined
from serving.rankings.ranking import Ranking
from serving.requests import RankRequest, RankResponse
from serving.routes.direct import DirectRoute
from serving.routes.documented import WITH_BODY, problems
from serving.routes.reading import read

MOST_RANKINGS = 100
"""Of one body."""


class RankRequests(BaseModel):
    """Many rankings at once, of as many users."""

    rankings: Annotated[list[RankRequest], Field(min_length=1, max_length=MOST_RANKINGS)]


class RankResponses(BaseModel):
    """Their answers, in the same order."""

    rankings: list[RankResponse]


_ONE, _SEVERAL = TypeAdapter(RankRequest), TypeAdapter(RankRequests)
_ANSWER, _ANSWERS = TypeAdapter(RankResponse), TypeAdapter(RankResponses)
_EXAMPLE = {"user_id": "anna", "items": ["Heat (1995)", "Toy Story (1995)"], "context": {"hour": 20}}
_FORMS = {"anyOf": [{"$ref": f"#/components/schemas/{form.__name__}"} for form in (RankRequest, RankRequests)]}
_BODY = {"required": True, "content": {"application/json": {"schema": _FORMS, "example": _EXAMPLE}}}


def rank_router(ranking: Ranking) -> APIRouter:
    """A `RankRequest`, answered by a `RankResponse`, or many; what comes together shares one read and one call."""
    joined = Joined(ranking.rank)
    router = APIRouter(tags=["rankings"], route_class=DirectRoute, lifespan=joined.lifespan)

    async def answer(request: RankRequest) -> RankResponse:
        if not request.explain:
            return await joined.ask(request, ranking.clock())
        (alone,) = await ranking.rank([request])  # what explains it calls towers once more, which others need not await
        return alone

    @router.post(
        "/v1/rank",
        response_model=RankResponse | RankResponses,
        responses=problems(*WITH_BODY, 503),
        summary="Put candidates in order for a user, or for many",
        openapi_extra={"requestBody": _BODY},
    )
    async def rank(http: Request) -> Response:
        """A user who is new never makes an error. What the user gets to see is noted for training: see `shown`."""
        request: RankRequest | RankRequests = read(await http.body(), _ONE, _form)
        if isinstance(request, RankRequest):
            ranking.check(request)
            return _json(_ANSWER, await answer(request))
        for place, each in enumerate(request.rankings):
            ranking.check(each, f"rankings.{place}.")
        answers = await asyncio.gather(*(answer(each) for each in request.rankings))
        return _json(_ANSWERS, RankResponses.model_construct(rankings=answers))

    return router


def _json(adapter: TypeAdapter[Any], answer: object) -> Response:
    return Response(adapter.dump_json(answer), media_type="application/json")


def _form(raw: object) -> TypeAdapter[Any]:
    return _SEVERAL if isinstance(raw, dict) and "rankings" in raw else _ONE
