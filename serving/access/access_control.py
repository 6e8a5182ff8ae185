"""Before all routes: the Host header, the token, its scope and its rate."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil

from aiolimiter import AsyncLimiter
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from serving.access.scopes import scopes_for
from serving.access.tokens import LOCAL, STRANGER, Caller, Token
from serving.problems import problem_response

CALLER = "foretaste.caller"
"""Where the `Caller` stands in an ASGI scope."""


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Who may do what."""

    find_token: Callable[[str], Token | None] | None = None
    """The token that was presented; None where no tokens are set: everybody on this machine may do everything."""
    hosts: Collection[str] = field(default_factory=frozenset)
    """Names that the service answers to, in lower case and without ports; any where empty."""
    requests_per_second: float | None = None
    """Of one token, over its own second; no limit where None."""


def caller_of(connection: Connection) -> Caller:
    """Who sent the request, a stranger where nobody was asked."""
    found: Caller = connection.get(CALLER, STRANGER)
    return found


class AccessControl:
    """Lets a request through, or answers it by a problem document.

    1. A Host header that names no host of this service: 421. So a page of another site cannot reach a service on
       loopback by a name of its own.
    2. A path that asks for a scope, without a token or with one that is not known: 401. On a public path such a caller
       is a stranger.
    3. A token without the scope: 403, which names it.
    4. A token that comes too often: 429, with the seconds to wait.
    """

    def __init__(self, app: ASGIApp, policy: AccessPolicy) -> None:
        self._app = app
        self._policy = policy
        self._limiters: dict[str, AsyncLimiter] = {}

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host, authorization = _headers(scope)
        refused = self._wrong_host(host) or self._not_allowed(scope, authorization) or await self._too_often(scope)
        await (refused or self._app)(scope, receive, send)

    def _wrong_host(self, host: str) -> Response | None:
        if not self._policy.hosts or _name(host) in self._policy.hosts:
            return None
        return problem_response(HTTPStatus.MISDIRECTED_REQUEST, "the Host header names no host of this service")

    def _not_allowed(self, scope: Connection, authorization: str | None) -> Response | None:
        needed = scopes_for(scope["path"], scope["method"])
        caller = scope[CALLER] = self._caller(authorization)
        if needed is None or needed & caller.scopes:
            return None
        if caller is STRANGER:
            return _unauthorized(wrong=authorization is not None)
        names = " or ".join(sorted(needed))
        challenge = f'Bearer realm="foretaste", error="insufficient_scope", scope="{" ".join(sorted(needed))}"'
        detail = f"the token {caller.name} lacks the scope {names}"
        return problem_response(HTTPStatus.FORBIDDEN, detail, {"WWW-Authenticate": challenge})

    def _caller(self, authorization: str | None) -> Caller:
        if self._policy.find_token is None:
            return LOCAL
        kind, _, presented = (authorization or "").partition(" ")
        if kind.lower() != "bearer":
            return STRANGER
        token = self._policy.find_token(presented.strip())
        return STRANGER if token is None else Caller(token.name, token.scopes)

    async def _too_often(self, scope: Connection) -> Response | None:
        rate, caller = self._policy.requests_per_second, scope[CALLER]
        if rate is None or caller is STRANGER or caller is LOCAL:
            return None
        limiter = self._limiters.get(caller.name)
        if limiter is None:
            limiter = self._limiters[caller.name] = AsyncLimiter(max(rate, 1.0), max(1.0, 1.0 / rate))
        if limiter.has_capacity():
            await limiter.acquire()
            return None
        detail = f"the token {caller.name} may send {rate:g} requests a second"
        return problem_response(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(ceil(1.0 / rate))})


def _headers(scope: Connection) -> tuple[str, str | None]:
    """Host and Authorization."""
    host, authorization = "", None
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1")
        elif name == b"authorization":
            authorization = value.decode("latin-1")
    return host, authorization


def _name(host: str) -> str:
    """Without the port; an IPv6 address with its brackets."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _unauthorized(*, wrong: bool) -> Response:
    challenge = 'Bearer realm="foretaste"' + (', error="invalid_token"' if wrong else "")
    detail = "the token is not known" if wrong else "a token is needed: `Authorization: Bearer …`"
    return problem_response(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": challenge})
