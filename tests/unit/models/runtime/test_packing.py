"""A vocabulary comes out of its archive as it went in."""

from dataclasses import replace

import numpy as np
import pytest

from models.runtime.encoding import Encoding
from models.runtime.fields import CategoricalEncoder, NumericEncoder
from models.runtime.packing import packed, unpacked

ODD = ("a", "", "b\nc", "\x00", "żółw", "🎬", "d" * 300)


@pytest.mark.parametrize("items", [ODD, (), ("",)])
def test_what_was_packed_comes_out_again(items: tuple[str, ...]) -> None:
    encoding = Encoding(
        attributes={"segment": CategoricalEncoder(("cook", "25")), "age": NumericEncoder((20.0, 30.0))},
        context={"hour": NumericEncoder((12.0,))},
        item_attributes={"genre": CategoricalEncoder(("drama", "crime"))},
        items=items,
        actions=("clicked",),
        item_features=np.arange(len(items) + 2, dtype=np.int64).reshape(-1, 1) % 3,
    )
    found = unpacked(packed(encoding.to_json(), 2**55 + 1))
    again = Encoding.from_json(found.without_items)
    assert again.items == ()
    again = replace(again, items=found.items, item_features=found.item_features)
    assert again.to_json() == encoding.to_json()
    assert found.item_features.dtype == np.int64
    assert found.digest == 2**55 + 1


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(ValueError, match="pickle"):
        unpacked(b"nothing of the kind")
