"""The ranking service over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from serving.body_limit import BodyLimit
from serving.health import Readiness, ServiceHealth
from serving.impressions import BufferedImpressions
from serving.problems import RETRY_AFTER, answer_with_problems
from serving.ranking import Ranking
from serving.recommending import Recommending
from serving.routes.rank import add_ranking
from serving.routes.recommend import add_recommending

_CONSOLE = Path(__file__).with_name("console.html")
_CONSOLE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


def build_api(
    ranking: Ranking,
    health: Callable[[], Awaitable[ServiceHealth]],
    registry: CollectorRegistry,
    *,
    impressions: BufferedImpressions | None = None,
    recommending: Recommending | None = None,
    max_body_bytes: int = 1_048_576,
) -> FastAPI:
    """The routes below. Errors leave as problem documents (RFC 9457).

    - `POST /v1/rank`: a `RankRequest`, answered by a `RankResponse`; 422 names the field and the value that are wrong,
      413 a body of more than `max_body_bytes`, 503 with `Retry-After` when nothing can be answered.
    - `POST /v1/recommend`: a `RecommendRequest`, answered by a `RecommendResponse`; likewise.
    - `GET /healthz`: the process lives. `GET /readyz`: it can answer; 503 if not, with each part either way.
    - `GET /metrics`: Prometheus. `GET /`: the console page.

    At the end of the application's lifespan `impressions` are closed: uvicorn ends the process by the signal that ended
    it before anything behind `serve()` runs.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await health()  # opens what the first request would wait for
        yield
        if impressions is not None:
            await impressions.close()

    api = FastAPI(title="Foretaste", docs_url=None, redoc_url=None, lifespan=lifespan)
    api.add_middleware(BodyLimit, most=max_body_bytes)
    answer_with_problems(api)

    add_ranking(api, ranking)
    if recommending is not None:
        add_recommending(api, recommending)
    _add_operations(api, health, registry)
    _add_console(api)
    return api


def _add_operations(api: FastAPI, health: Callable[[], Awaitable[ServiceHealth]], registry: CollectorRegistry) -> None:
    @api.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @api.get("/readyz")
    async def readyz(response: Response) -> ServiceHealth:
        found = await health()
        if found.readiness is Readiness.UNREADY:
            response.status_code = 503
            response.headers["Retry-After"] = RETRY_AFTER
        return found

    @api.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_console(api: FastAPI) -> None:
    console = _CONSOLE.read_text(encoding="utf-8")

    @api.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(console, headers={"Content-Security-Policy": _CONSOLE_POLICY})
