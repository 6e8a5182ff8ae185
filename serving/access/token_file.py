"""The tokens that hold now: those of a setting, and those of a file that is read again when it changes."""

import logging
import time
from pathlib import Path

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Clock
from serving.access.tokens import Token, find_token, parse_tokens

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks at the file."""


class KnownTokens:
    """Tokens of `text` and of `file`, both as `parse_tokens` reads them; the file's where a name stands in both.

    A file that cannot be read, or whose lines are wrong, at a later look leaves what was read before, and the log says
    why: a slip of an editor locks nobody out. `clock` counts seconds monotonically.

    Raises `InvalidInput` at the start: for a wrong line, and where a file or a text holds no token.
    """

    def __init__(self, text: str = "", file: Path | None = None, clock: Clock = time.monotonic) -> None:
        self._set = parse_tokens("FORETASTE_API_TOKENS", text)
        self._file = file
        self._clock = clock
        self._seen: object = None
        self._looked_at = clock()
        self._tokens = self._set
        if file is not None:
            self._seen = _version(file)
            self._tokens = self._set | _read(file)
        if not self._tokens:
            raise InvalidInput(
                "FORETASTE_API_TOKEN_FILE" if file else "FORETASTE_API_TOKENS", str(file or ""), "holds no token"
            )

    def find(self, presented: str) -> Token | None:
        """The token that was presented, as of a second ago at most; None for one that is not known."""
        if self._file is not None and self._clock() - self._looked_at >= LOOK_EVERY:
            self._looked_at = self._clock()
            self._look(self._file)
        return find_token(self._tokens, presented)

    def _look(self, file: Path) -> None:
        try:
            version = _version(file)
            if version == self._seen:
                return
            self._seen = version
            self._tokens = self._set | _read(file)
        except InvalidInput as error:
            log.error("tokens: %s; those that were read before hold on", error)  # noqa: TRY400  # no defect of ours
            return
        log.warning("tokens: %s was read again, %d hold now", file, len(self._tokens))


def _version(file: Path) -> object:
    """Another one after each change. Raises `InvalidInput` for a file that is not there."""
    try:
        found = file.stat()
    except OSError as error:
        raise InvalidInput("FORETASTE_API_TOKEN_FILE", str(file), f"cannot be read: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(file: Path) -> dict[str, Token]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput("FORETASTE_API_TOKEN_FILE", str(file), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput("FORETASTE_API_TOKEN_FILE", str(file), f"is not UTF-8: {error.reason}") from error
    return parse_tokens(str(file), text)
