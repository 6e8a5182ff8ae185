"""`foretaste token`: what it prints is what the service takes."""

import pytest
from typer.testing import CliRunner

from foretaste.cli.main import app
from foretaste.kernel.errors import InvalidInput
from serving.access.tokens import Scope, find_token, parse_tokens


def test_the_token_opens_what_its_line_says() -> None:
    made = CliRunner().invoke(app, ["token", "--name", "shop", "--scope", "rank", "--scope", "write"])
    assert made.exit_code == 0
    found = find_token(parse_tokens("file", made.stdout), made.stderr.strip())
    assert found is not None
    assert (found.name, found.scopes) == ("shop", frozenset({Scope.RANK, Scope.WRITE}))
    assert made.stderr.strip() not in made.stdout


@pytest.mark.parametrize("name", ["", "Shop", "a b", "-x", "x" * 33, "a_b"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    made = CliRunner().invoke(app, ["token", "--name", name, "--scope", "rank"])
    assert isinstance(made.exception, InvalidInput)
    assert made.exception.field == "name"


@pytest.mark.parametrize("arguments", [[], ["--scope", "admin"]])
def test_a_scope_is_needed(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["token", *arguments]).exit_code == 2
