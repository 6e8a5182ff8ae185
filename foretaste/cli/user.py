"""`foretaste register | onboard | behave | rank | recommend`: one user, by hand, by a service or past it."""

import asyncio
import csv
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from foretaste import compose
from foretaste.console import console
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import Topic, UserBehaved, UserErased, UserRegistered
from foretaste.kernel.values import MISSING_ACTION
from foretaste.settings import Settings
from serving.bodies import MAX_BATCH, OnboardRequest, OnboardResponse
from serving.requests import RankRequest, RankResponse, RecommendRequest, RecommendResponse

if TYPE_CHECKING:
    from foretaste.client import Foretaste

PATIENCE = 5.0
"""Seconds that an answer by hand waits for parts: each of them is connected to first."""


def rank(
    user: str,
    items: Annotated[str, typer.Option(help="Candidate item ids, separated by commas.")],
    context: Annotated[str, typer.Option(help="A JSON object of context fields.")] = "{}",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
) -> None:
    """Put candidate items in order for a user. Training learns nothing from it."""
    request = RankRequest(user_id=user, items=_split(items), context=_json_object("context", context))
    settings = Settings()
    if settings.url is not None:
        with service_of(settings, settings.url) as service:
            response = service.rank(request.user_id, request.items, context=request.context, shown=0)
    else:
        response = asyncio.run(_ranked(compose.resolve(settings), request))
    if as_json:
        console.print_json(response.model_dump_json())
    else:
        _print_ranking(response)


