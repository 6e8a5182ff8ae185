"""What both ways work on."""

from dataclasses import dataclass

from foretaste.kernel.ports import Events, Generations, OnlineStore, Towers


@dataclass(frozen=True, slots=True)
class Parts:
    """The ports behind which the other parts of the system lie. Whoever made them closes them."""

    store: OnlineStore
    towers: Towers
    generations: Generations
    events: Events
