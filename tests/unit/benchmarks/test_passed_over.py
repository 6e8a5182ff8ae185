"""What new users pass over, where it was planted that it tells of the choice."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.zero_shot.passed_over import text_of
from models.rivals.towers import TowerMethod
from models.training.config import TrainingConfig
from tests.questions_factory import two_tastes

SHORT = TrainingConfig().with_epochs(1)


def test_each_way_is_judged_by_how_much_was_seen_and_the_text_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.zero_shot.passed_over.TowerMethod", lambda: TowerMethod(SHORT))
    two_tastes(tmp_path / "data", users=300, acts=16)
    arguments = ["passed-over", "--data", str(tmp_path / "data"), "--seeds", "1"]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert list(found["seen"]) == ["1-2", "3-5", "6-10", "11-20"]
    for each in found["seen"].values():
        assert 0.5 < each["without"] < 1
        for way in ("acts", "passed over"):
            gain, low, high = each[way]
            assert low < gain < high, "each moves the order"
    assert "1-2: 0." in text_of(found)
