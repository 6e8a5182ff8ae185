"""What the ranking tower is asked of a user."""

from collections.abc import Sequence

from foretaste.kernel.ranking import RankingInput, account_age_ms
from foretaste.kernel.users import UserFeatures
from serving.rankings.tastes import UserTaste
from serving.requests import RankRequest


def tower_input(request: RankRequest, features: UserFeatures, taste: UserTaste, now_ms: int) -> RankingInput:
    """The candidates for a user as read, at `now_ms` (epoch milliseconds)."""
    return RankingInput(
        features.attributes or {},
        request.context,
        features.behaviour,
        taste.vectors,
        request.items,
        account_age_ms(features.registered_ms, now_ms),
    )


def registered_ahead(users: Sequence[UserFeatures], inputs: Sequence[RankingInput]) -> int:
    """How many users have a registration that lies ahead of the clock, so that their age is read as unknown."""
    return sum(read.age_ms is None and user.registered_ms is not None for user, read in zip(users, inputs, strict=True))
