"""`foretaste token`: a bearer token for the HTTP service."""

from typing import Annotated

import typer

from foretaste.console import errors
from serving.access.tokens import Scope, new_token


def token(
    scope: Annotated[list[Scope], typer.Option(help="What it is good for; may be given several times.")],
    name: Annotated[str, typer.Option(help="Who uses it; it stands in the token and in logs.")] = "token",
) -> None:
    """Make a token: itself, once, on standard error; its line for FORETASTE_API_TOKENS or the file on standard output.

    So `foretaste token --name shop --scope rank --scope write >> tokens` shows the token and keeps its line.
    """
    made, kept = new_token(name, scope)
    errors.print(made)
    typer.echo(kept.line)
