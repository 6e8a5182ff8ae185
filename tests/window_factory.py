"""Small training logs: what was shown to whom, and what they did, as `TrainingLog.read` gives it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from features.log.rows import behaviours_table, rankings_table
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.ports import Logged
from foretaste.kernel.ranking import Source
from foretaste.kernel.values import Attributes, Scalar

CITY: Mapping[str, Scalar] = {"city": "north"}


def shown(  # noqa: PLR0913  # flat, each a column
    user: str,
    at_ms: int,
    items: Sequence[str] = ("a", "b"),
    *,
    ranking_id: str | None = None,
    done: Sequence[tuple[str, str] | str] = (),
    attributes: Attributes | None = CITY,
    context: Mapping[str, Scalar] | None = None,
    generation: int | None = 1,
    registered_ms: int | None = None,
) -> UserRanked:
    """A ranking; `done` is the behaviour as served, items or pairs of an item and an action (else "did")."""
    pairs = [(each, "did") if isinstance(each, str) else each for each in done]
    return UserRanked(
        ranking_id=ranking_id or f"{user} at {at_ms}",
        user_id=user,
        at=_time(at_ms),
        items=tuple(items),
        scores=(0.5,) * len(items),
        context=context or {},
        attributes=attributes,
        behaviour_items=tuple(item for item, _ in pairs),
        behaviour_actions=tuple(action for _, action in pairs),
        behaviour_times=tuple(range(len(pairs))),
        served_by=Source.REAL if pairs else Source.VIRTUAL,
        zero_shot_generation=generation,
        ranking_generation=generation,
        warm_after=None if generation is None else 3,
        registered_at=None if registered_ms is None else _time(registered_ms),
    )


def acted(user: str, at_ms: int, item: str = "a", *, action: str = "did", ranking_id: str | None = None) -> UserBehaved:
    return UserBehaved(user_id=user, item_id=item, at=_time(at_ms), action=action, ranking_id=ranking_id)


def logged(rankings: Sequence[UserRanked], behaviours: Sequence[UserBehaved] = ()) -> Logged:
    """All of them, in order of time; of one time in the order given."""
    return Logged(
        rankings_table(sorted(rankings, key=lambda one: one.at)),
        behaviours_table(sorted(behaviours, key=lambda one: one.at)),
    )


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
