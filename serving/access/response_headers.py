"""Headers of every answer, as a careful service sets them, and the id of its request."""

import re
import uuid
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foretaste.kernel.running.logs import about

REQUEST_ID = "foretaste.request_id"
"""Where the id of a request stands in an ASGI scope."""
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""An answer's own header stands where it has one of the same name."""
_VALID = re.compile(rb"[!-~]{1,128}")


class ResponseHeaders:
    """Adds the headers to every answer, whatever made it.

    `X-Request-ID` is the request's own, or one made here; it stands in the access log and in other log lines too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        if not _VALID.fullmatch(request_id):
            request_id = uuid.uuid4().hex.encode()
        scope[REQUEST_ID] = request_id.decode()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _with_headers(message.get("headers", ()), request_id)}
            await send(message)

        with about(scope[REQUEST_ID]):
            await self._app(scope, receive, sending)


def _with_headers(own: Sequence[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
    names = {name for name, _ in own}
    return [*own, *(each for each in _HEADERS if each[0] not in names), (b"x-request-id", request_id)]
