"""The processes of a running system: start all of them here, or one of them; see how they are."""

import asyncio
import gc
import json
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from foretaste import compose, embedded
from foretaste.cli.data import DataOption
from foretaste.console import console, errors, progress
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.running.logs import write_logs
from foretaste.kernel.running.readiness import reasons_of
from foretaste.settings import Settings, markdown, shown, table, variable
from foretaste.stack.health import Health

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from foretaste.kernel.running.readiness import ProcessReadiness
    from streams.parts import SignUpParts
    from streams.worker.runner import StreamWorker

log = logging.getLogger(__name__)


def up() -> None:
    """Start Kafka, Redis, Triton and all of Foretaste's own processes on this machine, until Ctrl-C."""
    write_logs()
    embedded.up(Settings())


def settings(
    as_page: Annotated[bool, typer.Option("--markdown", help="Print the page of all settings instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object of values by variable instead.")] = False,
) -> None:
    """Show every setting, its value now, and what it means."""
    if as_page:
        typer.echo(markdown(), nl=False)
        return
    values = shown(Settings())
    if as_json:
        typer.echo(json.dumps(values))
        return
    rows = Table("variable", "value", "meaning")
    for name, _, meaning in table():
        rows.add_row(name, values[name], meaning)
    console.print(rows)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of the parts instead.")] = False,
) -> None:
    """Show each part, its address and its health; exit status 1 if any is not well."""
    parts = asyncio.run(health_of(compose.resolve(Settings())))
    if as_json:
        typer.echo(json.dumps([asdict(part) for part in parts]))
        raise typer.Exit(0 if all(part.ok for part in parts) else 1)
    rows = Table("part", "address", "health", "detail", "ms")
    for part in parts:
        health = Text("ok", style="green") if part.ok else Text("down", style="red")
        if part.ok and part.warning:
            health = Text("warning", style="yellow")
        rows.add_row(part.part, part.address, health, part.detail, f"{part.ms:.1f}")
    console.print(rows)
    if not all(part.ok for part in parts):
        raise typer.Exit(1)


def setup() -> None:
    """Create the topics and Feast's registry. Harmless to repeat."""
    settings = compose.resolve(Settings())
    embedded.prepare(settings)
    console.print(f"topics on {settings.kafka} and features are set up")


def worker() -> None:
    """Run one stream worker: sign-ups, behaviour and re-enrichment. Start as many as there are partitions."""
    run_process(serve_worker(compose.resolve(Settings())))


def write_log(
    converted: Annotated[
        Path | None, typer.Option("--convert", help="Bring in the log of an earlier version from this folder, and end.")
    ] = None,
) -> None:
    """Write the training log: what was served, and what users did. Start as many as there are partitions."""
    if converted is None:
        run_process(serve_log(compose.resolve(Settings())))
        return
    from features.log.convert import convert
    from features.log.offline_store import log_address

    settings = Settings()
    nowhere = {"redis": settings.redis or "redis://localhost"}  # the configuration names a Redis; none is asked
    address = log_address(compose.feast_config(settings.model_copy(update=nowhere)))
    with progress() as report:
        done = convert(converted, address, partial(report, "convert"))
    for path in done.skipped:
        errors.print(f"cannot be read, and is left out: {path}")
    console.print(f"{done.rows} rows of {done.days} days are converted; {done.already} days were before")
    raise typer.Exit(1 if done.skipped else 0)


def watch() -> None:
    """Watch over what is served: drift, coverage, calibration; a generation that goes wrong is rolled back."""
    run_process(serve_watch(compose.resolve(Settings())))


def serve() -> None:
    """Run the HTTP service: rankings, sign-ups, behaviours, generations; its page at /, its routes at /docs."""
    run_process(serve_api(compose.resolve(Settings())))


def demo(
    data: DataOption = "ml-1m",
    users: Annotated[int, typer.Option(min=1, help="Real users after the split who sign up.")] = 1000,
    rate: Annotated[float, typer.Option(min=1, help="Sign-ups a second.")] = 100.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the system running until Ctrl-C.")] = False,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train again though a generation fits.")] = False,
) -> None:
    """The main job: stack up, data, training, live sign-ups through Kafka, enrichment and ranking; then a table."""
    from foretaste.demo.run import DemoPlan, run

    write_logs()
    run(Settings(), DemoPlan(data=data, users=users, rate=rate, keep=keep, retrain=retrain))


async def health_of(settings: Settings) -> list[Health]:
    """Each part's health, the user's own and the embedded ones alike."""
    from foretaste.stack import health as checks
    from foretaste.stack.record import running_stack
    from models.generations.repository import published

    record = running_stack(settings.home)
    connection = compose.kafka_connection(settings)
    options = {name: value for name, value in connection.client_arguments().items() if name != "bootstrap_servers"}
    asked = [
        checks.kafka(connection.bootstrap, options),
        checks.redis(settings.redis or "", compose.redis_tls(settings)),
        checks.triton(settings.triton or "", compose.triton_tls(settings)),
        checks.generations(settings.redis or "", partial(_recorded, settings), published(settings.repository)),
    ]
    if record is not None and "api" in record.addresses:
        asked.append(checks.api(record.addresses["api"]))
    if record is not None:
        own = ("worker", "log", "watch")
        asked += [
            checks.process(name, part.pid, reasons_of(settings.home, part.pid))
            for name, part in record.parts.items()
            if name.startswith(own)
        ]
    return list(await asyncio.gather(*asked))


