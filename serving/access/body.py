"""What a request body must be before anything of it is parsed: JSON as it is, and not too large."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import problem_response

_CLOSE = {"Connection": "close"}
"""What is left of a body that nobody reads ends with its connection."""


class JsonBody:
    """Refuses a body that is not JSON with 415, and one of more than `most` bytes with 413, announced or not."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refused = self._refusal(headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value, self._too_large, _CLOSE)
            return message

        await self._app(scope, bounded, send)

    @property
    def _too_large(self) -> str:
        return f"the body is larger than {self._most} bytes"

    def _refusal(self, headers: dict[bytes, bytes]) -> Response | None:
        length = headers.get(b"content-length", b"0")
        if length == b"0" and b"transfer-encoding" not in headers:
            return None
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            detail = f"expected application/json, got {kind.decode('latin-1') or 'none'}"
            return problem_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, _CLOSE)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            detail = "expected a body without a content encoding"
            return problem_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, _CLOSE | {"Accept-Encoding": "identity"})
        if length.isdigit() and int(length) > self._most:
            return problem_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large, _CLOSE)
        return None
