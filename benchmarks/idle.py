"""What `foretaste up` takes of a processor while nobody asks it anything.

    python -m benchmarks idle --json

A stack in a folder of its own, with one trained generation that has answered a ranking, left alone for as long as it
takes to be idle; then the processor time of every process is counted over a minute.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.machine import machine
from benchmarks.own_stack import own_settings
from benchmarks.processes import family, processor_seconds
from benchmarks.trained_stack import publish, train
from foretaste import compose
from foretaste.client import Foretaste
from foretaste.console import errors
from foretaste.settings import Settings
from foretaste.stack.record import StackRecord, running_stack

STARTING = 120.0
"""Seconds until all parts run."""
PARTS = {"kafka", "redis", "triton", "worker", "log", "watch", "api"}


def idle(
    seconds: Annotated[float, typer.Option(min=1, help="Over which processor time is counted.")] = 60.0,
    settle: Annotated[float, typer.Option(min=0, help="Seconds left alone before.")] = 60.0,
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder.")] = "ml-100k",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count what an idle embedded stack takes: hundredths of a core, by process."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="foretaste-idle-") as folder:
        settings = own_settings(Settings().model_copy(update={"home": Path(folder)}))
        train(settings, data, [1])
        with _running(settings) as record:
            asyncio.run(publish(compose.resolve(settings), [1]))
            with Foretaste(record.addresses["api"]) as service:
                service.rank("nobody", ["Heat (1995)"])
            errors.print(f"left alone for {settle:g} s, then counted for {seconds:g} s")
            time.sleep(settle)
            before, began = _used(record), time.perf_counter()
            time.sleep(seconds)
            after, passed = _used(record), time.perf_counter() - began
    percent = {name: round(100 * (after[name] - used) / passed, 2) for name, used in before.items()}
    found = {"percent": round(sum(percent.values()), 2), "consumer": settings.consumer, "by_process": percent}
    typer.echo(json.dumps({"machine": facts, **found}) if as_json else json.dumps(found, indent=2))


@contextmanager
def _running(settings: Settings) -> Iterator[StackRecord]:
    """`foretaste up` in the settings' home, once all parts run."""
    own = {
        "FORETASTE_HOME": str(settings.home.absolute()),
        "FORETASTE_PROJECT": settings.project,
        "FORETASTE_TOPIC_PREFIX": settings.topic_prefix,
        "FORETASTE_API_PORT": "0",
    }
    environment = Settings().home.absolute() / "triton-env"
    if environment.is_dir():  # made once, and not anew in each folder
        (settings.home / "triton-env").symlink_to(environment)
    command = [sys.executable, "-m", "foretaste", "up"]
    with subprocess.Popen(command, env={**os.environ, **own}, stdout=subprocess.DEVNULL) as process:  # noqa: S603  # ours
        try:
            yield _started(settings.home, process)
        finally:
            process.send_signal(signal.SIGTERM)


def _started(home: Path, process: "subprocess.Popen[bytes]") -> StackRecord:
    given_up = time.monotonic() + STARTING
    while True:
        record = running_stack(home)
        if record is not None and record.parts.keys() >= PARTS:
            return record
        if process.poll() is not None or time.monotonic() > given_up:
            raise TimeoutError(f"the stack does not run: {record}")
        time.sleep(0.5)


def _used(record: StackRecord) -> dict[str, float]:
    """Processor seconds so far of each part with its descendants, of the guards before them, and of `foretaste up`."""
    used = {name: processor_seconds(family(part.pid)) for name, part in record.parts.items()}
    used["guards"] = processor_seconds(part.guard_pid for part in record.parts.values())
    used["up"] = processor_seconds([record.pid])
    return used
