"""Which form of the online store the settings choose."""

from pathlib import Path

import pytest

from features.online.feast_store import FeastStore
from features.online.redis_store import RedisStore
from foretaste import compose
from foretaste.settings import Settings

TEAM = "project: shop\nprovider: local\nregistry: r.db\nonline_store: {type: %s}\n"


@pytest.mark.parametrize(
    ("online_store", "teams", "form"),
    [
        ("auto", None, RedisStore),
        ("feast", None, FeastStore),
        ("auto", "redis", RedisStore),
        ("auto", "sqlite", FeastStore),
        ("feast", "redis", FeastStore),
    ],
)
def test_the_fast_form_is_taken_where_the_store_is_redis_and_nothing_turns_it_off(
    tmp_path: Path, online_store: str, teams: str | None, form: type
) -> None:
    settings = {"home": tmp_path, "redis": "redis://cache", "online_store": online_store}
    if teams is not None:
        file = tmp_path / "feature_store.yaml"
        file.write_text(TEAM % teams)
        settings["feature_store"] = file
    assert type(compose.store(Settings.model_validate(settings))) is form
