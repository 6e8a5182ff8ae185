"""Log lines of one form, with what they are about, and bounded where they repeat."""

import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from foretaste.kernel.running.logs import OURS, RepeatLimiter, about, write_logs


@dataclass
class Hands:
    """A clock that stands until it is moved."""

    at: float = 0.0

    def __call__(self) -> float:
        return self.at


@dataclass
class Written:
    """What a process has written, with its clock."""

    stream: io.StringIO
    hands: Hands

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def written() -> Iterator[Written]:
    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in OURS}
    handlers, level = list(root.handlers), root.level
    for handler in handlers:  # else they are closed
        root.removeHandler(handler)
    found = Written(io.StringIO(), Hands())
    write_logs(found.stream, found.hands)
    yield found
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)


def test_a_line_has_time_level_logger_and_what_it_is_about(written: Written) -> None:
    log = logging.getLogger("streams.some")
    log.info("started with %d", 3)
    with about("user-registered/3@17"):
        log.error("went wrong")
    log.warning("after it")
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    expected = [
        r"INFO streams\.some started with 3",
        r"ERROR streams\.some \[user-registered/3@17\] went wrong",
        r"WARNING streams\.some after it",
    ]
    assert len(written.lines) == len(expected)
    for line, rest in zip(written.lines, expected, strict=True):
        assert re.fullmatch(f"{when} {rest}", line), line


def test_what_comes_from_outside_begins_no_line_and_steers_no_terminal(written: Written) -> None:
    with about("a\nb"):
        logging.getLogger("streams.some").warning("value %s", "x\n2026 ERROR faked\x1b[2J\u2028")
    (line,) = written.lines
    assert line.endswith("[a?b] value x\\x0a2026 ERROR faked\\x1b[2J\\x2028")


def test_a_defect_brings_its_traceback(written: Written) -> None:
    empty: dict[str, int] = {}
    try:
        empty["missing"]
    except KeyError:
        logging.getLogger("streams.some").exception("a defect")
    assert written.lines[0].endswith("ERROR streams.some a defect")
    assert written.lines[-1] == "KeyError: 'missing'"


def test_libraries_write_from_warnings_on(written: Written) -> None:
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("trouble")
    assert [line.rpartition(" ")[2] for line in written.lines] == ["trouble"]


def test_repeated_lines_are_left_out_and_counted(written: Written) -> None:
    def fail(attempt: int) -> None:
        logging.getLogger("library.part").error("attempt %d failed", attempt)

    for attempt in range(100):
        fail(attempt)
    assert [line.partition("part ")[2] for line in written.lines] == [f"attempt {each} failed" for each in range(3)]
    written.hands.at += 30
    fail(100)
    assert written.lines[-1].endswith("attempt 100 failed (97 more like it were left out)")


def test_a_line_of_our_own_may_come_more_often(written: Written) -> None:
    for attempt in range(100):
        logging.getLogger("foretaste.part").warning("attempt %d", attempt)
    assert len(written.lines) == RepeatLimiter(written.hands).own_burst


def test_lines_are_told_apart_by_where_they_stand(written: Written) -> None:
    limited = RepeatLimiter(Hands(), burst=1)
    logger = logging.getLogger("library")
    handler = logging.getLogger().handlers[0]
    handler.filters[:] = [limited]
    for _ in range(3):
        logger.error("one")
        logger.error("two")
        logging.getLogger("other").error("three")
    assert sorted(line.rpartition(" ")[2] for line in written.lines) == ["one", "three", "two"]


def test_written_anew_each_line_comes_once(written: Written) -> None:
    write_logs(written.stream)
    logging.getLogger("streams.some").warning("once")
    assert len(written.lines) == 1
