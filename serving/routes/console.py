"""The console page, at `/`."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

_CONSOLE = Path(__file__).parents[1] / "console.html"
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def console_router() -> APIRouter:
    """One page that loads nothing from outside."""
    router = APIRouter()
    console = _CONSOLE.read_text(encoding="utf-8")

    @router.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(console, headers={"Content-Security-Policy": _POLICY})

    return router
