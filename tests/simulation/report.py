"""How many seeds find each planted fault, and that none finds one where none was planted; as JSON."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.simulation.planted.catalogue import PLANTED
from tests.simulation.run import simulate

PROCESSES = 2
FIRST = 1
"""The first seed of every search."""


@dataclass(frozen=True, slots=True)
class Search:
    """How many seeds were run for one planted fault, and what the last of them found; None: nothing."""

    name: str
    seeds: int
    violation: str | None
    seconds: float


def search(name: str, most: int) -> Search:
    """Seeds from the first on until one finds the fault, `most` of them."""
    began = time.process_time()
    for seed in range(FIRST, FIRST + most):
        outcome = simulate(seed, name)
        if outcome.violations:
            return Search(name, seed - FIRST + 1, outcome.violations[0], time.process_time() - began)
    return Search(name, most, None, time.process_time() - began)


def search_all(most: int, names: Iterable[str] = PLANTED, processes: int = PROCESSES) -> Iterator[Search]:
    """All of them, several at a time, in their order."""
    chosen = list(names)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(search, chosen, [most] * len(chosen))


def clean(seeds: int) -> dict[str, Any]:
    """Seeds without a planted fault: how many there were, which found something, and what they took."""
    began = time.process_time()
    failing = [seed for seed in range(FIRST, FIRST + seeds) if simulate(seed).violations]
    return {"seeds": seeds, "failing": failing, "seconds": round(time.process_time() - began, 1)}


def write(path: Path, searches: list[Search], without: dict[str, Any], most: int) -> dict[str, Any]:
    """The report, and beside it the same as a page; it is returned too."""
    found = [each for each in searches if each.violation is not None]
    report = {
        "clean": without,
        "most_seeds": most,
        "planted": len(searches),
        "found": len(found),
        "share": round(len(found) / len(searches), 3),
        "rows": [
            {
                "name": each.name,
                "what": PLANTED[each.name].what,
                "seeds": each.seeds,
                "found": each.violation is not None,
            }
            for each in searches
        ],
    }
    rows = ",\n".join(json.dumps(row) for row in report["rows"])
    head = {name: value for name, value in report.items() if name != "rows"}
    path.write_text(json.dumps(head)[:-1] + f', "rows": [\n{rows}\n]}}\n', encoding="utf-8")
    path.with_suffix(".md").write_text(page(report), encoding="utf-8")
    return report


def page(report: Mapping[str, Any]) -> str:
    """The report as a page of Markdown."""
    without, share = report["clean"], f"{report['share']:.1%}"
    lines = [
        "# What the simulation finds",
        "",
        "Made by",
        "",
        "    python -m tests.simulation --search --out docs/results/simulation.json",
        "",
        f"Seeds without a planted fault: {without['seeds']}, in {without['seconds']:g} s of processor time;",
        f"with a violation: {len(without['failing'])}. Planted faults: {report['planted']}; found within",
        f"{report['most_seeds']} seeds each, tried from 1 on: {report['found']} ({share}).",
        "[Development](../development.md) tells of the simulation, and of the faults of the code that it found.",
        "",
        "| planted fault | what it does | found by seed |",
        "|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['what']} | {row['seeds'] if row['found'] else 'not found'} |" for row in report["rows"]
    ]
    return "\n".join(lines) + "\n"
