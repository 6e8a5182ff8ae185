"""How fast the best items of a whole catalogue are found, and how many of the exact nearest the index finds.

    python -m benchmarks recommend --json

A stack of its own for each size of the catalogue: Redis, Triton and the service as `foretaste serve` runs it; 200
candidates are ranked and 20 returned, one request at a time. A third of the users is cold, a third warming, a third
warm. The catalogue is drawn from a real one (benchmarks/recommend/catalogue.py). Beside it, in the same rounds, the
floor: one read of Redis, one call of the index and one of the ranking tower, without the service.
"""

import asyncio
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.machine import machine
from benchmarks.processes import family, processor_seconds, resident_mib
from benchmarks.ranking.http_client import Connection
from benchmarks.ranking.served import SEEN, Service, prepared, served
from foretaste import compose
from foretaste.console import errors
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest, Retrieval
from foretaste.settings import Settings
from foretaste.stack.record import running_stack
from models.generations.manifest import read_manifest
from models.generations.retrieval import item_vectors, write_retrieval
from models.runtime import layout
from models.runtime.candidates import encode_requests
from models.runtime.encoding import Encoding
from models.runtime.retrieval import PADDING, ServedRetrieval

LARGE, SMALL = 1_000_000, 3706
NUMBER = 1
"""Of the one generation."""
WARM_UP, ONE_BY_ONE = 100, 200
"""Requests before anything is timed, and of a round."""
K, CANDIDATES = 20, 200
NEAREST, ASKED = 100, 300
"""Of recall: the nearest that are compared with the exact ones, and for how many users."""
OWN = ("api", "triton", "triton stubs")


