"""The in-memory online store beyond the conformance suite: what it holds is its own."""

import numpy as np

from foretaste.kernel.users import EnrichedUser, ReenrichedUser, VirtualBehaviour
from foretaste.testing import InMemoryOnlineStore


async def test_what_the_caller_changes_later_is_not_stored() -> None:
    store = InMemoryOnlineStore()
    attributes, vectors = {"age": 25}, np.ones((3, 2), np.float32)
    await store.write_enriched([EnrichedUser("u1", attributes, VirtualBehaviour(1, vectors), 1)])
    attributes["age"] = 99
    vectors[:] = 0
    (features,) = await store.read(["u1"], 1)
    assert features.attributes == {"age": 25}
    assert features.virtual is not None
    assert (features.virtual.vectors == 1).all()


async def test_what_the_caller_of_a_repair_changes_later_is_not_stored() -> None:
    store, vectors = InMemoryOnlineStore(), np.ones((3, 2), np.float32)
    await store.write_virtual([ReenrichedUser("u1", VirtualBehaviour(1, vectors), 1)])
    vectors[:] = 0
    (features,) = await store.read(["u1"], 1)
    assert features.virtual is not None
    assert (features.virtual.vectors == 1).all()
