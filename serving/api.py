"""The HTTP service: its routes over one set of parts, and what stands around all of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from fastapi import FastAPI
from starlette.types import ASGIApp

from serving.access.access_control import AccessControl, AccessPolicy
from serving.access.access_log import AccessLog
from serving.access.answer_counts import AnswerCounts
from serving.access.body import JsonBody
from serving.access.response_headers import ResponseHeaders
from serving.idempotency import IdempotentRequests
from serving.openapi import openapi_document
from serving.parts import ServiceParts
from serving.problems import answer_with_problems
from serving.routes.behaviour_map import map_router
from serving.routes.behaviours import behaviours_router
from serving.routes.console import console_router
from serving.routes.docs import docs_router
from serving.routes.generations import generations_router
from serving.routes.items import items_router
from serving.routes.onboard import onboard_router
from serving.routes.operating import operating_router
from serving.routes.operations import operations_router
from serving.routes.rank import rank_router
from serving.routes.recommend import recommend_router
from serving.routes.users import users_router


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What holds of every request."""

    access: AccessPolicy = field(default_factory=AccessPolicy)
    max_body_bytes: int = 1_048_576
    log_key: bytes | None = None
    """Of the hash that stands for a user id in the access log; another one at each start where None."""


def build_service(parts: ServiceParts, config: ServiceConfig | None = None) -> ASGIApp:
    """The routes, and around each request, from the outside in: the counts, what an answer carries, the log, access,
    the body."""
    return AnswerCounts(with_access(build_api(parts), config or ServiceConfig()), parts.registry)


def with_access(app: ASGIApp, config: ServiceConfig) -> ASGIApp:
    """What stands around every route, around `app`."""
    controlled = AccessControl(JsonBody(app, config.max_body_bytes), config.access)
    return ResponseHeaders(AccessLog(controlled, log_key=config.log_key))


def build_api(parts: ServiceParts) -> FastAPI:
    """The routes alone, one router a resource. Errors leave as problem documents (RFC 9457).

    At the end of the application's lifespan the impressions are closed: uvicorn ends the process by the signal that
    ended it before anything behind `serve()` runs.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.health()  # opens what the first request would wait for
        yield
        if parts.impressions is not None:
            await parts.impressions.close()

    api = FastAPI(openapi_url=None, lifespan=lifespan, redirect_slashes=False)
    answer_with_problems(api)
    idempotent = IdempotentRequests(parts.idempotency)
    api.include_router(rank_router(parts.ranking))
    api.include_router(recommend_router(parts.recommending))
    api.include_router(users_router(parts.intake, parts.users, idempotent))
    api.include_router(onboard_router(parts.onboarding, parts.intake, parts.users, idempotent))
    api.include_router(behaviours_router(parts.intake, parts.users, idempotent))
    api.include_router(items_router(parts.intake, parts.items, idempotent))
    api.include_router(generations_router(parts.generations))
    api.include_router(operations_router(parts.health, parts.registry))
    api.include_router(operating_router(parts.overview, parts.comparison, parts.generations, parts.active))
    api.include_router(map_router(parts.generations, parts.active, parts.store))
    api.include_router(console_router())
    api.include_router(docs_router(partial(openapi_document, api)))
    return api
