"""What the console asks beyond the other routes: an overview, what can be chosen, a comparison."""

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from foretaste.kernel.service_ports import FieldChoices, GenerationAdmin
from serving.active import ActiveGeneration
from serving.console.bodies import (
    ComparedRankings,
    CompareRequest,
    ConsoleOverview,
    FieldOffer,
    GenerationOffer,
)
from serving.console.comparison import Comparison
from serving.console.overview import OverviewReader
from serving.routes.documented import WITH_BODY, problems

NOT_FOUND = 404
_EXAMPLE = {"user_id": "anna", "items": ["Heat (1995)", "Toy Story (1995)"]}


def operating_router(
    overview: OverviewReader,
    comparison: Comparison,
    generations: GenerationAdmin,
    active: ActiveGeneration,
) -> APIRouter:
    """All of it is of the active generation, and for those who operate the service."""
    router = APIRouter(tags=["console"])

    @router.get("/v1/overview", responses=problems(), summary="The system at a glance")
    async def look() -> ConsoleOverview:
        """Of topics, users and this process's rankings; at most a second old."""
        return await overview.get()

    @router.get("/v1/choices", responses=problems(503), summary="What the active generation knows, to choose from")
    async def choices() -> GenerationOffer:
        """Its fields with known values, actions, and the most popular items."""
        generation = await active.get()
        found = await generations.choices(generation.number)
        return GenerationOffer(
            generation=generation.number,
            warm_after=generation.warm_after,
            attributes={name: _offered(field) for name, field in found.attributes.items()},
            context={name: _offered(field) for name, field in found.context.items()},
            actions=list(found.actions),
            items=list(found.items),
        )

    @router.post(
        "/v1/compare",
        responses=problems(*WITH_BODY, 404, 503),
        summary="A user's ranking with and without virtual behaviour",
        openapi_extra={"requestBody": {"content": {"application/json": {"example": _EXAMPLE}}}},
    )
    async def compare(body: CompareRequest) -> ComparedRankings:
        """Nothing of it is noted for training."""
        found = await comparison.compare(body.user_id, body.items)
        if found is None:
            raise HTTPException(NOT_FOUND, without_virtual(body.user_id))
        return found

    return router


def _offered(field: FieldChoices) -> FieldOffer:
    return FieldOffer(kind=field.kind, values=list(field.values))


def without_virtual(user_id: str) -> str:
    """Why there is nothing to show of a user."""
    return f"the user {user_id[:80]!r} has no virtual behaviour of the active generation"
