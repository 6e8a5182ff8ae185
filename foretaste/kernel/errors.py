"""The errors of Foretaste: few, and each says whether trying again can help."""

from typing import ClassVar


class ForetasteError(Exception):
    """Base of every error that Foretaste raises on purpose.

    `retriable` tells the edge (a worker, the API, the CLI) whether the same call may succeed later without anything
    being changed by a person.
    """

    retriable: ClassVar[bool] = False


class InvalidInput(ForetasteError):
    """Something that came from outside is wrong: it names the field and the value, and what was expected."""

    def __init__(self, field: str, value: object, problem: str) -> None:
        self.field = field
        self.value = value
        self.problem = problem
        super().__init__(f"{field}: {problem} (got {_short(value)})")

    def __reduce__(self) -> tuple[type["InvalidInput"], tuple[str, object, str]]:
        """Picklable, so that it crosses a process pool."""
        return type(self), (self.field, self.value, self.problem)


class Unavailable(ForetasteError):
    """A part (kafka, redis, triton, …) did not answer, or not in time; the same call may succeed later."""

    retriable: ClassVar[bool] = True

    def __init__(self, part: str, detail: str) -> None:
        self.part = part
        self.detail = detail
        super().__init__(f"{part} is not available: {detail}")


class BadTowerOutput(ForetasteError):
    """A tower answered with the wrong shape: the published artifact and its record disagree."""


class DamagedArtifact(ForetasteError):
    """A file of a generation, or what was kept about one, is missing or is not what was written."""


class NotOnThisMachine(ForetasteError):
    """A part that cannot be had on this platform; the message says what runs instead."""


def _short(value: object, limit: int = 160) -> str:
    """Both ends of what is long: the last names of a path are what tells it from others."""
    text, half = repr(value), limit // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]} ({len(text)} characters)"
