"""`/v1/map`: the active generation's map of real and virtual behaviour, and a user's place on it."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException

from foretaste.kernel.events import MAX_ID
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.service_ports import BehaviourMap, GenerationAdmin
from serving.active import ActiveGeneration
from serving.console.bodies import MappedBehaviour, MappedUser
from serving.routes.documented import problems
from serving.routes.operating import NOT_FOUND, without_virtual


def map_router(generations: GenerationAdmin, active: ActiveGeneration, store: OnlineStore) -> APIRouter:
    """For those who operate the service."""
    router = APIRouter(tags=["console"])

    async def map_of(number: int) -> BehaviourMap:
        found = await generations.behaviour_map(number)
        if found is None:
            raise HTTPException(NOT_FOUND, f"generation {number} was exported without a map")
        return found

    @router.get("/v1/map", responses=problems(404, 503), summary="Real and virtual behaviour on one plane")
    async def behaviour_map() -> MappedBehaviour:
        """Of some of the users that the active generation was trained on, as laid out when it was exported."""
        number = (await active.get()).number
        found = await map_of(number)
        return MappedBehaviour(
            generation=number, real=list(map(list, found.real)), virtual=list(map(list, found.virtual))
        )

    @router.get("/v1/map/user", responses=problems(404, 422, 503), summary="Where a user's virtual behaviour lies")
    async def place(
        user_id: Annotated[str, Query(min_length=1, max_length=MAX_ID, examples=["anna"])],
    ) -> MappedUser:
        """Between the known virtual behaviours that are nearest to it, weighted by 1 / distance."""
        generation = await active.get()
        (user,) = await store.read([user_id], generation.number)
        virtual = generation.virtual_of(user)
        if virtual is None:
            raise HTTPException(NOT_FOUND, without_virtual(user_id))
        placed = (await map_of(generation.number)).place(virtual.vectors)
        return MappedUser(generation=generation.number, x=placed.x, y=placed.y, distance=placed.distance)

    return router
