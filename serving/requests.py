"""What a ranking request must be beyond its types."""

from collections.abc import Sequence

from foretaste.errors import InvalidInput


def check_candidates(items: Sequence[str], most: int) -> None:
    """Raises `InvalidInput` for no candidates, more than `most`, or one that comes twice (it names the first)."""
    if not items:
        raise InvalidInput("items", items, "expected at least one candidate")
    if len(items) > most:
        raise InvalidInput("items", len(items), f"expected at most {most} candidates")
    seen: set[str] = set()
    for at, item in enumerate(items):
        if item in seen:
            raise InvalidInput(f"items.{at}", item, f"expected each candidate once, it is at {items.index(item)} too")
        seen.add(item)
