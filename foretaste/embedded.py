"""`foretaste up` and what the demo shares with it: the stack, with a worker and the ranking service on top."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from foretaste import compose
from foretaste.console import console, progress
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Report
from foretaste.settings import Settings, variable
from foretaste.stack.parts import Api, LogWriter, Watch, Worker
from foretaste.stack.running import Incident
from foretaste.stack.stack import Stack, StackPlan, plan

HIGHEST_PORT = 65535
LOOK_EVERY = 0.5
"""Seconds between two looks at the parts."""
Say = Callable[[str], None]


def plan_stack(settings: Settings, report: Report) -> StackPlan:
    """The embedded parts, without those whose address is set. Makes Triton's environment where it is missing.

    Raises `DamagedArtifact` for a version in Triton's repository that would keep it from serving the others.
    """
    from models.generations.repository import check_versions

    if settings.triton is None:
        check_versions(settings.repository)
    own = {part: getattr(settings, part) for part in ("kafka", "redis", "triton")}
    return plan(
        settings.home,
        {part: address for part, address in own.items() if address is not None},
        repository=settings.triton_repository,
        device=settings.triton_device,
        report=report,
    )


def up(settings: Settings) -> None:
    """The whole system in the foreground, until Ctrl-C or SIGTERM."""
    _metrics_port(settings, 2)
    compose.access_policy(settings)  # what the service would refuse to start with is said at once
    with progress() as report:
        planned = plan_stack(settings, report)
    for notice in planned.notices:
        console.print(notice)
    with ExitStack() as stacked:
        with progress() as report:
            stack = stacked.enter_context(Stack(settings.home, planned, report=report))
            resolved = compose.resolve(settings)
            prepare(resolved)
            start_processes(stack, settings)
        for part, address in stack.addresses.items():
            console.print(f"{part:8} {address}")
        console.print("running; Ctrl-C stops it. `foretaste status` shows each part's health.")
        keep_running(stack, settings, console.print)


def prepare(settings: Settings) -> None:
    """Topics and features, before any process asks for one."""
    asyncio.run(compose.create_topics(settings))
    settings.made_home()
    compose.apply_features(settings)


def start_processes(stack: Stack, settings: Settings) -> str:
    """A worker, a writer of the log, the watch and the ranking service as children of the stack; the last's address.

    The port that is set is taken where it is free, else any free one.
    """
    shared = {variable("project"): settings.project, variable("topic_prefix"): settings.topic_prefix}
    shared[variable("log")] = settings.training_log
    shared[variable("online_store")] = settings.online_store
    if settings.feature_store is not None:
        shared[variable("feature_store")] = str(settings.feature_store.absolute())
    env = {**os.environ, **stack.variables, **shared}
    for part in (Worker(env), LogWriter(env | _metrics_port(settings, 1)), Watch(env | _metrics_port(settings, 2))):
        stack.start(part)
    return stack.start(Api(env, port=0 if _is_taken(settings) else settings.api_port, host=settings.api_host))


def _metrics_port(settings: Settings, above: int) -> dict[str, str]:
    """A port of its own for each process that serves metrics, so many above the worker's."""
    if settings.metrics_port is None:
        return {}
    port = settings.metrics_port + above
    if port > HIGHEST_PORT:
        problem = f"the log and the watch need the next two ports, up to {HIGHEST_PORT}"
        raise InvalidInput(variable("metrics_port"), settings.metrics_port, problem)
    return {variable("metrics_port"): str(port)}


def keep_running(stack: Stack, settings: Settings, say: Say) -> None:
    """Until Ctrl-C or SIGTERM: start again what dies, and say so."""
    topics_lost = False
    try:
        while True:
            for incident in stack.watch():
                say(f"{incident.part} {incident.what}: {incident.detail}")
                topics_lost = topics_lost or _lost_its_topics(incident)
            topics_lost = topics_lost and not _topics_created(settings, say)
            time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        say("stopping")


def _topics_created(settings: Settings, say: Say) -> bool:
    """The embedded broker keeps its topics in memory. False while it is away: the next look tries again."""
    try:
        asyncio.run(compose.create_topics(compose.resolve(settings)))
    except Unavailable:
        return False
    say("kafka: the topics were created again")
    return True


def _lost_its_topics(incident: Incident) -> bool:
    return incident.part == "kafka" and incident.what == "recovered"


def _is_taken(settings: Settings) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.api_host, settings.api_port))
        except OSError:
            return True
    return False
