"""What answers tell of new users, of whom it was planted that they tell something."""

import json
from pathlib import Path

from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.zero_shot.onboarding import text_of
from tests.questions_factory import two_tastes


def test_answers_tell_the_planted_tastes_and_the_text_says_so(tmp_path: Path) -> None:
    two_tastes(tmp_path / "data", users=300, acts=16)
    arguments = ["onboarding", "--data", str(tmp_path / "data"), "--seeds", "1"]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert set(found["orders"]) == {"best first", "most popular", "at random"}
    for each in found["orders"].values():
        gain, low, high = each["gain"]
        assert low < gain < high
        assert 1 < each["liked"] < 4.5
    _, low, _ = found["orders"]["best first"]["gain"]
    assert low > 0.03
    assert "best first: " in text_of(found)
