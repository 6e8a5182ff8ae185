"""The command line: each command reads the settings, does one job on the wired parts, and says what it did."""

import asyncio
import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from rich.table import Table
from rich.text import Text

from benchmarks.__main__ import bench
from foretaste import compose, embedded, jobs
from foretaste.cli import cotrain as refreshing
from foretaste.cli import evaluate as studying
from foretaste.cli.cotrain import Device
from foretaste.cli.generations import generations
from foretaste.console import console, errors, progress
from foretaste.kernel.errors import ForetasteError, InvalidInput
from foretaste.kernel.events import Topic, UserBehaved, UserRegistered
from foretaste.settings import Settings, shown, table, variable
from models.generations import publish as publishing
from serving.requests import RankRequest, RankResponse

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="A taste profile for a new user before the first click."
)
data = typer.Typer(no_args_is_help=True, help="Data sets: fetch one, or check a folder of your own.")
app.add_typer(data, name="data")
app.command()(studying.evaluate)
app.add_typer(bench, name="bench")
app.add_typer(generations, name="generations")
app.command()(refreshing.cotrain)

Data = Annotated[str, typer.Option("--data", help="ml-1m, ml-100k, alimama, or a folder with dataset.yaml.")]


class Masked(StrEnum):
    ROWS = "rows"
    USERS = "users"
    NOBODY = "nobody"


EXIT_INVALID, EXIT_FAILED, EXIT_RETRIABLE = 2, 1, 75
"""75 is EX_TEMPFAIL: the same command may succeed later."""


def main() -> None:
    """Run the command line; an error that Foretaste raises is one line on stderr and an exit status."""
    try:
        app()
    except ExceptionGroup as group:
        ours, others = group.split(ForetasteError)
        if ours is None or others is not None:
            raise
        sys.exit(_failed(_first(ours)))
    except (ForetasteError, ValidationError) as error:
        sys.exit(_failed(error))


def _failed(error: ForetasteError | ValidationError) -> int:
    """Says what was wrong; the exit status."""
    if isinstance(error, ValidationError):
        by_field = {problem["loc"][:2]: problem for problem in reversed(error.errors())}
        for problem in reversed(by_field.values()):  # one a field: a union has one for each of its members
            errors.print(f"error {_where(error, problem)}")
        return EXIT_INVALID
    errors.print(f"error {error}")
    if error.retriable:
        return EXIT_RETRIABLE
    return EXIT_INVALID if isinstance(error, InvalidInput) else EXIT_FAILED


def _where(error: ValidationError, problem: ErrorDetails) -> str:
    """The field, what is wrong, and the value; not a setting's value, which may be a password."""
    of_settings = error.title == Settings.__name__
    names = [str(part) for part in problem["loc"][:2]]
    field = variable(names[0]) if of_settings and names else ".".join(names)
    value = "" if of_settings or not names else f" (got {problem['input']!r})"
    in_union = not of_settings and len(problem["loc"]) > len(names)
    what = "must be a string, a number, a boolean or null" if in_union else problem["msg"].removeprefix("Value error, ")
    return f"{field}: {what}{value}" if field else what


def _first(group: ExceptionGroup[ForetasteError]) -> ForetasteError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


@app.command()
def up() -> None:
    """Start Kafka, Redis, Triton and all of Foretaste's own processes on this machine, until Ctrl-C."""
    embedded.up(Settings())


@app.command()
def settings() -> None:
    """Show every setting, its value now, and what it means."""
    values = shown(Settings())
    rows = Table("variable", "value", "meaning")
    for name, _, meaning in table():
        rows.add_row(name, values[name], meaning)
    console.print(rows)


@app.command()
def status() -> None:
    """Show each part, its address and its health; exit status 1 if any is not well."""
    parts = asyncio.run(jobs.health(compose.resolve(Settings())))
    rows = Table("part", "address", "health", "detail", "ms")
    for part in parts:
        health = Text("ok", style="green") if part.ok else Text("down", style="red")
        rows.add_row(part.part, part.address, health, part.detail, f"{part.ms:.1f}")
    console.print(rows)
    if not all(part.ok for part in parts):
        raise typer.Exit(1)


@app.command()
def setup() -> None:
    """Create the topics and Feast's registry. Harmless to repeat."""
    settings = compose.resolve(Settings())
    asyncio.run(jobs.create_topics(settings))
    jobs.apply_features(settings)
    console.print(f"topics on {settings.kafka} and features on Redis are set up")


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="ml-1m, ml-100k or alimama.")],
    source: Annotated[
        Path | None, typer.Option(help="GroupLens's zip or its folder; Alimama's folder of four files.")
    ] = None,
) -> None:
    """Bring a public data set, check it, convert it once and cache it."""
    with progress() as report:
        folder = jobs.fetch(Settings(), name, source, report)
    console.print(f"{name} is in {folder}")


@data.command()
def check(folder: Path) -> None:
    """Read a data set folder as training would, and say what is in it."""
    with progress() as report:
        found = jobs.describe(Settings(), str(folder), report)
    console.print_json(json.dumps(found))


@app.command()
def train(
    data: Data = "ml-1m",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training rows.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
    device: Annotated[Device, typer.Option(help="What to train on.")] = "auto",
    warm_after: Annotated[
        int | None, typer.Option(min=1, help="Behaviours after which a user is warm; the paper's rule is 1.")
    ] = None,
    masked: Annotated[Masked | None, typer.Option(help="Whose history is hidden in training.")] = None,
    ranking: Annotated[
        str | None, typer.Option(help="recency, dnn, din, dmr, dcn, dcn-low-rank, deepfm, or package.module:Class.")
    ] = None,
    zero_shot: Annotated[
        str | None, typer.Option(help="effects, mail, dual, single, none, absent, or package.module:Class.")
    ] = None,
) -> None:
    """Co-train both towers, evaluate them on the time split and write the next generation."""
    options = {"seed": seed, "device": device, "warm_after": warm_after, "masked": masked, "epochs": epochs}
    towers = {"ranking": ranking, "zero_shot": zero_shot}
    settings, config = Settings(), jobs.training_config(_given(options), _given(towers))
    with progress() as report:
        artifact = jobs.train(settings, jobs.open_dataset(settings, data, report), config, report)
    console.print(f"generation {artifact.name} is in {artifact}")
    console.print_json((artifact / "manifest.json").read_text(encoding="utf-8"))


