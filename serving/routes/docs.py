"""`/openapi.json` and `/docs`, the page that shows it: Swagger UI from its package, with nothing from outside."""

import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import HTMLResponse

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Foretaste: HTTP</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
_START = 'SwaggerUIBundle({ url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null });\n'
_KINDS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}


def docs_router(document: Callable[[], dict[str, Any]]) -> APIRouter:
    """`document` is asked once, at the first request, when every route is there."""
    router = APIRouter(include_in_schema=False)
    made: list[str] = []

    @cache
    def content(name: str) -> bytes:
        return files("fastapi_swagger.resources").joinpath(name).read_bytes()

    @router.get("/openapi.json")
    async def openapi() -> Response:
        if not made:
            made.append(json.dumps(document()))
        return Response(made[0], media_type="application/json")

    @router.get("/docs")
    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    @router.get("/docs/start.js")
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    @router.get("/docs/{name}")
    def resource(name: str) -> Response:
        if name not in _KINDS:
            raise HTTPException(404)
        return Response(content(name), media_type=_KINDS[name], headers={"Cache-Control": "public, max-age=86400"})

    return router
