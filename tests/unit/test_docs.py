"""The README and the pages under docs: their commands parse, their links lead somewhere, their tables are current."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.core
from prometheus_client import CollectorRegistry
from typer.main import get_command

from benchmarks.__main__ import app as benchmarks
from foretaste import compose
from foretaste.cli.main import app as foretaste
from foretaste.kernel.users import STAGES
from foretaste.settings import markdown
from serving.access.answer_counts import AnswerCounts
from serving.metrics import RankingMetrics
from streams.parts import SignUpParts
from streams.training_log import LogMetrics
from streams.watch.monitor import Snapshot
from streams.watch.prometheus import WatchGauges
from streams.watch.windows import Figures, StageFigures
from streams.worker.metrics import Metrics
from tests.http_parts import HttpParts

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*PAGES[:2], *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {"commands.md", "settings.md"}
MOST_README_LINES = 150


def _lines() -> Iterator[tuple[str, str]]:
    """Every command of a shell block, and every command in backticks, with the page that it stands on."""
    for page in PAGES:
        if page.name in GENERATED:
            continue
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|;", re.sub(r"(^|\s)# .*", "", line)):
                yield page.name, command.strip()
        for command in re.findall(r"`((?:foretaste|python -m benchmarks|make) [^`\n]+)`", text):
            yield page.name, command


COMMANDS = sorted({(page, command) for page, command in _lines() if command})


def _check(command: Any, words: list[str]) -> None:
    """Each word that must be a command is one, and each option is one of the command's."""
    if isinstance(command, typer.core.TyperGroup):
        name = words[0]
        inner = command.get_command(command.make_context("", [], resilient_parsing=True), name)
        assert inner is not None, f"no command {name}"
        _check(inner, words[1:])
    else:
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_on_a_page_is_one(page: str, command: str) -> None:
    words = shlex.split(command)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        del words[0]
    if words[:1] == ["foretaste"]:
        _check(get_command(foretaste), words[1:])
    elif words[:3] == ["python", "-m", "benchmarks"]:
        _check(get_command(benchmarks), words[3:])
    elif words[:1] == ["make"]:
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), page


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_no_page_names_a_folder_of_one_machine() -> None:
    assert [str(page) for page in LINKING if re.search(r"/(tmp|home|root)/", page.read_text(encoding="utf-8"))] == []


def test_every_file_on_the_architecture_page_is_there() -> None:
    named = re.findall(r"`([a-z_]+(?:/[a-z_]*)+(?:\.py)?)`", (ROOT / "docs" / "architecture.md").read_text("utf-8"))
    assert len(named) > 30
    rooms = [ROOT, *(ROOT / room for room in ("features", "models", "streams"))]
    assert [name for name in named if not any((room / name).exists() for room in rooms)] == []


def test_the_page_of_settings_is_current() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == markdown(), "write it with `make docs`"


def test_the_page_of_commands_is_current() -> None:
    command = [sys.executable, "-m", "typer", "foretaste.cli.main", "utils", "docs", "--name", "foretaste"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == made, "write it with `make docs`"


def test_the_ratio_of_both_online_stores_is_that_of_the_committed_run() -> None:
    measured = json.loads((ROOT / "docs" / "results" / "online-store.json").read_text(encoding="utf-8"))
    ratios = [f"{ratio:.1f}" for ratio in measured["redis_to_feast"].values()]
    for page in (ROOT / "README.md", ROOT / "docs" / "online-store.md"):
        text = page.read_text(encoding="utf-8")
        assert [ratio for ratio in ratios if ratio not in text] == [], page


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in index] == []


def _exposed() -> set[str]:
    """The names under which processes expose metrics: a counter's with `_total`, a histogram's without its parts."""
    registry = CollectorRegistry()
    RankingMetrics(registry), Metrics(registry), LogMetrics(registry)
    parts = HttpParts()
    AnswerCounts(parts.service(), registry)
    compose.task_ends(registry)
    compose.store_watch(SignUpParts(parts.store, parts.towers, parts.generations, parts.events), registry)
    stage = StageFigures(
        share=0.5, impressions=1, predicted=0.5, acted=0.5, predicted_at_training=0.5, acted_at_training=0.5
    )
    plain = Figures.model_fields.keys() - {"groups", "attributes"}
    figures = Figures.model_validate(
        {**dict.fromkeys(plain, 1), "groups": dict.fromkeys(STAGES, stage), "attributes": {"age": 0.5}}
    )
    snapshot = Snapshot(at=0.0, active=1, previous=None, figures=figures, unreadable=0, rollbacks=0, last_rollback=None)
    families = [*registry.collect(), *WatchGauges(lambda: snapshot).collect()]
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_on_a_page_is_exposed(page: Path) -> None:
    named = set(re.findall(r"\bforetaste_[a-z_]+\*?", page.read_text(encoding="utf-8")))
    exposed = _exposed()
    assert len(exposed) > 20
    strange = {name for name in named - exposed if not any(each.startswith(name.rstrip("*")) for each in exposed)}
    assert not strange
    assert {name for name in named - exposed if not name.endswith("*")} == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_README_LINES
