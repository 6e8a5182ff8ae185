"""Requests that cannot be taken. Copied into Triton's environment: standard library and numpy alone."""

import json
from pathlib import Path

from foretaste.kernel.values import IndexArray
from models.runtime import layout
from models.runtime.digest import digest_of


class BadRequest(ValueError):
    """A request that no tower can take; the message names the tensor."""


def vocabulary_of(folder: Path) -> int:
    """The digest of the vocabulary that the towers in a folder were trained with."""
    manifest = json.loads((folder / layout.MANIFEST).read_text(encoding="utf-8"))
    return digest_of(manifest["files"][layout.ENCODING])


def check_vocabulary(sent: IndexArray, own: int) -> None:
    """Raises `BadRequest` where one of the digests that a request sent (B, 1) is not that of the tower."""
    if (sent != own).any():
        raise BadRequest("vocabulary: the indices were made with another one than this version's")
