"""What the OpenAPI document says of every route: its problems, its scope, the parameters that routes share."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any, TypeAlias

from fastapi import Header, Query

from foretaste.kernel.errors import InvalidInput
from serving.bodies import MAX_WAIT

_DETAILS = {
    400: "The request is not HTTP or not JSON that can be read.",
    401: "A token is needed, or the one that was sent is not known.",
    403: "The token lacks the scope.",
    404: "There is nothing of that name.",
    409: "The state of the service is another one than the request expects.",
    413: "The body is too large.",
    415: "The body is not application/json, or is encoded.",
    421: "The Host header names no host of this service.",
    422: "A field or a parameter is wrong: `errors` names each with its value.",
    429: "The token came too often; `Retry-After` has the seconds to wait.",
    503: "A part that is needed is away; `Retry-After` has the seconds to wait.",
}
_LATER = {"Retry-After": {"schema": {"type": "integer", "minimum": 0}, "description": "Seconds to wait."}}
_CHALLENGE = {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "What is missing (RFC 6750)."}}
_HEADERS = {401: _CHALLENGE, 403: _CHALLENGE, 429: _LATER, 503: _LATER}
EVERYWHERE = (421, 429)
WITH_TOKEN = (401, 403)
WITH_BODY = (400, 413, 415, 422)


def problems(*statuses: int, public: bool = False) -> dict[int | str, dict[str, Any]]:
    """The problem documents of a route, as FastAPI's `responses`; a public one asks for no token."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": f"{HTTPStatus(status).phrase}. {_DETAILS[status]}", "content": content}
        | ({"headers": _HEADERS[status]} if status in _HEADERS else {})
        for status in sorted({*EVERYWHERE, *(() if public else WITH_TOKEN), *statuses})
    }


IdempotencyKey: TypeAlias = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[!-~]+$",
        description="Of your choice, as a UUID: the same one again is answered as before, and carried out once.",
    ),
]
Wait: TypeAlias = Annotated[
    float,
    Query(
        ge=0,
        le=MAX_WAIT,
        allow_inf_nan=False,
        description="Seconds to wait until a ranking can read what was sent; 0: none, once Kafka has it.",
    ),
]


@contextmanager
def named_in_body(name: str, *, batch: bool) -> Iterator[None]:
    """Fields of events that begin with a place among them are named as they stand in the body: `users.1.attributes`."""
    try:
        yield
    except InvalidInput as error:
        place, _, field = error.field.partition(".")
        in_batch = ".".join(filter(None, (name, place, field)))
        raise InvalidInput(in_batch if batch else field or "body", error.value, error.problem) from error
