"""The machine that a benchmark runs on: what its figures depend on besides the code."""

import os
import platform
from importlib.metadata import version
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, load and versions, fit for JSON."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_of_this_process": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_now": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": version("torch"),
        "device": "cpu",
    }


def _processor() -> str:
    """The name that the system gives the processor; empty where it gives none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  # a kernel's file
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
