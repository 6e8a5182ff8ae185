"""`POST /v1/rank`: bytes in, bytes out; no object a candidate is made between them."""

import json
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from serving.joining import Joined
from serving.ranking import Ranking
from serving.requests import RankRequest, RankResponse

T = TypeVar("T")
_ONE = TypeAdapter(RankRequest)
_ANSWER = TypeAdapter(RankResponse)
_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": RankRequest.model_json_schema()}}}
}


def add_ranking(api: FastAPI, ranking: Ranking) -> None:
    """Add the route; requests that come together share one read and one call of the tower."""
    joined = Joined(ranking.rank)

    @api.post("/v1/rank", response_model=RankResponse, openapi_extra=_BODY)
    async def rank(http: Request) -> Response:
        """The candidates of a user, best first."""
        request = validated(_ONE, await http.body())
        ranking.check(request)
        return Response(_ANSWER.dump_json(await joined.ask(request)), media_type="application/json")


def validated(adapter: TypeAdapter[T], body: bytes) -> T:
    """The value that a body holds. Raises `RequestValidationError`, as FastAPI does where it reads the body itself.

    A body that the fast reader does not take is read once more by Python's own, which takes a surrogate that stands
    alone, so that the error names its field.
    """
    try:
        return adapter.validate_json(body)
    except ValidationError:
        pass
    try:
        return adapter.validate_python(json.loads(body))
    except ValidationError as error:
        raise RequestValidationError([each | {"loc": ("body", *each["loc"])} for each in error.errors()]) from error
    except (ValueError, RecursionError) as error:
        wrong = {"type": "json_invalid", "loc": ("body",), "msg": f"JSON decode error: {error}", "input": body}
        raise RequestValidationError([wrong]) from error
