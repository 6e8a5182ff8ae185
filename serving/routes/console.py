"""The console page at `/`, and its script, style and modules under `/console/`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

from serving import console

_FOLDER = Path(console.__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PAGE = "index.html"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str

    def answer(self, request: Request, headers: Mapping[str, str]) -> Response:
        """The file, or that the caller's copy of it is still the same one."""
        headers = {**headers, "ETag": self.tag, "Cache-Control": "no-cache"}
        known = request.headers.get("if-none-match", "")
        if self.tag in [each.strip().removeprefix("W/") for each in known.split(",")]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def console_router() -> APIRouter:
    """A page that loads nothing from outside, and nothing inline: each file is of this package."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: _read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}

    @router.get("/")
    async def page(request: Request) -> Response:
        return files[_PAGE].answer(request, {"Content-Security-Policy": _POLICY})

    @router.get("/console/{name}")
    async def file(name: str, request: Request) -> Response:
        if name not in files or name == _PAGE:
            raise HTTPException(404)
        return files[name].answer(request, {})

    return router


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
