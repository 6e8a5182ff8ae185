"""The command line: each command reads the settings, does one job on the wired parts, and says what it did."""

import asyncio
import csv
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from foretaste import compose, embedded, jobs
from foretaste.console import console, errors, progress
from foretaste.contracts import RankRequest, RankResponse, Topic, UserBehaved, UserRegistered
from foretaste.errors import ForetasteError, InvalidInput
from foretaste.settings import Settings, table

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="A taste profile for a new user before the first click."
)
data = typer.Typer(no_args_is_help=True, help="Data sets: fetch one, or check a folder of your own.")
app.add_typer(data, name="data")

Data = Annotated[str, typer.Option("--data", help="ml-1m, ml-100k, or a folder with dataset.yaml.")]
EXIT_INVALID, EXIT_FAILED, EXIT_RETRIABLE = 2, 1, 75
"""75 is EX_TEMPFAIL: the same command may succeed later."""


def main() -> None:
    """Run the command line; an error that Foretaste raises is one line on stderr and an exit status."""
    try:
        app()
    except ForetasteError as error:
        errors.print(f"[bold red]error[/] {error}", highlight=False, soft_wrap=True)
        invalid = EXIT_INVALID if isinstance(error, InvalidInput) else EXIT_FAILED
        sys.exit(EXIT_RETRIABLE if error.retriable else invalid)
    except ValidationError as error:
        for problem in error.errors():
            field = ".".join(str(part) for part in problem["loc"])
            errors.print(f"[bold red]error[/] {field}: {problem['msg']} (got {problem['input']!r})", highlight=False)
        sys.exit(EXIT_INVALID)


@app.command()
def up() -> None:
    """Start Kafka, Redis, Triton, a worker and the ranking service on this machine, until Ctrl-C."""
    embedded.up(Settings())


@app.command()
def settings() -> None:
    """Show every setting, its value now, and what it means."""
    now = Settings()
    shown = Table("variable", "value", "meaning")
    for variable, _, meaning in table():
        value = getattr(now, variable.removeprefix("FORETASTE_").lower())
        shown.add_row(variable, "" if value is None else str(value), meaning)
    console.print(shown)


@app.command()
def status() -> None:
    """Show each part, its address and its health; exit status 1 if any is not well."""
    parts = asyncio.run(jobs.health(compose.resolve(Settings())))
    shown = Table("part", "address", "health", "detail", "ms")
    for part in parts:
        shown.add_row(part.part, part.address, "[green]ok" if part.ok else "[red]down", part.detail, f"{part.ms:.1f}")
    console.print(shown)
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
    name: Annotated[str, typer.Argument(help="ml-1m or ml-100k.")],
    source: Annotated[Path | None, typer.Option(help="GroupLens's zip file, or its unpacked folder.")] = None,
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
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    warm_after: Annotated[
        int, typer.Option(min=1, help="Behaviours after which a user is warm; the paper's rule is 1.")
    ] = 1,
    masked: Annotated[str, typer.Option(help="Whose history is hidden in training: rows or users.")] = "rows",
) -> None:
    """Co-train both towers, evaluate them on the time split and write the next generation."""
    options = {"seed": seed, "device": device, "warm_after": warm_after, "masked": masked}
    if epochs is not None:
        options["epochs"] = epochs
    with progress() as report:
        settings = Settings()
        artifact = jobs.train(settings, jobs.open_dataset(settings, data, report), options, report)
    console.print(f"generation {artifact.name} is in {artifact}")
    console.print_json((artifact / "manifest.json").read_text(encoding="utf-8"))


@app.command()
def publish(
    generation: Annotated[int | None, typer.Argument(help="The newest where absent.")] = None,
) -> None:
    """Load a generation into Triton beside the others, then make it the active one."""
    number = asyncio.run(jobs.publish(compose.resolve(Settings()), generation))
    console.print(f"generation {number} is active")


@app.command()
def worker() -> None:
    """Run one stream worker: the sign-up way and the behaviour way. Start as many as there are partitions."""
    asyncio.run(jobs.serve_worker(compose.resolve(Settings())))


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
        values = [UserRegistered.model_validate_json(line) for line in sys.stdin if line.strip()]
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
def dead_letters(limit: Annotated[int, typer.Option(min=1, help="Newest at most.")] = 100) -> None:
    """Show dead letters: origin, reason, detail and the event as it came."""
    shown = Table("origin", "reason", "detail", "event")
    for letter in asyncio.run(jobs.dead_letters(compose.resolve(Settings()), limit)):
        origin = letter.message.origin
        event = (letter.message.value or b"").decode(errors="backslashreplace")[:120]
        shown.add_row(f"{origin.topic}/{origin.partition}@{origin.offset}", letter.reason.value, letter.detail, event)
    console.print(shown)


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


def _split(items: str) -> list[str]:
    """As a line of CSV, since an id may hold a comma: `Heat (1995),"Fugitive, The (1993)"`."""
    return next(csv.reader([items], skipinitialspace=True), [])


def _json_object(field: str, text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(field, text, f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(field, text, "expected a JSON object")
    return value


def _print_ranking(response: RankResponse) -> None:
    shown = Table("rank", "item", "score", title=f"{response.user_id}, served by {response.served_by}")
    for place, item in enumerate(response.ranked, 1):
        shown.add_row(str(place), item.item_id, f"{item.score:.4f}")
    console.print(shown)
    if response.reason:
        console.print(f"{response.fallback or response.served_by}: {response.reason}")
