"""Processes that train together read the log each for itself, and go on only where all have read the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from foretaste.kernel.errors import Unavailable
from models.refresh.learn import check_same
from models.training.processes import SingleProcess

READ: Any = SimpleNamespace(data=SimpleNamespace(encoding=SimpleNamespace(to_json=lambda: "{}"), examples=None))


@dataclass(frozen=True, slots=True)
class First(SingleProcess):
    """The first of two processes; the other has read something else, or the same."""

    other_differs: bool = False

    def from_first(self, make: Callable[[], Any]) -> Any:
        return make()

    def mean(self, values: Mapping[str, float], weight: float) -> dict[str, float]:
        return {name: (value + self.other_differs) * weight for name, value in values.items()}


def test_the_first_process_too_ends_where_another_has_read_something_else() -> None:
    check_same(First(other_differs=False), READ)
    with pytest.raises(Unavailable, match="changed while the processes read it"):
        check_same(First(other_differs=True), READ)
