"""Two slots hold virtual behaviour, so that the active generation serves while the next one fills."""


def slot(generation: int) -> str:
    """The feature view that holds the virtual behaviour of `generation`: it shares it with every second one."""
    return "virtual_behaviour_even" if generation % 2 == 0 else "virtual_behaviour_odd"
