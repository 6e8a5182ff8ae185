"""What the command line shows: progress bars for long steps, and plain lines where there is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.json import JSON
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from foretaste.kernel.ports import Report

_CONTROLS = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"},
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
"""What would move a terminal's cursor, colour it or turn the direction of its text, and what is shown in its place."""
_IN_JSON = {code: f"\\u{code:04x}" for code in _CONTROLS if code >= ord(" ")}
"""JSON itself lets none of the others stand in a text."""


def without_controls(text: str) -> str:
    """A text as a terminal may be given it, whoever wrote it: control characters become their escapes."""
    return text.translate(_CONTROLS)


class _PlainConsole(Console):
    """Prints what others wrote (ids, dead letters, a server's words) as text, and none of it as commands."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(without_controls(text), **options)

    def print_json(self, json: str | None = None, **options: Any) -> None:
        text = JSON(json or "null", **options).text.plain.translate(_IN_JSON)
        self.print(JSONHighlighter()(Text(text)), soft_wrap=True)


console = _PlainConsole(markup=False)
errors = _PlainConsole(stderr=True, markup=False, highlight=False, soft_wrap=True)
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
