import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foretaste.cli.main import app
from foretaste.kernel.errors import InvalidInput
from tests.data_factory import write_dataset
from tests.study_parts import BACKWARDS, POPULAR


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("FORETASTE_HOME", str(tmp_path / "home"))

    def runner(*options: Any) -> Any:
        arguments = ["evaluate", "--data", str(folder), "--out", str(tmp_path / "out"), "--jobs", "1", *options]
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return runner


def test_rows_page_and_figure_are_written(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("--towers", f"{POPULAR},{BACKWARDS}", "--seeds", "0, 1", "--resamples", "20", "--tune")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "towers-synthetic.json",
        "towers-synthetic.md",
        "tuned-synthetic.json",
        "gauc-by-seen-synthetic.svg",
    }
    rows = json.loads((tmp_path / "out" / "towers-synthetic.json").read_text(encoding="utf-8"))
    assert {row["protocol"] for row in rows} == {"hidden", "first_steps", "random_40", "random_40_steps"}
    page = (tmp_path / "out" / "towers-synthetic.md").read_text(encoding="utf-8")
    assert f"--towers {POPULAR},{BACKWARDS}" in page
    assert "--seeds '0, 1'" in page
    assert "of 5 |" in page


def test_a_tower_that_was_not_tuned_beside_one_that_was_is_named(run: Callable[..., Any], tmp_path: Path) -> None:
    common = ("--seeds", "0", "--protocols", "hidden", "--resamples", "20")
    assert "not tuned" not in run("--towers", POPULAR, *common, "--tune").output
    both = run("--towers", f"{POPULAR},{BACKWARDS}", *common, "--fresh", "--device", "auto").output
    assert f"not tuned, beside others that are: {BACKWARDS}" in both.replace("\n", "")
    page = (tmp_path / "out" / "towers-synthetic.md").read_text(encoding="utf-8")
    assert "--device auto" in page
    assert "--fresh" in page


def test_json_is_all_that_is_printed(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("--towers", POPULAR, "--seeds", "0", "--protocols", "hidden", "--resamples", "20", "--json")
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "out" / "towers-synthetic.json").read_text(encoding="utf-8"))
    assert len(printed) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--towers", "mial"), r"^towers: expected one of .*dnn.*\(got 'mial'\)"),
        (("--towers", ","), "^towers: names none"),
        (("--seeds", "0,one"), r"^seeds: expected whole numbers.*\(got 'one'\)"),
        (("--seeds", "-1"), r"^seeds: .*\(got '-1'\)"),
        (("--seeds", ""), "^seeds: names none"),
        (("--seeds", "1,1"), "^seeds: names one twice"),
        (("--protocols", "hidden,shown"), r"^protocols: expected one of hidden.*\(got 'shown'\)"),
        (("--against", "dmn"), r"^against: expected one of .*dnn.*\(got 'dmn'\)"),
        (("--device", "tpu"), r"^device: .*\(got 'tpu'\)"),
    ],
)
def test_what_cannot_be_is_refused_by_option_and_value_before_anything_is_read(
    run: Callable[..., Any], options: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=said):
        run(*options)
    assert not (tmp_path / "out").exists()
