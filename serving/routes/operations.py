"""`/healthz`, `/readyz` and `/metrics`: what those who operate the service, and their machines, ask for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel

from foretaste.kernel.ports import Clock
from serving.access.access_control import caller_of
from serving.access.tokens import Scope
from serving.health import Readiness, ServiceHealth
from serving.problems import RETRY_AFTER
from serving.routes.documented import problems

FOR_STRANGERS = 1.0
"""Seconds for which strangers are told the same: each look costs the towers an inference."""


class PublicHealth(BaseModel):
    """What everybody may know."""

    readiness: Readiness


class Alive(BaseModel):
    status: str = "alive"


class RecentHealth:
    """A look at the parts that is at most `FOR_STRANGERS` seconds old; several who ask at once share one."""

    def __init__(self, health: Callable[[], Awaitable[ServiceHealth]], clock: Clock = time.monotonic) -> None:
        self._health = health
        self._clock = clock
        self._lock = asyncio.Lock()
        self._seen: ServiceHealth | None = None
        self._looked_at = 0.0

    async def get(self) -> ServiceHealth:
        async with self._lock:
            if self._seen is None or self._clock() - self._looked_at >= FOR_STRANGERS:
                self._seen = await self._health()
                self._looked_at = self._clock()
            return self._seen


def operations_router(health: Callable[[], Awaitable[ServiceHealth]], registry: CollectorRegistry) -> APIRouter:
    """The process lives; it can answer, with each part for whoever operates the service; Prometheus metrics."""
    router, recent = APIRouter(tags=["operations"]), RecentHealth(health)
    ready = problems(public=True)
    ready[503] = {"description": "No request would be answered.", "model": ServiceHealth | PublicHealth}

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", summary="The process lives", responses=problems(public=True))
    async def healthz() -> Alive:
        return Alive()

    @router.head("/readyz", include_in_schema=False)
    @router.get(
        "/readyz",
        summary="Whether requests would be answered",
        response_model=ServiceHealth | PublicHealth,
        responses=ready,
    )
    async def readyz(request: Request) -> Response:
        """Each part, as a request would find it, for a caller with the scope `operate`; for others, ready or not."""
        operates = Scope.OPERATE in caller_of(request.scope).scopes
        found = await (health() if operates else recent.get())
        told: BaseModel = found if operates else PublicHealth(readiness=found.readiness)
        if found.readiness is Readiness.UNREADY:
            headers = {"Retry-After": RETRY_AFTER}
            return JSONResponse(told.model_dump(mode="json"), HTTPStatus.SERVICE_UNAVAILABLE.value, headers)
        return JSONResponse(told.model_dump(mode="json"))

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={**problems(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
