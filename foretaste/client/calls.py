"""Each call as the request that it sends and the reading of its answer: what both clients have in common."""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from foretaste.client.errors import RequestRefused, ServiceAway, UnreadableAnswer
from foretaste.kernel.configuration import invalid_input
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.running.registered_items import ItemRegistered
from foretaste.kernel.values import Attributes
from serving.bodies import (
    ErasureAccepted,
    EventsAccepted,
    GenerationEntry,
    GenerationList,
    ItemRemoved,
    OnboardRequest,
    OnboardResponse,
    Problem,
    RollbackDone,
    StoredUser,
)
from serving.requests import RankResponse

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)

_LATER = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how its answer is read. `waits` is how many seconds the service itself may take."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    waits: float = 0.0
    repeatable: bool = True
    """Whether it may be sent again though it may have been carried out."""


def rank_call(
    user_id: str, items: Sequence[str], context: Attributes | None, shown: int | None, *, vouched: bool
) -> Call[RankResponse]:
    body = {
        "user_id": user_id,
        "items": list(items),
        "context": dict(context or {}),
        "shown": shown,
        "vouched": vouched,
    }
    return Call("POST", "/v1/rank", lambda answer: _model(answer, RankResponse), _content(body), headers=_JSON)


def register_call(events: Sequence[UserRegistered], wait: float) -> Call[EventsAccepted]:
    return _write("/v1/users", "users", events, wait)


def onboard_call(request: OnboardRequest, wait: float) -> Call[OnboardResponse]:
    return Call(
        "POST",
        "/v1/onboard",
        lambda answer: _model(answer, OnboardResponse),
        request.model_dump_json().encode(),
        params={"wait": str(wait)} if wait else {},
        headers={**_JSON, "Idempotency-Key": str(uuid.uuid4())},
        waits=wait,
    )


def behave_call(events: Sequence[UserBehaved], wait: float) -> Call[EventsAccepted]:
    return _write("/v1/behaviours", "behaviours", events, wait)


def items_call(events: Sequence[ItemRegistered], wait: float) -> Call[EventsAccepted]:
    return _write("/v1/items", "items", events, wait)


def remove_item_call(item_id: str, wait: float) -> Call[ItemRemoved]:
    return Call(
        "DELETE",
        _path_of(item_id, "items", "item_id"),
        lambda answer: _model(answer, ItemRemoved),
        params={"wait": str(wait)} if wait else {},
        headers={"Idempotency-Key": str(uuid.uuid4())},
        waits=wait,
    )


def user_call(user_id: str) -> Call[StoredUser | None]:
    def read(answer: httpx.Response) -> StoredUser | None:
        return None if answer.status_code == HTTPStatus.NOT_FOUND else _model(answer, StoredUser)

    return Call("GET", _path_of(user_id, "users", "user_id"), read)


def erase_call(user_id: str, wait: float) -> Call[ErasureAccepted]:
    return Call(
        "DELETE",
        _path_of(user_id, "users", "user_id"),
        lambda answer: _model(answer, ErasureAccepted),
        params={"wait": str(wait)} if wait else {},
        headers={"Idempotency-Key": str(uuid.uuid4())},
        waits=wait,
    )


def generations_call() -> Call[list[GenerationEntry]]:
    return Call("GET", "/v1/generations", lambda answer: _model(answer, GenerationList).generations)


def rollback_call(expected: int | None, reason: str | None) -> Call[RollbackDone]:
    """Sent twice it would lead back again, so it is not repeatable."""
    body = {name: value for name, value in (("expected", expected), ("reason", reason)) if value is not None}
    path = "/v1/generations/rollback"
    return Call(
        "POST", path, lambda answer: _model(answer, RollbackDone), _content(body), headers=_JSON, repeatable=False
    )


def ready_call() -> Call[bool]:
    """503 is an answer, not a reason to ask again."""

    def read(answer: httpx.Response) -> bool:
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            return False
        _checked(answer)
        return True

    return Call("GET", "/readyz", read)


def registration(
    user_id: str, attributes: Attributes, registered_at: datetime | None, event_id: str | None
) -> UserRegistered:
    """Raises `InvalidInput` for what the service would refuse."""
    try:
        return UserRegistered(user_id=user_id, attributes=attributes, registered_at=registered_at, event_id=event_id)
    except ValidationError as error:
        raise invalid_input(error) from error


