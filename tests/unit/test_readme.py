"""The README names every command and every setting as they are."""

from pathlib import Path

from typer.main import get_command

from foretaste.cli.main import app
from foretaste.settings import table

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def settings_table() -> str:
    rows = "\n".join(f"| `{variable}` | {default} | {meaning} |" for variable, default, meaning in table())
    return f"| variable | default | meaning |\n|---|---|---|\n{rows}"


def test_every_setting_stands_in_the_readme_with_its_default() -> None:
    written = README.split("<!-- settings -->\n")[1].split("\n<!-- /settings -->")[0]
    assert written == settings_table()


def test_every_command_stands_in_the_readme() -> None:
    commands = get_command(app).commands
    named = [name if name != "data" else "data fetch" for name in commands]
    assert [name for name in named if f"`foretaste {name}" not in README] == []
