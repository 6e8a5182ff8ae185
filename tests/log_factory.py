"""Rankings and behaviours for tests of the training log."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from features.feast_api import RepoConfig
from features.redis.address import RedisAddress
from features.repo_config import apply_features, repo_config
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.ranking import Source

AT_MS = 1_767_225_600_000
"""2026-01-01, 00:00 UTC."""
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def at(days: float = 0, ms: int = 0) -> datetime:
    return FIRST + timedelta(days=days, milliseconds=ms)


def ranked(ranking_id: str, when: datetime = FIRST, **changed: Any) -> UserRanked:
    made = UserRanked(
        ranking_id=ranking_id,
        user_id="u1",
        at=when,
        items=("i1", "i2"),
        scores=(0.75, 0.5),
        context={"hour": 8},
        attributes={"age": 25, "city": "Zürich", "vip": True, "gone": None},
        behaviour_items=("a", "b", "c"),
        behaviour_actions=("liked", "liked", "rated"),
        behaviour_times=(1, 2, 3),
        served_by=Source.BLENDED,
        zero_shot_generation=2,
        ranking_generation=2,
        warm_after=5,
    )
    return made.model_copy(update=changed)


def behaved(
    item: str,
    when: datetime = FIRST,
    user_id: str = "u1",
    ranking_id: str | None = None,
    event_id: str | None = None,
) -> UserBehaved:
    return UserBehaved(user_id=user_id, item_id=item, at=when, action="liked", ranking_id=ranking_id, event_id=event_id)


def log_config(folder: Path, log: str | None = None) -> RepoConfig:
    """Feast's configuration with a registry and a log in `folder` (or at `log`), applied; no server is needed."""
    address = RedisAddress.parse("redis://127.0.0.1:1")
    config = repo_config(address, str(folder / "registry.db"), f"test_{uuid4().hex}", log or folder / "log")
    apply_features(config)
    return config
