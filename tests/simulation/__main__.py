"""`python -m tests.simulation`: one seed with its steps, many seeds, or the search for every planted fault."""

import argparse
import sys
import time
from pathlib import Path

from tests.simulation import report
from tests.simulation.planted.catalogue import PLANTED
from tests.simulation.run import Outcome, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed and print its steps")
    parser.add_argument("--seeds", type=int, default=500, help="run so many seeds; 500")
    parser.add_argument("--first", type=int, default=report.FIRST, help="from this one on; 1")
    parser.add_argument("--planted", choices=sorted(PLANTED), help="with this planted fault")
    parser.add_argument(
        "--search", action="store_true", help="search for every planted fault, 2,000 seeds at most each"
    )
    parser.add_argument("--most", type=int, default=2000, help="seeds of a search, at most; 2,000")
    parser.add_argument("--out", type=Path, help="a JSON file for what the search came to")
    chosen = parser.parse_args()
    if chosen.seed is not None:
        return _one(chosen.seed, chosen.planted)
    if chosen.search:
        return _search(chosen.most, chosen.out, chosen.seeds)
    return _many(range(chosen.first, chosen.first + chosen.seeds), chosen.planted)


def _one(seed: int, planted: str | None) -> int:
    outcome = simulate(seed, planted, keep_trace=True)
    print("\n".join(outcome.trace))
    print(f"seed {seed}: {outcome.seconds:.1f} s simulated, trace {outcome.digest}")
    return _told(outcome)


def _many(seeds: range, planted: str | None) -> int:
    began, failed = time.process_time(), 0
    for seed in seeds:
        failed += _told(simulate(seed, planted))
    print(f"{len(seeds)} seeds, {failed} with violations, {time.process_time() - began:.1f} s of processor time")
    return int(failed > 0)


def _told(outcome: Outcome) -> int:
    for each in outcome.violations:
        print(f"seed {outcome.seed}: {each}\n  again: {outcome.replay}")
    return int(bool(outcome.violations))


def _search(most: int, out: Path | None, seeds: int) -> int:
    searches = []
    for each in report.search_all(most):
        searches.append(each)
        print(
            f"{each.name:30} seed {each.seed or '-':>5}, {each.tried:4} tried  {each.violation or 'NOT FOUND'}"[:180],
            flush=True,
        )
    if out is not None:
        report.write(out, searches, report.clean(seeds), most)
    found = sum(each.violation is not None for each in searches)
    print(f"{found} of {len(searches)} planted faults found")
    return int(found < 0.95 * len(searches))


if __name__ == "__main__":
    sys.exit(main())
