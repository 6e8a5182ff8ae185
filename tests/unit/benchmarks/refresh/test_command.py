import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.refresh.command import refresh
from benchmarks.refresh.week_log import WEEK_MS
from foretaste.kernel.errors import InvalidInput
from tests.data_factory import START, write_dataset

SINCE = datetime.fromtimestamp(START + 2 * WEEK_MS // 1000, UTC).isoformat()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("FORETASTE_HOME", str(tmp_path / "home"))
    folder = write_dataset(tmp_path / "data", users=120, interactions=2000)
    app = typer.Typer()
    app.command()(refresh)

    def runner(*options: Any) -> Any:
        fixed = ["--data", str(folder), "--out", str(tmp_path / "out"), "--rounds", "1", "--resamples", "20"]
        return CliRunner().invoke(app, [*fixed, *options], catch_exceptions=False)

    return runner


def test_the_rows_and_the_figure_are_written(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("--from", SINCE, "--weeks", "2", "--json")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"refresh-synthetic.json", "refresh-synthetic.svg"}
    written = json.loads((tmp_path / "out" / "refresh-synthetic.json").read_text(encoding="utf-8"))
    assert json.loads(result.stdout) == written
    assert f"--from={SINCE}" in written["command"].replace("'", "")
    assert written["settings"]["refresh"]["catalogue"] == "data"
    assert [week["week"] for week in written["weeks"]] == [1, 2]


@pytest.mark.parametrize("options", [("--from", "soon"), ("--until", "later"), ("--cold", "first")])
def test_what_is_no_time_and_no_week_is_refused(run: Callable[..., Any], options: Any) -> None:
    with pytest.raises(InvalidInput, match=options[1]):
        run(*options)