@app.command()
def publish(
    generation: Annotated[int | None, typer.Argument(help="The newest where absent.")] = None,
) -> None:
    """Load a generation into Triton beside the others, then make it the active one."""
    number = asyncio.run(publishing.publish(compose.resolve(Settings()), generation))
    console.print(f"generation {number} is active")


@app.command()
def worker() -> None:
    """Run one stream worker: sign-ups, behaviour and re-enrichment. Start as many as there are partitions."""
    asyncio.run(jobs.serve_worker(compose.resolve(Settings())))


@app.command("log")
def write_log(
    convert: Annotated[
        Path | None, typer.Option(help="Bring in the log of an earlier version from this folder, and end.")
    ] = None,
) -> None:
    """Write the training log: what was served, and what users did. Start as many as there are partitions."""
    if convert is not None:
        with progress() as report:
            done = jobs.convert_log(Settings(), convert, report)
        for path in done.skipped:
            errors.print(f"cannot be read, and is left out: {path}")
        console.print(f"{done.rows} rows of {done.days} days are converted; {done.already} days were before")
        raise typer.Exit(1 if done.skipped else 0)
    asyncio.run(jobs.serve_log(compose.resolve(Settings())))


@app.command()
def watch() -> None:
    """Watch over what is served: drift, coverage, calibration; a generation that goes wrong is rolled back."""
    asyncio.run(jobs.serve_watch(compose.resolve(Settings())))


@app.command()
def serve() -> None:
    """Run the ranking service: POST /v1/rank, /healthz, /readyz, /metrics, and the console page at /."""
    asyncio.run(jobs.serve_api(compose.resolve(Settings())))


@app.command()
def rank(
    user: str,
    items: Annotated[str, typer.Option(help="Candidate item ids, separated by commas.")],
    context: Annotated[str, typer.Option(help="A JSON object of context fields.")] = "{}",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
) -> None:
    """Put candidate items in order for a user."""
    request = RankRequest(user_id=user, items=_split(items), context=_json_object("context", context))
    response = asyncio.run(jobs.rank(compose.resolve(Settings()), request))
    if as_json:
        console.print_json(response.model_dump_json())
    else:
        _print_ranking(response)


@app.command()
def register(
    user: Annotated[
        str | None, typer.Argument(help="A user id; without it, events are read from standard input.")
    ] = None,
    attributes: Annotated[str, typer.Option(help='A JSON object, such as \'{"age": 25, "gender": "F"}\'.')] = "{}",
) -> None:
    """Sign users up through Kafka: one, or a line of JSON each from standard input."""
    if user is None:
        values = [_registration(number, line) for number, line in enumerate(sys.stdin, 1) if line.strip()]
    else:
        values = [UserRegistered(user_id=user, attributes=_json_object("attributes", attributes))]
    asyncio.run(jobs.send(compose.resolve(Settings()), Topic.REGISTERED, values))
    console.print(f"{len(values)} sent to {Topic.REGISTERED}")


@app.command()
def behave(user: str, item: str, action: Annotated[str, typer.Option(help="What the user did.")] = "acted") -> None:
    """Send one behaviour through Kafka."""
    event = UserBehaved(user_id=user, item_id=item, action=action, at=datetime.now(UTC))
    asyncio.run(jobs.send(compose.resolve(Settings()), Topic.BEHAVED, [event]))
    console.print(f"1 sent to {Topic.BEHAVED}")


@app.command("dead-letters")
def dead_letters(
    limit: Annotated[int, typer.Option(min=1, help="Newest of each partition, at most.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON each, with the whole event.")] = False,
) -> None:
    """Show dead letters: origin, reason, detail and the event as it came."""
    letters = asyncio.run(jobs.dead_letters(compose.resolve(Settings()), limit))
    rows = Table("origin", "reason", "detail", "event")
    for letter in letters:
        origin = letter.message.origin
        event = (letter.message.value or b"").decode(errors="backslashreplace")
        if as_json:
            line = {"origin": asdict(origin), "reason": letter.reason, "detail": letter.detail, "event": event}
            typer.echo(json.dumps(line))
        rows.add_row(f"{origin.topic}/{origin.partition}@{origin.offset}", letter.reason, letter.detail, event[:120])
    if not as_json:
        console.print(rows)


@app.command()
def demo(
    data: Data = "ml-1m",
    users: Annotated[int, typer.Option(min=1, help="Real users after the split who sign up.")] = 1000,
    rate: Annotated[float, typer.Option(min=1, help="Sign-ups a second.")] = 100.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the system running until Ctrl-C.")] = False,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train again though a generation fits.")] = False,
) -> None:
    """The main job: stack up, data, training, live sign-ups through Kafka, enrichment and ranking; then a table."""
    from foretaste.demo.run import Plan, run

    run(Settings(), Plan(data=data, users=users, rate=rate, keep=keep, retrain=retrain))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that keep their default."""
    return {name: value for name, value in options.items() if value is not None}


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
        rows.add_row(str(place), item.item_id, f"{item.score:.4f}")
    console.print(rows)
    if response.reason:
        console.print(f"{response.fallback or response.served_by}: {response.reason}")
