"""A vocabulary as an archive of NumPy's: a reader's event loop stands still for none of it, however many items.

JSON is parsed in one step, which is a second for a million items. Copied into Triton's environment: NumPy and the
standard library alone.
"""

import io
import json
from typing import NamedTuple

import numpy as np

from foretaste.kernel.values import IndexArray


class Unpacked(NamedTuple):
    """A vocabulary out of its archive."""

    without_items: str
    """The JSON of `Encoding.to_json`, with no item."""
    items: tuple[str, ...]
    item_features: IndexArray
    digest: int
    """By which the towers know the vocabulary."""


def packed(text: str, digest: int) -> bytes:
    """The archive of an encoding's JSON."""
    encoding = json.loads(text)
    items, features = encoding["items"], encoding["item_features"]
    rows = len(features) - len(items)  # of padding and of unknown items
    head = json.dumps({"digest": digest, "encoding": encoding | {"items": [], "item_features": features[:rows]}})
    archive = io.BytesIO()
    np.savez(
        archive,
        head=np.frombuffer(head.encode(), dtype=np.uint8),
        items=np.frombuffer("".join(items).encode(), dtype=np.uint8),
        lengths=np.array([len(item) for item in items], dtype=np.int64),
        item_features=np.array(features, dtype=np.int64),
    )
    return archive.getvalue()


def unpacked(archive: bytes) -> Unpacked:
    """What `packed` was given. Raises `ValueError` for what is no such archive."""
    with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
        head = json.loads(arrays["head"].tobytes())
        text, ends = arrays["items"].tobytes().decode(), np.cumsum(arrays["lengths"]).tolist()
        features = arrays["item_features"]
    items = tuple(text[start:end] for start, end in zip([0, *ends], ends, strict=False))
    return Unpacked(json.dumps(head["encoding"]), items, features, int(head["digest"]))
