"""The course of one refresh: how long its steps took, how it ended, and what is kept of that."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.ports import Clock
from models.refresh.parts import RefreshParts
from models.refresh.records import LearningRecord, RefreshOutcome, RefreshRecord, RefreshRecords, UnfinishedRefresh

log = logging.getLogger(__name__)


class RefreshCourse:
    """What is known of a refresh so far, and of its end, which nothing that comes later changes."""

    def __init__(self, run: UnfinishedRefresh, records: RefreshRecords, clock: Clock, monotonic: Clock) -> None:
        self.run = run
        self.detail = "a defect ended it"
        self.over = False
        """There is nothing for the next refresh to resume."""
        self._records = records
        self._outcome = RefreshOutcome.FAILED
        self._learning: LearningRecord | None = None
        self._clock, self._monotonic = clock, monotonic
        self._started = clock()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times a step."""
        began = self._monotonic()
        try:
            yield
        finally:
            self._seconds[name] = round(self._monotonic() - began, 3)

    def learned(self, number: int | None, learning: LearningRecord) -> None:
        """What was learned from, and the candidate, which a later refresh need not train again."""
        self._learning = learning
        if number is not None:
            self.run = self._records.keep(self.run.model_copy(update={"number": number, "learning": learning}))

    def end(self, outcome: RefreshOutcome, detail: str) -> None:
        """The refresh is over, whatever fails afterwards."""
        self._outcome, self.detail, self.over = outcome, detail, True

    def fail(self, error: ForetasteError) -> None:
        """An error ended it; one that is not retriable leaves nothing to resume."""
        if not self.over:
            self.detail, self.over = str(error), not error.retriable

    def stop(self, detail: str) -> None:
        """It was cancelled, and can be resumed."""
        if not self.over:
            self.detail = detail

    def close(self) -> RefreshRecord:
        """The record of what happened until now, which `record` is from then on."""
        self.record = RefreshRecord(
            id=self.run.id,
            outcome=self._outcome,
            detail=self.detail,
            base=self.run.base,
            number=self.run.number,
            since_ms=self.run.since_ms,
            until_ms=self.run.until_ms,
            started_at=datetime.fromtimestamp(self._started, UTC).isoformat(timespec="seconds"),
            seconds=round(self._clock() - self._started, 3),
            steps=self._seconds,
            learning=self._learning,
        )
        return self.record


@contextmanager
def recorded(parts: RefreshParts, run: UnfinishedRefresh, lost: threading.Event) -> Iterator[RefreshCourse]:
    """The course of what happens inside, of which a record is kept whatever its end; `lost`: the lease is gone."""
    course = RefreshCourse(run, parts.records, parts.clock, parts.monotonic)
    try:
        yield course
    except ForetasteError as error:
        course.fail(error)
        raise
    except asyncio.CancelledError:
        course.stop("its lease was lost" if lost.is_set() else "it was stopped")
        raise
    finally:
        _keep(course, parts.records, lost)


def _keep(course: RefreshCourse, records: RefreshRecords, lost: threading.Event) -> None:
    """1. The record is written; 2. a refresh that is over is forgotten.

    Without the lease nothing is forgotten, and nothing is written of a refresh that another process has ended. A disk
    that takes no record does not change the end: it is logged.
    """
    record, unfinished = course.close(), records.unfinished()
    if lost.is_set() and (unfinished is None or unfinished.id != course.run.id):
        return
    try:
        records.add(record)
    except Unavailable as error:
        log.warning("there is no record of refresh %s: %s", course.run.id, error)
    if course.over and not lost.is_set():
        records.forget()
