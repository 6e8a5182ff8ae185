"""Which parts a machine can run, decided for machines that these tests make up."""

from pathlib import Path

import pytest

from foretaste.kernel.errors import NotOnThisMachine
from foretaste.stack.machine import IN_PROCESS, Machine, available_parts, this_machine
from foretaste.stack.stack import plan

SERVER = Machine("Linux", "x86_64", (2, 35), "/usr/bin/python3.11")
OLD_SERVER = Machine("Linux", "x86_64", (2, 31), "/usr/bin/python3.11")
MUSL = Machine("Linux", "x86_64", None, "/usr/bin/python3.11")
NEWER_PYTHON = Machine("Linux", "x86_64", (2, 39), None)
ARM = Machine("Linux", "aarch64", (2, 39), "/usr/bin/python3.11")
MAC = Machine("Darwin", "arm64", None, "/usr/bin/python3.11")
WINDOWS = Machine("Windows", "AMD64", None, "C:/python.exe")
WITHOUT_EXTRA = Machine("Linux", "x86_64", (2, 39), "/usr/bin/python3.11", frozenset())


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (SERVER, {"kafka", "redis", "triton"}),
        (OLD_SERVER, {"kafka", "redis"}),
        (MUSL, {"kafka", "redis"}),
        (NEWER_PYTHON, {"kafka", "redis"}),
        (ARM, {"kafka", "redis"}),
        (MAC, {"kafka", "redis"}),
        (WINDOWS, set()),
        (WITHOUT_EXTRA, {"triton"}),
    ],
    ids=["linux", "glibc 2.31", "musl", "python 3.13", "arm", "mac", "windows", "no extra"],
)
def test_parts_that_a_machine_has(machine: Machine, expected: set[str]) -> None:
    parts = available_parts(machine)
    assert [each.part for each in parts] == ["kafka", "redis", "triton"]
    assert {each.part for each in parts if each.available} == expected


@pytest.mark.parametrize(
    ("machine", "why"),
    [(MAC, "this is Darwin arm64"), (OLD_SERVER, "glibc 2.31"), (NEWER_PYTHON, "Python 3.11 or 3.12")],
)
def test_reason_says_why_and_what_runs_instead(machine: Machine, why: str) -> None:
    triton = available_parts(machine)[2]
    assert why in triton.reason
    assert IN_PROCESS in triton.reason
    assert "FORETASTE_TRITON" in triton.reason


def test_without_a_wheel_triton_is_planned_in_process_and_announced(tmp_path: Path) -> None:
    planned = plan(tmp_path, {}, machine=MAC)
    assert [part.name for part in planned.parts] == ["kafka", "redis"]
    assert planned.addresses == {"triton": IN_PROCESS}
    assert planned.notices[0].startswith("triton: its wheel exists for Linux x86_64 only")


def test_without_a_wheel_a_broker_of_the_user_is_needed(tmp_path: Path) -> None:
    with pytest.raises(NotOnThisMachine, match="FORETASTE_KAFKA"):
        plan(tmp_path, {}, machine=WINDOWS)
    planned = plan(tmp_path, {"kafka": "broker:9092", "redis": "redis://store:6379"}, machine=WINDOWS)
    assert planned.parts == []


def test_parts_of_the_user_are_not_planned(tmp_path: Path) -> None:
    own = {"kafka": "broker:9092", "triton": "triton:8000"}
    planned = plan(tmp_path, own, machine=SERVER)
    assert [part.name for part in planned.parts] == ["redis"]
    assert planned.addresses == {}
    assert planned.notices == []


def test_this_machine_can_be_asked() -> None:
    assert {each.part for each in available_parts(this_machine())} == {"kafka", "redis", "triton"}
