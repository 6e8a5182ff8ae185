"""`foretaste worker` on a machine whose clock steps: `time.time` is off by as many seconds as a file says.

`python -m tests.faults.streams.stepped_worker FILE`. Time that only passes (`time.monotonic`) does not step.
"""

import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def stepped(file: Path, real: Callable[[], float]) -> Callable[[], float]:
    def now() -> float:
        return real() + float(file.read_text(encoding="utf-8"))

    return now


def main(file: Path) -> None:
    """The real command, with the clock replaced before anything of it is imported."""
    time.time = stepped(file, time.time)
    sys.argv = ["foretaste", "worker"]
    import_module("foretaste.cli.main").main()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
