"""Faults under load: nothing acknowledged is lost, doubled or out of order, and what is announced can be read.

`make faults` runs all with 10,000 events each, on Apache Kafka, and writes docs/results/faults.json and its page;
`make faults FAULTS=few` runs three of them with fewer.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from foretaste.stack.environment import TritonEnvironment
from tests.conftest import kafka_forms
from tests.faults.streams.cases import StreamFault
from tests.faults.streams.hurting import StreamRow, hurt
from tests.faults.streams.page import page
from tests.faults.streams.system import System, running

EVENTS, FEW_EVENTS = 10_000, 2_000


@pytest.fixture(scope="module")
def system(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, triton_environment: TritonEnvironment
) -> Iterator[System]:
    """On Apache Kafka where it can be had."""
    home = Path(os.environ["KAFKA_HOME"]) if "home" in kafka_forms(pytestconfig) else None
    with running(tmp_path_factory.mktemp("streams"), home, triton_environment) as opened:
        yield opened


@pytest.fixture(scope="module")
def rows() -> list[StreamRow]:
    """One for each fault that was carried out, whatever it came to."""
    return []


def write(rows: list[StreamRow], out: Path) -> None:
    """The rows, and their page beside them."""
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    out.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    out.with_suffix(".md").write_text(page(rows), encoding="utf-8")


@pytest.mark.timeout(600)
def test_what_was_acknowledged_has_one_end(
    pytestconfig: pytest.Config, system: System, rows: list[StreamRow], stream_fault: StreamFault, tmp_path: Path
) -> None:
    events = EVENTS if pytestconfig.getoption("--faults") == "all" else FEW_EVENTS
    row = hurt(system, stream_fault, events, tmp_path)
    rows.append(row)
    if (out := pytestconfig.getoption("--stream-faults-out")) is not None:
        write(rows, Path(out))
    told = f"{row}\nits history: {tmp_path / 'history.jsonl'}"
    assert row.settled, told
    assert (row.lost, row.doubled, row.disordered, row.unreadable, row.phantom) == (0, 0, 0, 0, 0), told
    assert row.acknowledged > 0.6 * row.sent, told
    assert row.enriched, told
    assert row.applied, told
    assert row.dead, told
    assert row.rankings_failed == 0 or stream_fault.hurts_service, told
    assert row.unlogged == 0 or not stream_fault.logs_rankings, told
