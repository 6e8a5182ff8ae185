"""Bodies that a route reads itself, with errors as where FastAPI reads them."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

T = TypeVar("T")


def read(body: bytes, fast: TypeAdapter[T], slow: Callable[[object], TypeAdapter[T]] | None = None) -> T:
    """What a body holds. Raises `RequestValidationError`, as FastAPI does where it reads the body itself, and an
    `HTTPException` whose cause tells for one that is not UTF-8, nested too deeply or of numbers too long.

    A body that the fast reader does not take is read once more by Python's own, which also takes a surrogate that
    stands alone, so that the error names its field; `slow` says which form it has by then.
    """
    try:
        return fast.validate_json(body)
    except ValidationError:
        pass
    try:
        raw = json.loads(body)
        return (fast if slow is None else slow(raw)).validate_python(raw)
    except ValidationError as error:
        raise RequestValidationError([each | {"loc": ("body", *each["loc"])} for each in error.errors()]) from error
    except json.JSONDecodeError as error:
        wrong = {"type": "json_invalid", "loc": ("body", error.pos), "input": {}, "ctx": {"error": error.msg}}
        raise RequestValidationError([wrong], body=error.doc) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST.value) from error
