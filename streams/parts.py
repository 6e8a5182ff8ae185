"""What the ways of a user work on."""

from dataclasses import dataclass

from foretaste.kernel.ports import Events, Generations, Towers
from foretaste.kernel.running.durability import SyncedStore
from foretaste.kernel.running.erasing import ErasingStore, LastErasure
from foretaste.kernel.running.registered_items import ItemRegistry


@dataclass(frozen=True, slots=True)
class SignUpParts:
    """The ports behind which the other parts of the system lie. Their maker closes them."""

    store: ErasingStore
    towers: Towers
    generations: Generations
    events: Events
    synced: SyncedStore | None = None
    """The store, where its disk is waited for before anything is announced or acknowledged."""
    last_erasure: LastErasure | None = None
    """None where nobody is erased besides."""
    items: ItemRegistry | None = None
    """None where no items are registered."""
