"""Two processes that train together, forked from one that has imported torch: seconds less than torchrun's, which some
test starts too.
"""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from typing import Any

from foretaste.stack.processes import free_ports

IMPORTED = ["foretaste.compose.refresh", "models.refresh.refresh", "tests.together"]
SECONDS = 110.0


@cache
def _context() -> ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(IMPORTED)
    return made


def run_two(target: Callable[..., None], *arguments: Any, environment: Mapping[str, str]) -> list[int | None]:
    """Their exit statuses. Where one is killed, or `SECONDS` are over, the other is too, as torchrun does."""
    (port,) = free_ports(1)
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    processes = []
    for rank in ("0", "1"):
        own = {**environment, **group, "RANK": rank, "LOCAL_RANK": rank}
        processes.append(_context().Process(target=_within, args=(own, target, *arguments)))
    for process in processes:
        process.start()
    left = {process.sentinel: process for process in processes}
    while left:
        ended = [left.pop(each) for each in wait(list(left), SECONDS) if isinstance(each, int)]
        if not ended or any((process.exitcode or 0) < 0 for process in ended):
            for process in left.values():
                process.kill()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _within(environment: Mapping[str, str], target: Callable[..., None], *arguments: Any) -> None:
    os.environ.update(environment)
    target(*arguments)
