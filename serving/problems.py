"""Errors as JSON problem documents (RFC 9457), with the field and the value where something from outside is wrong.

What a client may read of an error is decided here: the addresses and versions in its detail are for the log.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from foretaste.kernel.errors import BadTowerOutput, ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.values import MOST_ELEMENTS
from serving.active import NoneActive
from serving.bodies import BATCH, ONE

log = logging.getLogger(__name__)

RETRY_AFTER = "1"
"""Seconds."""
_LONGEST = 80
"""Characters of a value in a problem document."""
_NOT_UTF8 = "expected a text that UTF-8 can carry: a surrogate stands alone"


def public_detail(error: ForetasteError, part: str = "a part") -> str:
    """Which part, and what is the matter with it; `part` where the error does not name one."""
    match error:
        case NoneActive():
            return str(error)
        case Unavailable():
            return f"{error.part} is not available"
        case BadTowerOutput():
            return f"{part} answered with the wrong shape"
        case InvalidInput():
            return f"{part} refused what it was asked"
        case _:
            return f"{part} failed"


def answer_with_problems(api: FastAPI) -> None:
    """From here on, every error of `api` leaves as a problem document."""

    @api.exception_handler(InvalidInput)
    async def invalid(_: Request, error: InvalidInput) -> JSONResponse:
        return _wrong_input([(error.field, error.value, error.problem)])

    @api.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return _wrong_input(_malformed(error))

    @api.exception_handler(Unavailable)
    async def unavailable(_: Request, error: Unavailable) -> JSONResponse:
        log.warning("%s", error)
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, public_detail(error), {"Retry-After": RETRY_AFTER})

    @api.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return _refused(request, error)

    @api.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        """Nobody reads this answer: the client left before its request was whole."""
        return problem_response(HTTPStatus.BAD_REQUEST, "the request ended before its body was whole")

    @api.exception_handler(ForetasteError)
    async def failed(_: Request, error: ForetasteError) -> JSONResponse:
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    @api.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        """The server logs the error after this answer."""
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "something unexpected went wrong; the log says what")


def _wrong_input(errors: Sequence[tuple[str, object, str]]) -> JSONResponse:
    shown = [{"field": field, "value": _shown(value), "problem": problem} for field, value, problem in errors]
    first = shown[0]
    detail = f"{first['field']}: {first['problem']} (got {first['value']!r})"
    more = {"field": first["field"], "value": first["value"], "errors": shown}
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, detail, more=more)


def problem_response(
    status: HTTPStatus,
    detail: str,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> JSONResponse:
    """An answer as a problem document, with the fields of `more`."""
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, **(more or {})}
    return JSONResponse(body, status.value, headers, media_type="application/problem+json")


def _by_field(errors: Sequence[Any]) -> list[tuple[str, object, str]]:
    """(field, value, problem) of each error, but one alone for a value that may be of several types and is of none."""
    found: list[tuple[str, object, str]] = []
    plain = [{**error, "loc": _without_form(error["loc"])} for error in errors]
    for _, group in groupby(plain, key=_of_one_value):
        same = list(group)
        if any(error["type"] == "string_unicode" for error in same):
            found.append((_path(_of_text(same)), same[0]["input"], _NOT_UTF8))
        elif len(same) == 1 or not _is_scalar(same[0]["loc"]):
            found += [(_path(error["loc"]), error["input"], _plain(error["msg"])) for error in same]
        else:
            found.append((_path(_value_of(same[0]["loc"]) or same[0]["loc"][:-1]), same[0]["input"], _expected(same)))
    return found


def _of_one_value(error: Mapping[str, Any]) -> object:
    """What errors have in common that are of one value, which may be of several types."""
    return _value_of(error["loc"]) or (error["loc"][:-1], id(error["input"]))


def _value_of(location: Sequence[object]) -> Sequence[object] | None:
    """The location of the attribute that it lies within, without the members of its union; None where it is none."""
    if "attributes" not in location[1:-2]:
        return None
    place = location.index("attributes", 1)
    return None if location[place - 1] == "filter" else location[: place + 2]


def _expected(same: Sequence[Mapping[str, Any]]) -> str:
    if _value_of(same[0]["loc"]) is None:
        return "expected a text, a finite number, true, false or null"
    if any(error["type"] == "too_long" for error in same):
        return f"a list has at most {MOST_ELEMENTS} values"
    return "expected a text, a finite number, true, false, null, or a list of such"


def _malformed(error: RequestValidationError) -> list[tuple[str, object, str]]:
    first = error.errors()[0]
    return [_no_json(error.body, first)] if first["type"] == "json_invalid" else _by_field(error.errors())


def _methods_of(request: Request) -> set[str]:
    """All methods of the routes with the request's path."""
    matching = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


def _refused(request: Request, error: HTTPException) -> JSONResponse:
    unread = _unread(error.__cause__)
    if unread is not None:
        return _wrong_input([unread])
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # the first route of a path names its own method alone
        headers = {"Allow": ", ".join(sorted(_methods_of(request)))}
    return problem_response(HTTPStatus(error.status_code), error.detail, headers)


def _unread(cause: BaseException | None) -> tuple[str, object, str] | None:
    """What kept a body from being read at all; None where it was another thing."""
    match cause:
        case UnicodeDecodeError():
            return "body", cause.object, f"is not UTF-8 at byte {cause.start}"
        case RecursionError():
            return "body", None, "is nested too deeply"
        case ValueError():
            return "body", None, f"cannot be read: {cause}"
        case _:
            return None


def _no_json(body: object, error: Mapping[str, Any]) -> tuple[str, object, str]:
    """The body around the place where it stops being JSON, and what is wrong there, by line and column."""
    place = error["loc"][-1] if isinstance(error["loc"][-1], int) else 0
    text = body if isinstance(body, str) else ""
    return "body", text[max(place - _LONGEST // 2, 0) :][:_LONGEST], f"is not JSON: {_what_is_wrong(text, error)}"


def _what_is_wrong(text: str, error: Mapping[str, Any]) -> str:
    """Pydantic's reader says `trailing comma` where Python's says `Expecting value`."""
    try:
        from_json(text)
    except ValueError as wrong:
        return str(wrong)
    return str(error["ctx"]["error"])


def _without_form(location: Sequence[object]) -> Sequence[object]:
    """Without the name of the form that the body was read in, one event or a batch: no field is called so."""
    if location[:1] == ("body",) and location[1:2] in ((ONE,), (BATCH,)):
        return (location[0], *location[2:])
    return location


def _is_scalar(location: Sequence[object]) -> bool:
    """Whether it is a context's or an attribute's value, with the member of its union at the end."""
    return "context" in location[1:-2] or "attributes" in location[1:-2]


def _of_text(same: Sequence[Any]) -> Sequence[object]:
    """The location of a text that is none: without the member of a union, and with a key as it came."""
    location: Sequence[object] = same[0]["loc"]
    if location[-1] == "[key]":
        return (*location[:-2], same[0]["input"])
    return location if len(same) == 1 else location[:-1]


def _path(location: Sequence[object]) -> str:
    return _as_utf8(".".join(str(step) for step in location[1:])) or "body"


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shown(value: object) -> object:
    """The value as JSON can carry it, and short."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = _as_utf8(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def _as_utf8(text: str) -> str:
    """The text, with surrogates that stand alone as their escapes."""
    return text.encode(errors="backslashreplace").decode()