def recommend(
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder: what the catalogue is made of.")] = (
        "ml-100k"
    ),
    items: Annotated[int, typer.Option(min=100, help="Of the large catalogue.")] = LARGE,
    small: Annotated[int, typer.Option(min=100, help="Of the small one.")] = SMALL,
    rounds: Annotated[int, typer.Option(min=1, help="Medians are told, with the lowest and the highest.")] = 5,
    catalogues: Annotated[
        Path | None, typer.Option(help="Folder where catalogues are kept, and taken from; none are where absent.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time recommendations from a large and a small catalogue, and count how many of the exact nearest are found."""
    facts = machine()
    large_figures, small_figures = [_of_catalogue(data, count, rounds, catalogues) for count in (items, small)]
    figures = {
        "p99_ms": large_figures["p99_ms"]["median"],
        "recall": large_figures["recall"],
        "p99_small_ms": small_figures["p99_ms"]["median"],
        "rounds": rounds,
        "k": K,
        "candidates": CANDIDATES,
        "catalogues": [large_figures, small_figures],
    }
    typer.echo(json.dumps({"machine": facts, **figures}) if as_json else json.dumps(figures, indent=2))


def _of_catalogue(data: str, items: int, rounds: int, catalogues: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="foretaste-bench-") as folder, ExitStack() as opened:
        home = Path(folder)
        kept = (catalogues or home / "catalogues").absolute() / str(items)
        if not (kept / str(NUMBER)).exists():
            from benchmarks.recommend.catalogue import export_catalogue  # noqa: PLC0415  # torch, which no child needs

            errors.print(f"a catalogue of {items} items")
            export_catalogue(Settings().home / "data", data, items, kept, NUMBER)
        Settings(home=home).generations.symlink_to(kept)
        service = prepared(home, data, "tansu", opened)
        with served(service) as process:
            pids = _pids(service.settings, process.pid)
            figures = asyncio.run(_measured(service, pids, rounds))
        return {"items": items, **figures, **_built(service.settings.generations / str(NUMBER))}


def _pids(settings: Settings, api: int) -> dict[str, list[int]]:
    stack = running_stack(settings.home)
    assert stack is not None
    triton, *stubs = family(stack.parts["triton"].pid)
    return {"api": [api], "triton": [triton], "triton stubs": stubs, "redis": family(stack.parts["redis"].pid)}


async def _measured(service: Service, pids: Mapping[str, Sequence[int]], rounds: int) -> dict[str, Any]:
    store, towers = compose.store(service.settings), compose.towers(service.settings)
    assert isinstance(towers, Retrieval)
    requests = await _requests(service, store)
    users = itertools.cycle(range(len(requests)))
    bodies = [json.dumps({"user_id": user, "k": K}).encode() for user in service.users]
    ranked = itertools.cycle(await _inputs(requests, service, store, towers))
    seconds: dict[str, list[list[float]]] = {"service": [], "floor": []}
    used: list[dict[str, float]] = []
    answers: Counter[str] = Counter()

    async def floor() -> None:
        user = next(users)
        await store.read([service.users[user]], NUMBER)
        await towers.candidates([requests[user]], NUMBER)
        await towers.score([next(ranked)], NUMBER)

    async with Connection(service.port) as connection:

        async def ask() -> None:
            status, answer = await connection.post("/v1/recommend", bodies[next(users)])
            assert status == 200, answer
            found = json.loads(answer)
            assert len(found["ranked"]) == K
            answers[f"{found['served_by']}, {found['candidates']} from {found['candidates_from']}"] += 1
            if found["reason"]:
                answers[f"{found['cause']}: {found['reason']}"] += 1

        await _timed(floor, WARM_UP)
        await _timed(ask, WARM_UP)
        for number in range(rounds):
            seconds["floor"].append(await _timed(floor, ONE_BY_ONE))
            before = _used(pids)
            seconds["service"].append(await _timed(ask, ONE_BY_ONE))
            now = _used(pids)
            used.append({name: 1000 * (now[name] - before[name]) / ONE_BY_ONE for name in now})
            errors.print(f"round {number + 1} of {rounds}")
    recall = await _recall(service, requests, towers)
    await store.close()
    await towers.close()

    def at(name: str, percent: float) -> dict[str, float]:
        return _spread([1000 * float(np.percentile(each, percent)) for each in seconds[name]])

    return {
        "p50_ms": at("service", 50),
        "p99_ms": at("service", 99),
        "floor_p50_ms": at("floor", 50),
        "floor_p99_ms": at("floor", 99),
        "answers": dict(answers),
        "recall": round(float(np.mean(list(recall.values()))), 4),
        "recall_by_behaviours": recall,
        "processor_ms": _spread([sum(each[name] for name in OWN) for each in used]),
        "processor_ms_by_process": {name: _spread([each[name] for each in used]) for name in pids},
        "resident_mib": {name: round(sum(map(resident_mib, each))) for name, each in pids.items()},
    }


async def _requests(service: Service, store: OnlineStore) -> list[CandidateRequest]:
    """What the service asks of the index for each user."""
    return [
        CandidateRequest(
            each.behaviour,
            service.mean_virtual if each.virtual is None else each.virtual.vectors,
            nearest=170,
            popular=20,
            exploratory=10,
            seed=number,
            deny=each.behaviour.items,
        )
        for number, each in enumerate(await store.read(service.users, NUMBER))
    ]


async def _inputs(
    requests: Sequence[CandidateRequest], service: Service, store: OnlineStore, towers: Retrieval
) -> list[RankingInput]:
    """What it asks of the ranking tower, for some of them."""
    some = 64
    known = await store.read(service.users[:some], NUMBER)
    found = await towers.candidates(requests[:some], NUMBER)
    return [
        RankingInput(each.attributes or {}, {}, each.behaviour, request.virtual, items)
        for each, request, items in zip(known, requests, found, strict=False)
    ]


async def _recall(service: Service, requests: Sequence[CandidateRequest], towers: Retrieval) -> dict[str, float]:
    """The share of the exact nearest that the index finds, by behaviours seen, nothing being left out."""
    folder = service.settings.generations / str(NUMBER)
    encoding = Encoding.from_json((folder / layout.ENCODING).read_text(encoding="utf-8"))
    index = ServedRetrieval(folder)
    vectors = item_vectors(folder, encoding, read_manifest(folder).warm_after).values
    found: dict[str, list[float]] = {str(seen): [] for seen in SEEN}
    for request in requests[:ASKED]:
        asked = CandidateRequest(request.behaviour, request.virtual, NEAREST, popular=0, exploratory=0, seed=0)
        (own,) = await towers.candidates([asked], NUMBER)
        behaviour = encode_requests(encoding, [asked]).behaviour[0]
        query = index.query(behaviour[behaviour != PADDING], request.virtual)
        scores = vectors @ query[: vectors.shape[1]]  # what the index has behind them is padding
        scores[:2] = -np.inf
        nearest = np.argpartition(-scores, NEAREST)[:NEAREST]
        common = len(np.intersect1d(nearest, encoding.encode_items(own)))
        found[str(len(request.behaviour))].append(common / NEAREST)
    return {seen: round(float(np.mean(shares)), 4) for seen, shares in found.items() if shares}


def _built(folder: Path) -> dict[str, float]:
    """Seconds to make the index of a generation anew, and its size on disk."""
    began = time.perf_counter()
    write_retrieval(folder, folder / "again.npz", read_manifest(folder).warm_after)
    seconds = time.perf_counter() - began
    return {
        "build_seconds": round(seconds, 2),
        "index_mib": round((folder / layout.RETRIEVAL).stat().st_size / 2**20, 1),
        "vocabulary_mib": round((folder / layout.ENCODING).stat().st_size / 2**20, 1),
    }


async def _timed(call: Callable[[], Awaitable[None]], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return taken


def _used(pids: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {name: processor_seconds(each) for name, each in pids.items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(median(values), 3),
        "lowest": round(min(values), 3),
        "highest": round(max(values), 3),
    }