async def _recorded(settings: Settings) -> tuple[int | None, int]:
    """The active generation and the highest that was ever recorded."""
    generations = compose.generations(settings)
    try:
        active = await generations.active()
        return None if active is None else active.number, await generations.highest()
    finally:
        await generations.close()


async def serve_worker(settings: Settings) -> None:
    """One worker of the users' ways, until SIGTERM or SIGINT."""
    await _serve(settings, compose.worker)


async def serve_watch(settings: Settings) -> None:
    """The watch over what is served, until SIGTERM or SIGINT."""
    await _serve(settings, compose.watch_worker)


async def serve_log(settings: Settings) -> None:
    """One writer of the training log, until SIGTERM or SIGINT; the log is compacted and expired meanwhile.

    An error of either that does not pass ends both, and is raised.
    """
    from features.log.upkeep import UpkeepConfig, keep_up

    settings.made_home()
    config = UpkeepConfig(settings.log_days, settings.log_compact_hours * 3600, settings.lease_seconds)
    lease = partial(compose.lease, settings, "log")
    try:
        async with asyncio.TaskGroup() as group:
            upkeep = group.create_task(keep_up(compose.training_log(settings), lease, config))
            await _serve(settings, compose.log_worker)
            upkeep.cancel()
    except ExceptionGroup as several:
        raise several.exceptions[0] from several


def run_process(serving: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, on uvloop where that is installed: a worker's loop turns several times for each batch.

    From here on, what the process logs has one form.
    """
    write_logs()
    if find_spec("uvloop") is None:
        asyncio.run(serving)
        return
    import uvloop

    uvloop.run(serving)


async def _serve(
    settings: Settings, make: "Callable[[Settings, SignUpParts, CollectorRegistry, ProcessReadiness], StreamWorker]"
) -> None:
    from prometheus_client import CollectorRegistry

    from foretaste.kernel.running.readiness import told_in
    from foretaste.kernel.running.supervision import Supervision
    from streams.worker.runner import run_worker

    registry = CollectorRegistry()
    ended = compose.task_ends(registry)
    with ExitStack() as stack:
        readiness = stack.enter_context(told_in(settings.home))
        if settings.metrics_port is not None:
            stack.enter_context(_probes(settings, settings.metrics_port, registry, readiness))
        async with compose.parts(settings) as parts:
            tasks = Supervision(readiness, ended)
            tasks.start("store watch", compose.store_watch(parts, registry).run)
            worker = make(settings, parts, registry, readiness)
            settle_memory()
            try:
                await run_worker(worker, readiness, ended)
            finally:
                await tasks.close()


@contextmanager
def _probes(
    settings: Settings, port: int, registry: "CollectorRegistry", readiness: "ProcessReadiness"
) -> Iterator[None]:
    from streams.worker.health.probes import probes

    with ExitStack() as stack:
        try:
            stack.enter_context(probes(settings.metrics_host, port, registry, readiness))
        except OSError as error:
            where, problem = f"{settings.metrics_host}:{port}", f"cannot be listened on: {error.strerror}"
            raise InvalidInput(variable("metrics_port"), where, problem) from error
        yield


async def serve_api(settings: Settings) -> None:
    """The HTTP service, until SIGTERM or SIGINT.

    Raises `InvalidInput` for one without tokens on another address than loopback.
    """
    from prometheus_client import CollectorRegistry

    from serving.server import http_server

    if compose.access_policy(settings).find_token is None:
        log.warning("no tokens are set: whoever is on this machine may do everything, at %s alone", settings.api_host)
    _log_answers(wanted=settings.api_access_log)
    async with compose.parts(settings) as parts, compose.api(settings, parts, CollectorRegistry()) as app:
        settle_memory()
        server = http_server(
            app, host=settings.api_host, port=settings.api_port, read_seconds=settings.api_read_seconds
        )
        await server.serve()


def _log_answers(*, wanted: bool) -> None:
    """The access log's lines go to standard error as they are, each of them, or nowhere."""
    answers = logging.getLogger("foretaste.access")
    answers.setLevel(logging.INFO if wanted else logging.CRITICAL)
    answers.propagate = False
    if wanted:
        lines = logging.StreamHandler()
        lines.setFormatter(logging.Formatter("%(message)s"))
        answers.addHandler(lines)


def settle_memory() -> None:
    """What is open stays: the collector need not walk it again, which is what the slowest requests waited for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 10)  # Python's own: short walks, which no request notices
