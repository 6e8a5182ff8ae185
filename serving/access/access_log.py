"""The access log: a line of JSON for each answer."""

import hashlib
import json
import logging
import secrets
import time
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foretaste.kernel.ports import Clock
from serving.access.access_control import caller_of
from serving.access.response_headers import REQUEST_ID
from serving.access.scopes import ONE_USER

access_log = logging.getLogger("foretaste.access")


class AccessLog:
    """Writes a line to `foretaste.access`, where that is wanted (at INFO), once an answer is given.

    Of a user id in a path it holds a keyed hash, the same for one user as long as the `log_key` is the same; another
    key at each start where that is None. `clock` counts seconds monotonically, `now` since the epoch.
    """

    def __init__(
        self, app: ASGIApp, *, log_key: bytes | None = None, clock: Clock = time.monotonic, now: Clock = time.time
    ) -> None:
        self._app = app
        self._log_key = log_key or secrets.token_bytes(16)
        self._clock = clock
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not access_log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        began, status, size = self._clock(), 0, 0

        async def sending(message: Message) -> None:
            nonlocal status, size
            status = message.get("status", status)
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            line = self._line(scope, status, size, self._clock() - began)
            # as `info` does it, but without a look through the stack for the line of code that logs
            access_log.handle(logging.LogRecord(access_log.name, logging.INFO, __name__, 0, line, None, None))

    def _line(self, scope: Scope, status: int, size: int, seconds: float) -> str:
        """`status` is 0 where nothing was answered: the client was gone."""
        told = {
            "at": datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds"),
            "level": "INFO",
            "request_id": scope.get(REQUEST_ID, ""),
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
