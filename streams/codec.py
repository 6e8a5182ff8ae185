"""Events as bytes and bytes as events: the only place that knows how an event is written on a topic."""

from typing import Protocol, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError

from foretaste.kernel.errors import ForetasteError, InvalidInput
from foretaste.kernel.events import MAX_FIELD, Event, Reason
from foretaste.kernel.values import MOST_ELEMENTS

EventT = TypeVar("EventT", bound=Event)


class Undecodable(ForetasteError):
    """Bytes that are no such event: `reason` is that of the dead letter, the message names field and value."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class Codec(Protocol):
    """A format of events on topics."""

    def encode(self, event: Event) -> bytes:
        """The value of a Kafka record. Raises `InvalidInput` for an event that the format cannot carry."""
        ...

    def decode(self, value: bytes | None, kind: type[EventT]) -> EventT:
        """The event of that kind. Raises `Undecodable`."""
        ...


class JsonCodec:
    """JSON objects in UTF-8; fields that an event does not have are passed over."""

    def encode(self, event: Event) -> bytes:
        try:
            return event.__pydantic_serializer__.to_json(event)  # bytes at once: `model_dump_json` makes a text of them
        except PydanticSerializationError as error:
            raise InvalidInput(type(event).__name__, event, f"cannot be written as JSON: {error}") from error

    def decode(self, value: bytes | None, kind: type[EventT]) -> EventT:
        if not value:
            raise Undecodable(Reason.MALFORMED, f"value: must be a JSON object (got {value!r})")
        try:
            return kind.model_validate_json(value)
        except ValidationError as error:
            raise _undecodable(value, error.errors(include_url=False, include_context=False)) from error


EVENTS: Codec = JsonCodec()
"""The format of events on all topics: who writes or reads one uses this, and another format is named here."""


def _undecodable(value: bytes, errors: list[ErrorDetails]) -> Undecodable:
    first = errors[0]
    if first["type"] == "json_invalid":
        return Undecodable(Reason.MALFORMED, str(InvalidInput("value", value, first["msg"])))
    if not first["loc"]:
        return Undecodable(Reason.MALFORMED, str(InvalidInput("value", first["input"], "must be a JSON object")))
    if first["type"] == "missing":
        return Undecodable(Reason.INVALID, f"{_field(first)}: is missing")
    field, wrong = _field(first), first["input"]
    if (place := _in_list(first, errors)) is not None:
        field, wrong = f"{field}.{place}", wrong[place]
        return Undecodable(Reason.INVALID, str(InvalidInput(field, wrong, _problem(first, errors, in_list=True))))
    return Undecodable(Reason.INVALID, str(InvalidInput(field, wrong, _problem(first, errors))))


def _in_list(first: ErrorDetails, errors: list[ErrorDetails]) -> int | None:
    """The place of what is wrong in an attribute's list; None where it is no list, or too long."""
    own = [error for error in errors if error["loc"][:2] == first["loc"][:2]]
    if not isinstance(first["input"], list) or any(error["type"] == "too_long" for error in own):
        return None
    return next((step for error in own for step in error["loc"][2:] if isinstance(step, int)), None)


def _problem(first: ErrorDetails, errors: list[ErrorDetails], *, in_list: bool = False) -> str:
    if len(first["loc"]) < 3:  # noqa: PLR2004  # field, name and member of the union
        return first["msg"]
    # an attribute is a union: one error a member, of which none alone says what is wrong
    of_this_field = {error["type"] for error in errors if error["loc"][:2] == first["loc"][:2]}
    if "finite_number" in of_this_field:
        return "must be a finite number"
    if "too_long" in of_this_field:
        return f"a list has at most {MOST_ELEMENTS} values"
    return f"must be a string, a number, a boolean{' or null' if in_list else ', null, or a list of such'}"


def _field(error: ErrorDetails) -> str:
    name = ".".join(str(part) for part in error["loc"][:2])
    return name if len(name) <= MAX_FIELD else f"{name[:MAX_FIELD]}…"
