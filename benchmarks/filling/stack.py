"""A command of Foretaste's in a process of its own, timed with all parts of a stack."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.own_stack import own_settings
from benchmarks.processes import family, processor_seconds
from benchmarks.trained_stack import Broker, TrainedStack, trained_stack
from foretaste.settings import Settings, variable
from foretaste.stack.record import running_stack

PASSED = (
    "home",
    "kafka",
    "kafka_idempotent",
    "redis",
    "triton",
    "project",
    "topic_prefix",
    "redis_timeout",
    "triton_timeout",
    "registry",
)
PARTS = ("kafka", "redis", "triton")
TIMEOUT = 30.0
"""Seconds a call: a busy machine is no failure here."""


@contextmanager
def filled_stack(data: str, broker: Broker) -> Iterator[TrainedStack]:
    """A stack of its own in a temporary folder, with generation 1 active."""
    with tempfile.TemporaryDirectory(prefix="foretaste-bench-") as folder:
        home = {"home": Path(folder), "redis_timeout": TIMEOUT, "triton_timeout": TIMEOUT}
        with trained_stack(own_settings(Settings()).model_copy(update=home), data, broker) as stack:
            yield stack


def timed_command(settings: Settings, *arguments: str) -> tuple[dict[str, Any], float, dict[str, float]]:
    """What the command printed as JSON, its seconds from start to end, and the processor seconds of each part."""
    passed = {variable(name): str(value) for name in PASSED if (value := getattr(settings, name)) is not None}
    before, began = _used(settings), time.perf_counter()
    process = subprocess.Popen(  # noqa: S603  # our own command
        [sys.executable, "-m", "foretaste", *arguments, "--json"],
        env={**os.environ, **passed},
        stdout=subprocess.PIPE,
    )
    output = process.stdout.read() if process.stdout is not None else b""
    _, status, own = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise RuntimeError(f"foretaste {arguments[0]} ended with {os.waitstatus_to_exitcode(status)}")
    used = {name: spent - before[name] for name, spent in _used(settings).items()}
    return json.loads(output), seconds, {"command": own.ru_utime + own.ru_stime, **used}


def _used(settings: Settings) -> dict[str, float]:
    """Processor seconds so far of the stack's parts, with their descendants."""
    stack = running_stack(settings.home)
    parts: Mapping[str, Any] = stack.parts if stack is not None else {}
    return {name: processor_seconds(family(parts[name].pid)) for name in PARTS if name in parts}
