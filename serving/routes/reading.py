"""Bodies that a route reads itself, with errors as where FastAPI reads them."""

import json
from collections.abc import Callable
from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def read(body: bytes, fast: TypeAdapter[T], slow: Callable[[object], TypeAdapter[T]] | None = None) -> T:
    """What a body holds. Raises `RequestValidationError`, as FastAPI does where it reads the body itself.

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
    except (ValueError, RecursionError) as error:
        wrong = {"type": "json_invalid", "loc": ("body",), "msg": f"JSON decode error: {error}", "input": body}
        raise RequestValidationError([wrong]) from error
