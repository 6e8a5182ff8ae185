"""What the command line shows: progress bars for long steps, and plain lines where there is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from foretaste.kernel.ports import Report

console = Console(markup=False)
errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
"""Without markup: what is printed comes from outside too, and `[/b]` in an event is text."""


@contextmanager
def progress() -> Iterator[Report]:
    """A `Report` that draws one bar a step; where the output is no terminal, a line when a step begins and ends."""
    if not console.is_terminal:
        yield _Lines().report
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total}"),
    )
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield report


class _Lines:
    def __init__(self) -> None:
        self._open: set[str] = set()

    def report(self, step: str, done: int, total: int | None) -> None:
        if done == total:
            console.print(f"{step}: done", highlight=False)
            self._open.discard(step)
        elif step not in self._open:
            console.print(f"{step} …", highlight=False)
            self._open.add(step)
