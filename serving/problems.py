"""Errors as JSON problem documents (RFC 9457), with the field and the value where something from outside is wrong."""

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from serving.telling import told

log = logging.getLogger(__name__)

RETRY_AFTER = "1"
"""Seconds."""
_LONGEST = 80


def answer_with_problems(api: FastAPI) -> None:
    """From here on, every error of `api` leaves as a problem document."""

    @api.exception_handler(InvalidInput)
    async def invalid(_: Request, error: InvalidInput) -> JSONResponse:
        return _wrong_input([(error.field, error.value, error.problem)])

    @api.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return _wrong_input(_by_field(error.errors()))

    @api.exception_handler(Unavailable)
    async def unavailable(_: Request, error: Unavailable) -> JSONResponse:
        log.warning("%s", error)
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, told(error), {"Retry-After": RETRY_AFTER})

    @api.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return _problem(HTTPStatus(error.status_code), error.detail, error.headers)

    @api.exception_handler(ForetasteError)
    async def failed(_: Request, error: ForetasteError) -> JSONResponse:
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    @api.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        """The server logs the error after this answer."""
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something unexpected went wrong; the log says what")


def _wrong_input(errors: Sequence[tuple[str, object, str]]) -> JSONResponse:
    shown = [{"field": field, "value": _shown(value), "problem": problem} for field, value, problem in errors]
    first = shown[0]
    detail = f"{first['field']}: {first['problem']} (got {first['value']!r})"
    more = {"field": first["field"], "value": first["value"], "errors": shown}
    return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, more=more)


def _problem(
    status: HTTPStatus,
    detail: str,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> JSONResponse:
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, **(more or {})}
    return JSONResponse(body, status.value, headers, media_type="application/problem+json")


def _by_field(errors: Sequence[Any]) -> list[tuple[str, object, str]]:
    """(field, value, problem) of each error, but one alone for a value that may be of several types and is of none."""
    found: list[tuple[str, object, str]] = []
    for _, group in groupby(errors, key=lambda error: (error["loc"][:-1], id(error["input"]))):
        same = list(group)
        if len(same) == 1 or same[0]["loc"][1:2] != ("context",):
            found += [(_path(error["loc"]), error["input"], _plain(error["msg"])) for error in same]
        else:
            problem = "expected a text, a finite number, true, false or null"
            found.append((_path(same[0]["loc"][:-1]), same[0]["input"], problem))
    return found


def _path(location: Sequence[object]) -> str:
    return ".".join(str(step) for step in location[1:]) or "body"


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shown(value: object) -> object:
    """The value as JSON can carry it, and short."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"
