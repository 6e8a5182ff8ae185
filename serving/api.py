"""The HTTP service: its routes over one set of parts, and what stands around all of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from serving.access.body_limit import BodyLimit
from serving.parts import ServiceParts
from serving.problems import answer_with_problems
from serving.routes.console import console_router
from serving.routes.operations import operations_router
from serving.routes.rank import rank_router


def build_api(parts: ServiceParts, *, max_body_bytes: int = 1_048_576) -> FastAPI:
    """The routes below. Errors leave as problem documents (RFC 9457).

    - `POST /v1/rank`: a `RankRequest`, answered by a `RankResponse`; 422 names the field and the value that are wrong,
      413 a body of more than `max_body_bytes`, 503 with `Retry-After` when nothing can be answered.
    - `GET /healthz`: the process lives. `GET /readyz`: it can answer; 503 if not, with each part either way.
    - `GET /metrics`: Prometheus. `GET /`: the console page.

    At the end of the application's lifespan the impressions are closed: uvicorn ends the process by the signal that
    ended it before anything behind `serve()` runs.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if parts.impressions is not None:
            await parts.impressions.close()

    api = FastAPI(title="Foretaste", docs_url=None, redoc_url=None, lifespan=lifespan)
    api.add_middleware(BodyLimit, most=max_body_bytes)
    answer_with_problems(api)
    api.include_router(rank_router(parts.ranking))
    api.include_router(operations_router(parts.health, parts.registry))
    api.include_router(console_router())
    return api
