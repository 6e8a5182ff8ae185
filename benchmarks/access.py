"""`python -m benchmarks access`: what stands around the routes of the HTTP service costs a request."""

import asyncio
import json
import logging
import os
import time
from statistics import median
from typing import Annotated, TextIO

import typer
from rich.table import Table
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.machine import machine
from foretaste.console import console
from serving.access import tokens
from serving.access.access_control import AccessPolicy
from serving.api import ServiceConfig, with_access

ROUNDS, WARM_UP = 5, 2000
_TOKEN, _KEPT = tokens.new_token("shop", [tokens.Scope.RANK])
_BODY = json.dumps({"user_id": "anna", "items": [f"item-{number}" for number in range(100)]}).encode()
_ANSWER = b"x" * 5000
_POLICY = AccessPolicy(
    lambda presented: tokens.find_token({"shop": _KEPT}, presented), frozenset({"localhost"}), requests_per_second=1e9
)
_REQUEST = {
    "type": "http",
    "method": "POST",
    "path": "/v1/rank",
    "headers": [
        (b"host", b"localhost:8080"),
        (b"accept", b"application/json"),
        (b"user-agent", b"benchmark"),
        (b"authorization", f"Bearer {_TOKEN}".encode()),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_BODY)).encode()),
    ],
}


def access(
    requests: Annotated[int, typer.Option(min=100, help="Requests a round.")] = 20_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Processor time of a request for its id, headers, log, host, token, scope, rate, type and size.

    Around an application that reads the body and answers 5,000 bytes, in one process, without a socket.
    """
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123  # a device, no file
        _log_to(nowhere)
        forms: dict[str, ASGIApp] = {
            "alone": _answer,
            "with all around it": with_access(_answer, ServiceConfig(_POLICY, log_key=b"key")),
        }
        rounds = asyncio.run(_measured(forms, requests))
    added = [after - before for before, after in zip(rounds["alone"], rounds["with all around it"], strict=True)]
    found = {"processor_ms": median(added), "lowest_ms": min(added), "highest_ms": max(added)}
    if as_json:
        typer.echo(json.dumps({**found, "requests": requests, "rounds": ROUNDS, "machine": machine()}))
        return
    rows = Table("processor ms a request", "median", "lowest", "highest", title=f"{ROUNDS} rounds of {requests}")
    for name, each in {**rounds, "added": added}.items():
        rows.add_row(name, *(f"{value:.4f}" for value in (median(each), min(each), max(each))))
    console.print(rows)


async def _measured(forms: dict[str, ASGIApp], requests: int) -> dict[str, list[float]]:
    """Milliseconds of processor time a request, by form, a figure a round; the forms take turns."""
    for form in forms.values():
        await _run(form, WARM_UP)
    rounds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name, form in forms.items():
            rounds[name].append(await _run(form, requests))
    return rounds


async def _run(form: ASGIApp, requests: int) -> float:
    began = time.process_time()
    for _ in range(requests):
        await form(dict(_REQUEST), _receive, _send)
    return (time.process_time() - began) * 1000 / requests


async def _answer(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"5000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})


async def _receive() -> Message:
    return {"type": "http.request", "body": _BODY, "more_body": False}


async def _send(message: Message) -> None:
    assert message.get("status", 200) == 200


def _log_to(stream: TextIO) -> None:
    """The access log, formatted and written as it is by the service."""
    log, lines = logging.getLogger("foretaste.access"), logging.StreamHandler(stream)
    lines.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [lines]
    log.setLevel(logging.INFO)
    log.propagate = False
