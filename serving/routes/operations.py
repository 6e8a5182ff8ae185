"""`/healthz`, `/readyz` and `/metrics`: what those who operate the service, and their machines, ask for."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from serving.health import Readiness, ServiceHealth
from serving.problems import RETRY_AFTER


def operations_router(health: Callable[[], Awaitable[ServiceHealth]], registry: CollectorRegistry) -> APIRouter:
    """The process lives; it can answer (503 if not, with each part either way); Prometheus metrics."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz(response: Response) -> ServiceHealth:
        found = await health()
        if found.readiness is Readiness.UNREADY:
            response.status_code = 503
            response.headers["Retry-After"] = RETRY_AFTER
        return found

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
