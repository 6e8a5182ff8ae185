"""`foretaste register | onboard | behave | rank` through a running service: its address and a token are enough."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner

from foretaste.cli.main import app
from foretaste.client import RequestRefused
from serving.access.access_control import AccessPolicy
from serving.access.tokens import Scope, find_token, new_token
from serving.api import ServiceConfig
from tests.http_parts import NAMES, HttpParts
from tests.http_server import Served, served

TOKEN, KEPT = new_token("hand", [Scope.RANK, Scope.WRITE])


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts()
    made.now = 400 * 86_400.0  # ahead of the times that the command sends
    await made.start()
    await made.sign_up("anna")
    return made


@pytest.fixture
async def service(parts: HttpParts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    config = ServiceConfig(AccessPolicy(lambda presented: find_token({"hand": KEPT}, presented)))
    async with served(parts.service(config)) as made:
        monkeypatch.setenv("FORETASTE_URL", made.url)
        monkeypatch.setenv("FORETASTE_TOKEN", TOKEN)
        yield made


async def command(*arguments: str, given: str | None = None) -> Any:
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), given)


@pytest.mark.usefixtures("service")
async def test_a_user_signs_up_and_behaves(parts: HttpParts) -> None:
    assert (await command("register", "ben", "--attributes", '{"age": 41}')).exit_code == 0
    shown = ("--passed-over", "i3", "--passed-over", "i4")
    assert (await command("behave", "ben", "i1", "--action", "liked", *shown)).exit_code == 0
    (registered,), (behaved,) = parts.events.of(NAMES.registered), parts.events.of(NAMES.behaved)
    assert json.loads(registered.value or b"")["attributes"] == {"age": 41}
    sent = json.loads(behaved.value or b"")
    assert (sent["action"], sent["passed_over"]) == ("liked", ["i3", "i4"])


@pytest.mark.usefixtures("service")
async def test_many_sign_up_from_standard_input(parts: HttpParts) -> None:
    lines = "\n".join(json.dumps({"user_id": f"u{number}", "attributes": {}}) for number in range(1500))
    made = await command("register", given=lines)
    assert made.stdout.startswith("1500 sent")
    assert len(parts.events.of(NAMES.registered)) == 1500


@pytest.mark.usefixtures("service")
async def test_a_user_is_asked_and_answers(parts: HttpParts) -> None:
    made = await command("onboard", "anna", "--questions", "2")
    assert json.loads(made.stdout) == {"user_id": "anna", "generation": 1, "items": ["i1", "i2"], "answered": 0}
    made = await command("onboard", "anna", "--answers", '{"i2": false}')
    assert json.loads(made.stdout)["items"] == ["i1", "i3"]
    assert answers(parts) == [("i2", "answered_no")]


@pytest.mark.usefixtures("service")
async def test_questions_are_asked_in_the_terminal(parts: HttpParts) -> None:
    made = await command("onboard", "ben", "--attributes", '{"age": 41}', "--ask", given="y\n\nno\n")
    assert "i1: do you like it? (y, n; Enter skips it)" in made.stdout
    assert made.stdout.endswith("2 answers sent\n")
    (signed_up,) = parts.events.of(NAMES.registered)
    assert json.loads(signed_up.value or b"")["attributes"] == {"age": 41}
    assert answers(parts) == [("i1", "answered_yes"), ("i3", "answered_no")]


def answers(parts: HttpParts) -> list[tuple[str, str]]:
    sent = [json.loads(each.value or b"") for each in parts.events.of(NAMES.behaved)]
    return [(each["item_id"], each["action"]) for each in sent]


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--answers", '{"nobody": true}'], "['nobody']"),
        (["--answers", "[]"], "answers: expected a JSON object"),
        (["--attributes", "{"], "attributes: not JSON"),
    ],
)
async def test_answers_that_cannot_be_are_named(arguments: list[str], problem: str) -> None:
    made = await command("onboard", "anna", *arguments)
    assert made.exit_code == 1
    assert problem in str(made.exception)


@pytest.mark.usefixtures("service")
async def test_a_ranking_by_hand_teaches_nobody(parts: HttpParts) -> None:
    made = await command("rank", "anna", "--items", "i1,i9", "--json")
    answer: dict[str, Any] = json.loads(made.stdout)
    assert [item["item_id"] for item in answer["ranked"]] == ["i9", "i1"]
    assert not parts.noted.served


@pytest.mark.usefixtures("service")
async def test_a_token_that_is_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETASTE_TOKEN", "ft_hand_wrong")
    made = await command("rank", "anna", "--items", "i1")
    assert isinstance(made.exception, RequestRefused)
    assert str(made.exception).startswith("401 Unauthorized: the token is not known")
