"""Whether a process does its work, and why not."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.files import write_file

log = logging.getLogger(__name__)


class ProcessReadiness:
    """What keeps a process from its work, by subject; it is ready while that is nothing. For any thread.

    Each change is a line of the log. With a `file`, what keeps it lies there for other processes of this machine, and
    the file is there only while the process is unready.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._reasons: dict[str, str] = {}
        self._lock = Lock()

    @property
    def reasons(self) -> Mapping[str, str]:
        """By subject; empty while the process is ready."""
        with self._lock:
            return dict(self._reasons)

    def unready(self, subject: str, reason: str) -> None:
        """Said once: while a subject stands, another reason takes the place of its first one without a line."""
        with self._lock:
            known = self._reasons.get(subject)
            self._reasons[subject] = reason
            if known != reason:
                self._tell()
        if known is None:
            log.warning("not ready: %s: %s", subject, reason)

    def ready(self, subject: str) -> None:
        """The subject keeps the process from nothing any more."""
        with self._lock:
            known = self._reasons.pop(subject, None)
            if known is not None:
                self._tell()
        if known is not None:
            log.info("over: %s: %s", subject, known)

    def _tell(self) -> None:
        if self._file is None:
            return
        try:
            if self._reasons:
                write_file(self._file, json.dumps(self._reasons))
            else:
                self._file.unlink(missing_ok=True)
        except (OSError, Unavailable) as error:  # a full disk ends no worker that only wants to say that it is unready
            log.warning("what keeps this process from its work could not be told in %s: %s", self._file, error)


@contextmanager
def told_in(home: Path) -> Iterator[ProcessReadiness]:
    """The readiness of this process, told under `home` to `reasons_of` until the `with` body ends."""
    file = _file_of(home, os.getpid())
    for folder in (home, file.parent):  # for its owner alone
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # of a killed process that had this pid
    try:
        yield ProcessReadiness(file)
    finally:
        file.unlink(missing_ok=True)


def reasons_of(home: Path, pid: int) -> Mapping[str, str]:
    """What keeps another process from its work; empty where it is ready, or tells nothing."""
    try:
        found = json.loads(_file_of(home, pid).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(subject): str(reason) for subject, reason in found.items()} if isinstance(found, dict) else {}


def _file_of(home: Path, pid: int) -> Path:
    return home / "unready" / f"{pid}.json"
