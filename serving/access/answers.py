"""Around every answer: the id of its request, headers as a careful service sets them, and a line in the access log."""

import hashlib
import json
import logging
import re
import secrets
import time
import uuid
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foretaste.kernel.ports import Clock
from serving.access.gate import caller_of
from serving.access.scopes import ONE_USER

access_log = logging.getLogger("foretaste.access")

_POLICY = b"content-security-policy"
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_NOTHING_RUNS = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
"""For an answer that has no policy of its own."""
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")


class Answers:
    """Adds to every answer, whatever made it.

    `X-Request-ID` is the request's own, or one made here; it stands in the log too. Where the log is wanted
    (`foretaste.access` at INFO), each answer is a line of JSON. Of a user id in a path it holds a keyed hash, the same
    for one user as long as the `log_key` is the same.
    """

    def __init__(
        self, app: ASGIApp, *, log_key: bytes | None = None, clock: Clock = time.monotonic, now: Clock = time.time
    ) -> None:
        self._app = app
        self._log_key = log_key or secrets.token_bytes(16)
        self._clock = clock
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, size = self._clock(), 0, 0
        request_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex.encode()

        async def sending(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _with_headers(message.get("headers", ()), request_id)}
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if access_log.isEnabledFor(logging.INFO):
                access_log.info("%s", self._line(scope, request_id, status, size, self._clock() - began))

    def _line(self, scope: Scope, request_id: bytes, status: int, size: int, seconds: float) -> str:
        """`status` is 0 where nothing was answered: the client was gone."""
        told = {
            "at": datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds"),
            "request_id": request_id.decode(),
            "caller": caller_of(scope).name,
            "method": scope["method"],
            "path": self._without_user(scope["path"]),
            "status": status,
            "bytes": size,
            "ms": round(seconds * 1000, 2),
        }
        return json.dumps(told)

    def _without_user(self, path: str) -> str:
        if not path.startswith(ONE_USER):
            return path
        user_id = path[len(ONE_USER) :].encode(errors="backslashreplace")
        return f"{ONE_USER}{hashlib.blake2b(user_id, key=self._log_key, digest_size=8).hexdigest()}"


def _with_headers(own: "list[tuple[bytes, bytes]]", request_id: bytes) -> list[tuple[bytes, bytes]]:
    """An answer's own header stands where it has one of the same name."""
    names = {name for name, _ in own}
    added = [each for each in (*_HEADERS, _NOTHING_RUNS) if each[0] not in names]
    return [*own, *added, (b"x-request-id", request_id)]
