"""How the stack tells what it does; nothing here prints."""

from collections.abc import Callable
from typing import TypeAlias

Report: TypeAlias = Callable[[str, int, int | None], None]
"""`report(step, done, total)`: `total` is None while it is unknown. Called from several threads."""


def silent(_step: str, _done: int, _total: int | None) -> None:
    """Tell nobody."""
