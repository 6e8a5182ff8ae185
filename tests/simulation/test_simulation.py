"""The simulation: no seed finds anything, one seed does the same each time and everywhere, planted faults are found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import foretaste
from tests.simulation.planted.catalogue import PLANTED
from tests.simulation.planted.fault import PlantedFault
from tests.simulation.run import simulate

ROOT = Path(foretaste.__file__).parents[1]
SEEDS = int(os.environ.get("SEEDS", "300"))
PARTS = 10
QUICKLY_FOUND = ("acknowledge_first", "no_seek", "any_replaces", "announce_first", "filled_by_active")
TOLD = (3, 11, 12)
"""Seeds whose traces are compared with those of another process."""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_seed_finds_anything(part: int) -> None:
    """`SEEDS` of them in all, 300 unless the environment says otherwise."""
    wrong = []
    for seed in range(1 + part, SEEDS + 1, PARTS):
        outcome = simulate(seed)
        wrong += [f"{each}\n  again: {outcome.replay}" for each in outcome.violations]
    assert not wrong, "\n".join(wrong)


def test_one_seed_does_the_same_each_time() -> None:
    assert [simulate(seed).digest for seed in range(1, 8)] == [simulate(seed).digest for seed in range(1, 8)]


def test_one_seed_does_the_same_in_another_process_with_other_hashes() -> None:
    code = f"from tests.simulation.run import simulate; print(*(simulate(seed).digest for seed in {TOLD}))"
    other = os.environ | {"PYTHONHASHSEED": "4321"}
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=other, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [simulate(seed).digest for seed in TOLD]


def test_other_seeds_do_other_things() -> None:
    assert len({simulate(seed).digest for seed in range(1, 8)}) == 7


@pytest.mark.parametrize("name", QUICKLY_FOUND)
def test_a_planted_fault_is_found(name: str) -> None:
    """The search for all of them is a command of its own; these few tell that it would not search in vain."""
    assert any(simulate(seed, name).violations for seed in range(1, 101))


def test_a_planted_fault_is_gone_afterwards() -> None:
    before = simulate(5).digest
    simulate(5, "acknowledge_first")
    assert simulate(5).digest == before


@pytest.mark.parametrize("planted_fault", PLANTED.values(), ids=PLANTED)
def test_what_a_planted_fault_takes_the_place_of_is_there(planted_fault: PlantedFault) -> None:
    with planted_fault.planted():
        assert planted_fault.patches


def test_there_are_enough_planted_faults() -> None:
    assert len(PLANTED) >= 40
    assert all(fault.what for fault in PLANTED.values())
