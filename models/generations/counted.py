"""Whose interactions are in a generation's counts, by digest: what tells whether somebody who was erased is among them.

counted.npz       digests (`user_digest`) of all users who were counted, and of those in the counts below; of whoever of
                  both had been erased and came back, when that was: the counts have nothing of before
first_counts.npz  the counts of the first training that later ones added to; not there for that training itself

An artifact of an earlier version has neither: anybody may be in its counts.
"""

import shutil
import zipfile
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from foretaste.kernel.errors import DamagedArtifact
from foretaste.kernel.running.erasing import user_digest
from models.runtime import layout

Digests: TypeAlias = npt.NDArray[np.uint64]
Erasures: TypeAlias = Mapping[bytes, int]
"""When users were erased (epoch milliseconds), by digest."""
_DIGEST = np.dtype("<u8")
_NOBODY = np.zeros(0, dtype=np.uint64)


@dataclass(frozen=True, eq=False, slots=True)
class CountedUsers:
    """Digests of users, rising: `all` (U,) of those counted, `first` of those in the first counts.

    `first_counts` is the file of the first counts; None: they are the generation's own.
    """

    all: Digests
    first: Digests
    first_counts: Path | None = None
    rid_of: Erasures = field(default_factory=dict)
    """Erasures of users among `all` that came before these were counted."""
    first_rid_of: Erasures = field(default_factory=dict)
    """Likewise of those among `first`."""

    @classmethod
    def of(cls, user_ids: Iterable[str], erased: Erasures | None = None) -> "CountedUsers":
        """Of a first training, on data without what was `erased`."""
        counted = digests_of(user_ids)
        rid_of = _among(counted, erased or {})
        return cls(counted, counted, None, rid_of, rid_of)

    @classmethod
    def read(cls, folder: Path) -> "CountedUsers | None":
        """Those of the generation in a folder; None for one of an earlier version. Raises `DamagedArtifact`."""
        path = folder / layout.COUNTED
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                counted, first = file["all"], file["first"]
                rid_of, first_rid_of = (_read_erasures(file, name) for name in ("all", "first"))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DamagedArtifact(f"{path} cannot be read: {error}") from error
        kept = folder / layout.FIRST_COUNTS
        return cls(counted, first, kept if kept.exists() else None, rid_of, first_rid_of)

    def before(self, folder: Path) -> "CountedUsers":
        """As the next training adds to them; `folder` is that of the generation whose they are."""
        own = folder / layout.COUNTS
        return replace(self, first_counts=self.first_counts or (own if own.exists() else None))

    def first_alone(self) -> "CountedUsers":
        """Those in the first counts alone, as a training adds to them."""
        return replace(self, all=self.first, rid_of=self.first_rid_of)

    def adding(self, user_ids: Iterable[str], erased: Erasures) -> "CountedUsers":
        """With the users of one more window, where neither that nor these counts have anything that was `erased`."""
        counted = np.union1d(self.all, digests_of(user_ids))
        return replace(self, all=counted, rid_of=_among(counted, erased))

    def hold_some(self, erased: Erasures) -> bool:
        """Whether the counts have something of before one of the erasures."""
        return holds_some(self.all, _unknown(erased, self.rid_of))

    def first_hold_some(self, erased: Erasures) -> bool:
        """Likewise the first counts."""
        return holds_some(self.first, _unknown(erased, self.first_rid_of))

    def write(self, folder: Path) -> None:
        """Both files."""
        came_back = {**_erasure_arrays("all", self.rid_of), **_erasure_arrays("first", self.first_rid_of)}
        np.savez_compressed(folder / layout.COUNTED, allow_pickle=False, all=self.all, first=self.first, **came_back)
        if self.first_counts is not None:
            shutil.copyfile(self.first_counts, folder / layout.FIRST_COUNTS)


def digests_of(user_ids: Iterable[str]) -> Digests:
    """Rising, each once."""
    return np.unique(np.frombuffer(b"".join(map(user_digest, user_ids)), _DIGEST)).astype(np.uint64)


def holds_some(digests: Digests, erased: Set[bytes]) -> bool:
    """Whether one of those who were erased is among them."""
    return bool(np.isin(_as_digests(erased), digests).any())


def _as_digests(digests: Iterable[bytes]) -> Digests:
    joined = b"".join(digests)
    return np.frombuffer(joined, _DIGEST).astype(np.uint64) if joined else _NOBODY


def _among(digests: Digests, erased: Erasures) -> Erasures:
    found = np.isin(_as_digests(erased), digests)
    return {user: at_ms for (user, at_ms), there in zip(erased.items(), found, strict=True) if there}


def _unknown(erased: Erasures, rid_of: Erasures) -> Set[bytes]:
    return {user for user, at_ms in erased.items() if rid_of.get(user, at_ms - 1) < at_ms}


def _erasure_arrays(name: str, erasures: Erasures) -> dict[str, npt.NDArray[np.generic]]:
    times = np.fromiter(erasures.values(), dtype=np.int64, count=len(erasures))
    return {f"{name}_rid_of": _as_digests(erasures), f"{name}_rid_of_ms": times}


def _read_erasures(file: Mapping[str, npt.NDArray[np.generic]], name: str) -> Erasures:
    """None in a file of an earlier version."""
    if f"{name}_rid_of" not in file:
        return {}
    users, times = file[f"{name}_rid_of"].astype(_DIGEST), file[f"{name}_rid_of_ms"]
    return {user.tobytes(): int(at_ms) for user, at_ms in zip(users, times, strict=True)}
