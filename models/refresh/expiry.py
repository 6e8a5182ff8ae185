"""Candidates that the gate refused: their files are deleted after a while."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

from foretaste.kernel.errors import DamagedArtifact
from foretaste.kernel.files import remove_whole
from foretaste.kernel.values import DAY_SECONDS
from models.generations.manifest import read_manifest
from models.refresh.parts import RefreshParts
from models.refresh.records import RefreshOutcome, RefreshRecord


async def delete_refused(parts: RefreshParts, besides: int | None) -> list[int]:
    """Delete the files of candidates that were refused more than `refused_days` ago; their numbers, rising.

    Their verdicts and records stay. A candidate that somebody published all the same is recorded as a generation and
    stays, and so does `besides`, that of a refresh under way. A number is given again once nothing is left of it: what
    was made after its refusal is another candidate's.
    """
    newest = {record.number: record for record in parts.records.all() if record.number is not None}
    deleted = []
    for number, record in sorted(newest.items()):
        folder = parts.publish.artifact(number)
        if number == besides or record.outcome is not RefreshOutcome.REFUSED or not folder.is_dir():
            continue
        ended = datetime.fromisoformat(record.started_at) + timedelta(seconds=record.seconds)
        is_over = parts.clock() - ended.timestamp() > parts.config.refused_days * DAY_SECONDS
        if is_over and _is_candidate_of(folder, record) and await parts.publish.generations.get(number) is None:
            await asyncio.to_thread(remove_whole, folder)
            deleted.append(number)
    return deleted


def _is_candidate_of(folder: Path, record: RefreshRecord) -> bool:
    """Whether the refresh made what is there now."""
    try:
        made = datetime.fromisoformat(read_manifest(folder).created_at)
    except DamagedArtifact:
        return True  # nobody can load it
    return made <= datetime.fromisoformat(record.started_at) + timedelta(seconds=record.seconds)
