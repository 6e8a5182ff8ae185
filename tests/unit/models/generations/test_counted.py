"""Whose interactions are in a generation's counts, by digest, and the first counts that travel along."""

from pathlib import Path

import pytest

from foretaste.kernel.errors import DamagedArtifact
from foretaste.kernel.running.erasing import user_digest
from models.generations.counted import CountedUsers, digests_of, holds_some
from models.runtime import layout


def erased(*users: str) -> frozenset[bytes]:
    return frozenset(map(user_digest, users))


def folder(path: Path, counted: CountedUsers, counts: bytes = b"") -> Path:
    """A generation's, with counts of its own."""
    path.mkdir()
    counted.write(path)
    (path / layout.COUNTS).write_bytes(counts)
    return path


def test_who_was_counted_is_told_by_digest() -> None:
    counted = digests_of(["anna", "ben", "anna"])
    assert len(counted) == 2
    assert holds_some(counted, erased("carl", "ben"))
    assert not holds_some(counted, erased("carl"))
    assert not holds_some(counted, erased())
    assert not holds_some(digests_of([]), erased("anna"))


def test_the_first_counts_travel_from_one_training_to_the_next(tmp_path: Path) -> None:
    first = folder(tmp_path / "1", CountedUsers.of(["anna"]), b"first")
    for number, user in ((2, "ben"), (3, "carl")):
        before = CountedUsers.read(first)
        assert before is not None
        first = folder(tmp_path / str(number), before.before(first).adding([user], {}), b"later")
        assert (first / layout.FIRST_COUNTS).read_bytes() == b"first"
    read = CountedUsers.read(first)
    assert read is not None
    assert holds_some(read.all, erased("carl"))
    assert not holds_some(read.first, erased("ben", "carl"))
    assert holds_some(read.first, erased("anna"))
    alone = read.first_alone().adding(["dora"], {})
    assert not holds_some(alone.all, erased("ben", "carl"))


def test_an_artifact_of_an_earlier_version_does_not_tell(tmp_path: Path) -> None:
    assert CountedUsers.read(tmp_path) is None


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / layout.COUNTED).write_bytes(b"no zip")
    with pytest.raises(DamagedArtifact, match=layout.COUNTED):
        CountedUsers.read(tmp_path)


def test_no_id_is_written(tmp_path: Path) -> None:
    CountedUsers.of(["a name that is long enough to be found"]).write(tmp_path)
    assert b"long enough" not in (tmp_path / layout.COUNTED).read_bytes()