def onboarding(
    user_id: str, answers: Mapping[str, bool | None] | None, attributes: Attributes | None, questions: int
) -> OnboardRequest:
    """Raises `InvalidInput` for what the service would refuse."""
    try:
        return OnboardRequest(user_id=user_id, answers=answers or {}, attributes=attributes, questions=questions)
    except ValidationError as error:
        raise invalid_input(error) from error


def item(item_id: str, attributes: Attributes, registered_at: datetime | None) -> ItemRegistered:
    """Raises `InvalidInput` for what the service would refuse."""
    try:
        return ItemRegistered(item_id=item_id, attributes=attributes, registered_at=registered_at)
    except ValidationError as error:
        raise invalid_input(error) from error


def act(
    user_id: str,
    item_id: str,
    action: str,
    at: datetime | None,
    *,
    ranking_id: str | None,
    event_id: str | None,
    passed_over: Sequence[str],
) -> UserBehaved:
    """Now, where `at` is None. Raises `InvalidInput` for what the service would refuse."""
    try:
        return UserBehaved(
            user_id=user_id,
            item_id=item_id,
            action=action,
            at=at or datetime.now(UTC),
            ranking_id=ranking_id,
            event_id=event_id,
            passed_over=tuple(passed_over),
        )
    except ValidationError as error:
        raise invalid_input(error) from error


def _write(
    path: str, name: str, events: Sequence[UserRegistered | UserBehaved | ItemRegistered], wait: float
) -> Call[EventsAccepted]:
    """Every try has the same idempotency key: the service carries it out once."""
    body = {name: [event.model_dump(mode="json") for event in events]}
    return Call(
        "POST",
        path,
        lambda answer: _model(answer, EventsAccepted),
        _content(body),
        params={"wait": str(wait)} if wait else {},
        headers=_JSON | {"Idempotency-Key": str(uuid.uuid4())},
        waits=wait,
    )


def _path_of(name: str, resource: str, field: str) -> str:
    """Raises `InvalidInput` for an id that no path can name."""
    if not name:
        raise InvalidInput(field, name, "expected one or more characters")
    try:
        quoted = quote(name, safe="").replace(".", "%2E")  # a path of dots alone would lead elsewhere
    except UnicodeEncodeError as error:
        raise InvalidInput(field, name, f"cannot be sent in UTF-8: {error.reason}") from error
    return f"/v1/{resource}/{quoted}"


_JSON = {"Content-Type": "application/json"}


def _content(body: object) -> bytes:
    """Raises `InvalidInput` for what JSON in UTF-8 cannot carry: nan, a surrogate that stands alone, a date."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput("body", body, f"cannot be sent as JSON: {error}") from error


def _model(answer: httpx.Response, kind: type[ModelT]) -> ModelT:
    """Raises `UnreadableAnswer`, and what `_checked` raises."""
    content = _checked(answer).content
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise UnreadableAnswer(str(invalid_input(error, kind.__name__))) from error


def _checked(answer: httpx.Response) -> httpx.Response:
    """Raises `RequestRefused` or `ServiceAway` for an answer that is none."""
    if not answer.is_success:
        _refuse(answer)
    return answer


def _refuse(answer: httpx.Response) -> NoReturn:
    problem, after = _problem(answer), answer.headers.get("retry-after", "")
    in_process = answer.status_code == HTTPStatus.CONFLICT and after
    if answer.status_code in _LATER or in_process:
        # one that comes too often is not carried out
        sent = answer.status_code != HTTPStatus.TOO_MANY_REQUESTS
        detail = f"{problem.status} {problem.title}: {problem.detail}"
        raise ServiceAway(detail, problem=problem, sent=sent, after=float(after) if after.isdecimal() else 0.0)
    raise RequestRefused(problem, answer.headers.get("x-request-id", ""))


def _problem(answer: httpx.Response) -> Problem:
    """The problem document, or what something between here and the service says instead of one."""
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:
        title, said = answer.reason_phrase or "no reason", answer.text[:200]
        return Problem(type="about:blank", title=title, status=answer.status_code, detail=said)


def away(error: httpx.TransportError, url: str) -> ServiceAway:
    """What a connection that failed is to a caller."""
    never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return ServiceAway(f"{url}: {str(error) or type(error).__name__}", sent=not never_sent)


def address(url: str) -> str:
    """Without a slash at the end. Raises `InvalidInput` for what is no HTTP address."""
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput("url", url, "expected http://host:port or https://host:port")
    return url.rstrip("/")


def standing_headers(token: str | None) -> dict[str, Any]:
    """What every request carries."""
    bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
    return {"Accept": "application/json", **bearer}
