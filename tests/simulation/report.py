"""How many seeds find each planted fault, and that none finds one where none was planted; as JSON."""

import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.simulation.plan import plan_of
from tests.simulation.planted.catalogue import PLANTED, THEMES_OF
from tests.simulation.run import simulate

PROCESSES = 2
FIRST = 1
"""The first seed of every search."""


@dataclass(frozen=True, slots=True)
class Search:
    """The seed that found a planted fault and what it found, None for none; and how many were tried for it."""

    name: str
    seed: int | None
    tried: int
    violation: str | None
    seconds: float


def seeds_for(name: str, most: int) -> list[int]:
    """The first `most` seeds in the order in which they are tried: those whose theme shows such faults first."""
    seeds = range(FIRST, FIRST + most)
    theme = next((theme for theme, names in THEMES_OF.items() if name in names), None)
    if theme is None:
        return list(seeds)
    return sorted(seeds, key=lambda seed: plan_of(random.Random(seed)).theme != theme)  # noqa: S311  # no secret


def search(name: str, most: int) -> Search:
    """Try the first `most` seeds until one finds the fault."""
    began = time.process_time()
    for tried, seed in enumerate(seeds_for(name, most), 1):
        outcome = simulate(seed, name)
        if outcome.violations:
            return Search(name, seed, tried, outcome.violations[0], time.process_time() - began)
    return Search(name, None, most, None, time.process_time() - began)


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
                "found": each.violation is not None,
                "seed": each.seed,
                "tried": each.tried,
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
        f"the seeds 1 to {report['most_seeds']}: {report['found']} ({share}).",
        "Seeds of a theme that shows a fault come first.",
        "[Development](../development.md) tells of the simulation, and of the faults of the code that it found.",
        "",
        "| planted fault | what it does | found by seed | seeds tried |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['what']} | {row['seed'] or 'not found'} | {row['tried']} |" for row in report["rows"]
    ]
    return "\n".join(lines) + "\n"
