"""Which slot holds which generation."""

from itertools import pairwise

from foretaste.kernel.generations import slot


def test_neighbours_never_share_a_slot_and_every_second_one_does() -> None:
    slots = [slot(generation) for generation in range(1, 20)]
    assert all(old != new for old, new in pairwise(slots))
    assert set(slots[::2]) == {"virtual_behaviour_odd"}
    assert set(slots[1::2]) == {"virtual_behaviour_even"}
