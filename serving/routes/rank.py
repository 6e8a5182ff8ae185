"""`POST /v1/rank`: candidates in order for a user."""

from fastapi import APIRouter

from serving.ranking import Ranking
from serving.requests import RankRequest, RankResponse


def rank_router(ranking: Ranking) -> APIRouter:
    """A `RankRequest`, answered by a `RankResponse`."""
    router = APIRouter()

    @router.post("/v1/rank")
    async def rank(request: RankRequest) -> RankResponse:
        return await ranking.rank(request)

    return router
