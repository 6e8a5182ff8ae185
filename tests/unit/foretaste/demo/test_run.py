"""What the demo refuses before it begins."""

from pathlib import Path

import pytest

from foretaste.demo.run import DemoPlan, run
from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings
from serving.access.tokens import Scope, new_token


def test_tokens_of_a_service_of_ones_own_are_none_of_the_demos(tmp_path: Path) -> None:
    _, kept = new_token("shop", [Scope.RANK])
    settings = Settings.model_validate({"home": tmp_path / "home", "api_tokens": kept.line})
    with pytest.raises(InvalidInput, match="unset FORETASTE_API_TOKENS") as caught:
        run(settings, DemoPlan(data="ml-100k", users=1, rate=1.0, keep=False, retrain=False))
    assert kept.line not in str(caught.value)
    assert not (tmp_path / "home").exists()
