"""Sessions that stand back, where the system weighs them before processes."""

import builtins
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foretaste.stack import guard
from models.runtime.priority import NICENESS


@pytest.mark.parametrize(("refusals", "tries"), [(0, 1), (3, 4), (1000, guard.TRIES)])
def test_a_session_is_lowered_once_the_system_takes_it_and_no_try_is_one_too_many(
    monkeypatch: pytest.MonkeyPatch, refusals: int, tries: int
) -> None:
    written = []

    class Session(io.StringIO):
        def write(self, text: str, /) -> int:
            written.append(text)
            if len(written) <= refusals:
                raise BlockingIOError("try again")
            return len(text)

    monkeypatch.setattr(builtins, "open", lambda *_args, **_kwargs: Session())
    monkeypatch.setattr(guard.time, "sleep", lambda _seconds: None)
    guard.lower_session(7)
    monkeypatch.undo()
    assert written == ["7"] * tries


def test_a_system_without_sessions_that_weigh_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_args: object, **_kwargs: Any) -> io.StringIO:
        raise FileNotFoundError("/proc/self/autogroup")

    monkeypatch.setattr(builtins, "open", missing)
    guard.lower_session(7)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel weighs threads alone")
@pytest.mark.parametrize(("own_session", "expected"), [(True, f"nice {NICENESS}"), (False, "as before")])
def test_a_refresh_lowers_its_own_session_and_no_other(own_session: bool, expected: str) -> None:
    code = """
from pathlib import Path
from foretaste.cli.cotrain import stand_back
session = Path("/proc/self/autogroup")
before = session.read_text()
stand_back()
print("as before" if session.read_text() == before else session.read_text().split(" ", 1)[1].strip())
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=own_session
    )
    assert ended.stdout.strip() == expected
