"""`python -m benchmarks`: each command times Foretaste on this machine, alone or beside other libraries."""

import pkgutil
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from foretaste.console import errors
from foretaste.kernel.errors import ForetasteError, InvalidInput

COMMANDS = {
    "train": "benchmarks.training.command:train",
    "zero-shot": "benchmarks.zero_shot.command:zero_shot",
    "refresh": "benchmarks.refresh.command:refresh",
    "swap": "benchmarks.swap.command:swap",
    "reenrichment": "benchmarks.reenrichment:reenrichment",
    "rank": "benchmarks.ranking.command:rank",
    "recommend": "benchmarks.recommend.command:recommend",
    "candidates": "benchmarks.recommend.candidates:candidates",
    "enrich": "benchmarks.enrich.command:enrich",
    "behave": "benchmarks.behave:behave",
    "new-items": "benchmarks.recommend.new_items:new_items",
    "onboarding": "benchmarks.zero_shot.onboarding:onboarding",
    "passed-over": "benchmarks.zero_shot.passed_over:passed_over",
    "durability": "benchmarks.durability:durability",
    "online-store": "benchmarks.online_store:online_store",
    "cotrain-once": "benchmarks.cotrain_once:cotrain_once",
    "data-memory": "benchmarks.data_memory:data_memory",
    "rebuild": "benchmarks.filling.rebuild:rebuild",
    "import": "benchmarks.filling.import_users:import_users",
    "idle": "benchmarks.idle:idle",
    "liked": "benchmarks.liked:liked",
    "access": "benchmarks.access:access",
}
"""The function of each command, imported when the command is asked for: most need torch, some libraries of others."""
EXIT_FAILED, EXIT_INVALID = 1, 2


class BenchmarkCommands(TyperGroup):
    """The commands of `COMMANDS`; running one imports its module and no other."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        single = typer.Typer(add_completion=False)
        single.command(cmd_name)(pkgutil.resolve_name(COMMANDS[cmd_name]))
        return typer.main.get_command(single)


app = typer.Typer(cls=BenchmarkCommands, no_args_is_help=True, add_completion=False)


@app.callback()
def group() -> None:
    """Benchmarks of this machine. Each command says what it counts; benchmarks/README.md tells how to read it."""


def main() -> None:
    """Run the command line; an error that Foretaste raises is one line on stderr and an exit status."""
    try:
        app(prog_name="python -m benchmarks")
    except ForetasteError as error:
        errors.print(f"error {error}")
        sys.exit(EXIT_INVALID if isinstance(error, InvalidInput) else EXIT_FAILED)


if __name__ == "__main__":
    main()
