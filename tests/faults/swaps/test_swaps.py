"""kill -9 of each part at each step of a refresh: the old generation serves on, and the refresh or the next completes.

`make faults` runs all cases and writes docs/results/swap-faults.json; `make faults FAULTS=few` runs three of them.
"""

import json
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from foretaste.stack.environment import TritonEnvironment
from tests.conftest import kafka_forms
from tests.faults.swaps.cases import Case
from tests.faults.swaps.hurting import Row, hurt
from tests.faults.swaps.refreshing import BROKE_OFF
from tests.faults.swaps.system import System, running
from tests.integration import brokers
from tests.servers import held

DEGRADED = {"triton", "redis"}
"""While one of these is dead, what is served is popularity or the mean behaviour, as it is meant to be."""


@pytest.fixture(scope="module")
def system(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, triton_environment: TritonEnvironment
) -> Iterator[System]:
    """On Apache Kafka where it can be had."""
    folder = tmp_path_factory.mktemp("faults-kafka")
    with ExitStack() as opened:
        if "home" in kafka_forms(pytestconfig):
            broker = opened.enter_context(held(lambda: brokers.apache_kafka(Path(os.environ["KAFKA_HOME"]), folder)))
        else:
            broker = opened.enter_context(held(lambda: brokers.tansu(folder)))
        yield opened.enter_context(running(tmp_path_factory.mktemp("faults"), broker, triton_environment))


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Makes processes that have imported what they need before."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tests.faults.swaps.refreshing", "tests.faults.swaps.load"])
    return made


@pytest.fixture(scope="module")
def rows(pytestconfig: pytest.Config) -> Iterator[list[Row]]:
    """One for each case that was carried out, whatever it came to; written where `--faults-out` says."""
    found: list[Row] = []
    yield found
    out = pytestconfig.getoption("--faults-out")
    if out is not None:
        lines = ",\n".join(json.dumps(asdict(row)) for row in found)
        Path(out).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


@pytest.mark.timeout(300)
def test_the_old_generation_serves_on_and_the_next_run_completes(
    system: System, context: ForkServerContext, rows: list[Row], fault: Case
) -> None:
    row = hurt(system, context, fault)
    rows.append(row)
    assert row.recovered, row
    assert (row.failed, row.mixed) == (0, 0), row
    assert row.hurt_run != BROKE_OFF, row
    assert row.by_generation.get(str(row.generation)), row
    assert row.scores_telling, row
    if fault.victim not in DEGRADED:
        assert "popularity" not in row.by_source, row
