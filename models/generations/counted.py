"""Whose interactions are in a generation's counts, by digest: what tells whether somebody who was erased is among them.

counted.npz       digests (`user_digest`) of all users who were counted, and of those in the counts below
first_counts.npz  the counts of the first training that later ones added to; not there for that training itself

An artifact of an earlier version has neither: anybody may be in its counts.
"""

import shutil
import zipfile
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from foretaste.kernel.errors import DamagedArtifact
from foretaste.kernel.running.erasing import user_digest
from models.runtime import layout

Digests: TypeAlias = npt.NDArray[np.uint64]
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

    @classmethod
    def of(cls, user_ids: Iterable[str]) -> "CountedUsers":
        """Of a first training."""
        counted = digests_of(user_ids)
        return cls(counted, counted)

    @classmethod
    def read(cls, folder: Path) -> "CountedUsers | None":
        """Those of the generation in a folder; None for one of an earlier version. Raises `DamagedArtifact`."""
        path = folder / layout.COUNTED
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                counted, first = file["all"], file["first"]
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DamagedArtifact(f"{path} cannot be read: {error}") from error
        kept = folder / layout.FIRST_COUNTS
        return cls(counted, first, kept if kept.exists() else None)

    def before(self, folder: Path) -> "CountedUsers":
        """As the next training adds to them; `folder` is that of the generation whose they are."""
        own = folder / layout.COUNTS
        return CountedUsers(self.all, self.first, self.first_counts or (own if own.exists() else None))

    def first_alone(self) -> "CountedUsers":
        """Those in the first counts alone, as a training adds to them."""
        return CountedUsers(self.first, self.first, self.first_counts)

    def adding(self, user_ids: Iterable[str]) -> "CountedUsers":
        """With the users of one more window."""
        return CountedUsers(np.union1d(self.all, digests_of(user_ids)), self.first, self.first_counts)

    def write(self, folder: Path) -> None:
        """Both files."""
        np.savez_compressed(folder / layout.COUNTED, all=self.all, first=self.first)
        if self.first_counts is not None:
            shutil.copyfile(self.first_counts, folder / layout.FIRST_COUNTS)


def digests_of(user_ids: Iterable[str]) -> Digests:
    """Rising, each once."""
    return np.unique(np.frombuffer(b"".join(map(user_digest, user_ids)), _DIGEST)).astype(np.uint64)


def holds_some(digests: Digests, erased: Set[bytes]) -> bool:
    """Whether one of those who were erased is among them."""
    wanted = np.frombuffer(b"".join(erased), _DIGEST) if erased else _NOBODY
    return bool(np.isin(wanted, digests).any())