def recommend(
    user: str,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many items.")] = 20,
    only: Annotated[str, typer.Option("--filter", help="A JSON object: allow, deny, attributes.")] = "{}",
    context: Annotated[str, typer.Option(help="A JSON object of context fields.")] = "{}",
    seen: Annotated[bool, typer.Option("--seen", help="Recommend what the user acted on, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
) -> None:
    """Recommend the best items of the whole catalogue to a user. Training learns nothing from it."""
    filters, moment = _json_object("filter", only), _json_object("context", context)
    request = RecommendRequest.model_validate(
        {"user_id": user, "k": k, "filter": filters, "exclude_seen": not seen, "context": moment}
    )
    response = asyncio.run(_recommended(compose.resolve(Settings()), request))
    if as_json:
        console.print_json(response.model_dump_json())
    else:
        _print_ranking(response)


def register(
    user: Annotated[
        str | None, typer.Argument(help="A user id; without it, events are read from standard input.")
    ] = None,
    attributes: Annotated[str, typer.Option(help='A JSON object, such as \'{"age": 25, "gender": "F"}\'.')] = "{}",
) -> None:
    """Sign users up: one, or a line of JSON each from standard input."""
    if user is None:
        values = [_registration(number, line) for number, line in enumerate(sys.stdin, 1) if line.strip()]
    else:
        values = [UserRegistered(user_id=user, attributes=_json_object("attributes", attributes))]
    settings = Settings()
    if settings.url is not None:
        with service_of(settings, settings.url) as service:
            for start in range(0, len(values), MAX_BATCH):
                service.register_many(values[start : start + MAX_BATCH])
    else:
        asyncio.run(send(compose.resolve(settings), Topic.REGISTERED, values))
    console.print(f"{len(values)} sent to {Topic.REGISTERED}")


def onboard(
    user: str,
    attributes: Annotated[str | None, typer.Option(help="A JSON object: signs the user up with it.")] = None,
    answers: Annotated[str, typer.Option(help="A JSON object, such as '{\"Heat (1995)\": true}'.")] = "{}",
    questions: Annotated[int, typer.Option(min=0, help="How many items to ask about, at most.")] = 5,
    ask: Annotated[bool, typer.Option("--ask", help="Ask here, and send the answers.")] = False,
) -> None:
    """Ask a new user about a few items, those whose answers tell most of the taste; and send answers."""
    request = OnboardRequest.model_validate(
        {
            "user_id": user,
            "attributes": None if attributes is None else _json_object("attributes", attributes),
            "answers": _json_object("answers", answers),
            "questions": questions,
        }
    )
    response = _onboard(request)
    if not ask:
        console.print_json(response.model_dump_json(exclude_none=True))
        return
    given = {item: _asked(item) for item in response.items}
    if any(each is not None for each in given.values()):
        _onboard(OnboardRequest(user_id=user, answers=given, questions=0))
    console.print(f"{sum(each is not None for each in given.values())} answers sent")


def _asked(item: str) -> bool | None:
    """Whether the person at the terminal likes the item; None where that is skipped."""
    said = typer.prompt(f"{item}: do you like it? (y, n; Enter skips it)", default="", show_default=False)
    return {"y": True, "n": False}.get(said.strip().lower()[:1])


def behave(
    user: str,
    item: str,
    action: Annotated[str, typer.Option(help="What the user did.")] = MISSING_ACTION,
    passed_over: Annotated[
        list[str] | None, typer.Option(help="An item that was shown and not chosen; may be given again.")
    ] = None,
) -> None:
    """Send one behaviour."""
    now = datetime.now(UTC)
    event = UserBehaved(user_id=user, item_id=item, action=action, at=now, passed_over=tuple(passed_over or ()))
    settings = Settings()
    if settings.url is not None:
        with service_of(settings, settings.url) as service:
            service.behave_many([event])
    else:
        asyncio.run(send(compose.resolve(settings), Topic.BEHAVED, [event]))
    console.print(f"1 sent to {Topic.BEHAVED}")


def service_of(settings: Settings, url: str) -> "Foretaste":
    """The running service that the settings name."""
    from foretaste.client import Foretaste

    return Foretaste(url, settings.token.get_secret_value() if settings.token is not None else None)


async def send(settings: Settings, topic: str, values: Sequence[UserRegistered | UserBehaved | UserErased]) -> None:
    """Produce events to `topic`, keyed by user id; all durable on return. None need no connection."""
    from streams.codec import EVENTS

    if not values:
        return

    events = compose.events(settings)
    try:
        keyed = [(event.user_id.encode(), EVENTS.encode(event)) for event in values]
        await events.send_all(f"{settings.topic_prefix}{topic}", keyed)
    finally:
        await events.close()


def _onboard(request: OnboardRequest) -> OnboardResponse:
    settings = Settings()
    if settings.url is not None:
        with service_of(settings, settings.url) as service:
            return service.onboard(
                request.user_id, request.answers, attributes=request.attributes, questions=request.questions
            )
    return asyncio.run(_onboarded(compose.resolve(settings), request))


async def _onboarded(settings: Settings, request: OnboardRequest) -> OnboardResponse:
    """One exchange with a user, without the HTTP service."""
    from prometheus_client import CollectorRegistry

    from serving.metrics import RankingMetrics

    async with compose.parts(settings) as parts:
        _, active = compose.ranking(settings, parts, RankingMetrics(CollectorRegistry()), seconds=PATIENCE)
        step = await compose.onboarding(parts, active).step(request)
    await send(settings, Topic.REGISTERED, step.registrations)
    await send(settings, Topic.BEHAVED, step.answers)
    return step.response


async def _ranked(settings: Settings, request: RankRequest) -> RankResponse:
    """One ranking request, without the HTTP service."""
    from prometheus_client import CollectorRegistry

    from serving.metrics import RankingMetrics

    async with compose.parts(settings) as parts:
        way, _ = compose.ranking(settings, parts, RankingMetrics(CollectorRegistry()), seconds=PATIENCE)
        way.check(request)
        await compose.registered_items(parts).look()
        (response,) = await way.rank([request])
        return response


async def _recommended(settings: Settings, request: RecommendRequest) -> RecommendResponse:
    """One recommendation, without the HTTP service."""
    from prometheus_client import CollectorRegistry

    from serving.metrics import RankingMetrics

    async with compose.parts(settings) as parts:
        way, _ = compose.ranking(settings, parts, RankingMetrics(CollectorRegistry()), seconds=PATIENCE)
        recommending = compose.recommending(settings, parts, way, seconds=PATIENCE)
        await recommending.check(request)
        await compose.registered_items(parts).look()
        (response,) = await recommending.recommend([request])
        return response


def _split(items: str) -> list[str]:
    """As a line of CSV, since an id may hold a comma: `Heat (1995),"Fugitive, The (1993)"`."""
    return next(csv.reader([items], skipinitialspace=True), [])


def _registration(number: int, line: str) -> UserRegistered:
    """Raises `InvalidInput` naming the line, the field and the value."""
    try:
        return UserRegistered.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["line", str(number), *(str(part) for part in first["loc"])])
        raise InvalidInput(field, first["input"], first["msg"]) from error


def _json_object(field: str, text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(field, text, f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(field, text, "expected a JSON object")
    return value


def _print_ranking(response: RankResponse) -> None:
    rows = Table("rank", "item", "score", title=f"{response.user_id}, served by {response.served_by}")
    for place, item in enumerate(response.ranked, 1):
        rows.add_row(str(place), item["item_id"], f"{item['score']:.4f}")
    console.print(rows)
    if response.reason:
        console.print(f"{response.fallback or response.served_by}: {response.reason}")
