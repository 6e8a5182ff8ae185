"""`foretaste generations` on a real Redis, towers in this process."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from foretaste import compose, console
from foretaste.cli.generations import generations
from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings
from models.runtime import layout as files
from tests import opened
from tests.towers_factory import artifacts

Run = Callable[..., Result]


@pytest.fixture
def run(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Generations 1 and 2 are written, 1 is active; 3 is damaged."""
    shutil.copytree(artifacts()[0].parent, tmp_path / "generations")
    (tmp_path / "generations" / "3").mkdir()
    addresses = {"KAFKA": "127.0.0.1:9", "REDIS": redis_url, "TRITON": "in-process"}
    for name, value in {"HOME": str(tmp_path), "PROJECT": f"test_{uuid4().hex}", **addresses}.items():
        monkeypatch.setenv(f"FORETASTE_{name}", value)
    monkeypatch.setattr(console.console, "_width", 400)
    asyncio.run(opened.publish(Settings(), 1))

    def ran(*arguments: str) -> Result:
        result = CliRunner().invoke(generations, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return ran


def _states(run: Run) -> dict[int, str]:
    return {entry["number"]: entry["state"] for entry in json.loads(run("list", "--json").stdout)}


def test_the_list_says_what_each_generation_is(run: Run, tmp_path: Path) -> None:
    asyncio.run(opened.load(Settings(), 2))
    (tmp_path / "verdicts").mkdir()
    verdict = {"decision": "fail", "reasons": ["cold users are worse"], "forced": True}
    (tmp_path / "verdicts" / "2.json").write_text(json.dumps(verdict))
    first, second, third = json.loads(run("list", "--json").stdout)
    assert (first["number"], first["state"], first["verdict"], first["base"]) == (1, "active", None, None)
    assert (second["number"], second["state"], second["verdict"]) == (2, "loaded", "fail (forced)")
    assert second["metrics"] == {"cold.virtual.auc": 0.75, "warm.real.auc": None}
    assert (third["number"], third["state"], third["created_at"]) == (3, "written", None)
    assert "manifest.json cannot be read" in third["damage"]
    table = run("list").stdout
    for text in ("active", "loaded", "fail (forced)", "cannot be read", "2027-01-15T08:00:00+00:00"):
        assert text in table


def test_states_follow_the_pointer(run: Run, tmp_path: Path) -> None:
    assert _states(run) == {1: "active", 2: "written", 3: "written"}
    asyncio.run(opened.load(Settings(), 2))
    asyncio.run(_fill(2))
    assert _states(run)[2] == "filling"
    assert "generation 2 is active; before: 1" in run("activate", "2", "--reason", "a trial").stdout
    assert _states(run) == {1: "previous", 2: "active", 3: "written"}
    for tower in (tmp_path / "triton_repo").iterdir():
        shutil.rmtree(tower / "1")
    assert "generation 1 is active" not in run("list").stdout
    asyncio.run(opened.load(Settings(), 1))
    assert "generation 1 is active again; 2 stays loaded" in run("rollback").stdout
    assert _states(run) == {1: "active", 2: "previous", 3: "written"}


async def _fill(number: int) -> None:
    stored = compose.generations(Settings())
    await stored.fill(number)
    await stored.close()


def test_one_that_triton_does_not_answer_for_is_recorded_alone(run: Run, tmp_path: Path) -> None:
    asyncio.run(opened.load(Settings(), 2))
    for tower in (tmp_path / "triton_repo").iterdir():
        shutil.rmtree(tower / "2")
    assert _states(run)[2] == "recorded"


def test_one_is_shown_with_its_moves_and_their_reasons(run: Run) -> None:
    asyncio.run(opened.load(Settings(), 2))
    run("activate", "2", "--reason", "a [bold] trial")
    run("rollback")
    shown = json.loads(run("show", "2", "--json").stdout)
    assert [(move["number"], move["came_from"], move["reason"]) for move in shown["moves"]] == [
        (1, 2, "rollback by hand"),
        (2, 1, "a [bold] trial"),
    ]
    assert shown["manifest"]["dataset"] == "synthetic"
    assert set(shown["manifest"]["files"]) >= {files.PROBES, files.RANKING}
    page = run("show", "2").stdout
    assert "a [bold] trial" in page
    assert "cold.virtual.auc" in page
    with pytest.raises(InvalidInput, match="neither recorded nor written"):
        run("show", "9")


def test_a_retired_one_is_written_until_it_is_deleted(run: Run, tmp_path: Path) -> None:
    asyncio.run(opened.load(Settings(), 2))
    assert "generation 2 is retired" in run("retire", "2").stdout
    assert _states(run) == {1: "active", 2: "written", 3: "written"}
    run("retire", "2", "--delete")
    run("retire", "3", "--delete")
    assert _states(run) == {1: "active"}
    with pytest.raises(InvalidInput, match="is active"):
        run("retire", "1", "--delete")
    assert (tmp_path / "generations" / "1").is_dir()
