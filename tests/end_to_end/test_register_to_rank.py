"""From registration to ranked list on the embedded stack, with the worker and the ranking service as real processes."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from playwright.async_api import expect

from features.repo_config import REPO
from foretaste import compose, embedded
from foretaste.cli.processes import health_of
from foretaste.cli.user import send
from foretaste.client import Foretaste, RequestRefused, TryPolicy
from foretaste.kernel.events import DeadLetter, Reason, Topic, UserBehaved, UserRegistered
from foretaste.settings import Settings
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.stack import Stack, plan
from models.data.dataset import read_dataset
from models.towers.architecture import Architecture
from models.training.config import TrainingConfig
from streams.topics import TopicNames
from streams.worker.dead_letter_reader import newest_dead_letters
from tests import opened
from tests.browser.browser import chromium, watched
from tests.data_factory import write_dataset

PATIENCE = 60.0
BETWEEN_LOOKS = threading.Event()
"""Never set: waiting for it leaves the cores to what is tested."""
PAGE = Path(__file__).parents[2] / "docs" / "get-started.md"
SMALL: Mapping[str, Any] = {
    "architecture": Architecture(dimension=8, encoder=(32, 16, 16), hidden=(32, 16)),
    "epochs": 5,
    "least_steps": 1,
    "batch": 1024,
    "device": "cpu",
}
"""Training options: the test is about the way, not about the widths."""
COOK: Mapping[str, Any] = {"segment": "cook", "age": 31, "city": "north"}


@dataclass
class System:
    """The whole of Foretaste on this machine, with generation 1 of the synthetic data active."""

    stack: Stack
    settings: Settings
    api: str
    items: list[str]

    def send(self, topic: Topic, *values: bytes, key: bytes | None = None) -> None:
        async def produce() -> None:
            events = compose.events(self.settings)
            try:
                await events.send_all(topic.value, [(key, value) for value in values])
            finally:
                await events.close()

        asyncio.run(produce())

    def sign_up(self, *user_ids: str) -> None:
        events = [UserRegistered(user_id=user_id, attributes=COOK) for user_id in user_ids]
        asyncio.run(send(self.settings, Topic.REGISTERED, events))

    def rank(self, user_id: str, items: list[str] | None = None) -> tuple[int, dict[str, Any]]:
        body = {"user_id": user_id, "items": self.items if items is None else items}
        answer = httpx.post(f"{self.api}/v1/rank", json=body, timeout=10)
        return answer.status_code, answer.json()

    def served_by(self, user_id: str) -> str:
        return str(self.rank(user_id)[1].get("served_by"))

    def pid(self, part: str) -> int:
        record = json.loads((self.stack.home / "stack.json").read_text(encoding="utf-8"))
        return int(record["parts"][part]["pid"])


def until(condition: Callable[[], bool], watch: Callable[[], object] = lambda: None) -> None:
    """Fails when `condition` is not true within `PATIENCE`; `watch` runs between two looks."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        watch()
        assert time.monotonic() < deadline, "it did not come true in time"
        BETWEEN_LOOKS.wait(0.05)


@contextmanager
def running(home: Path, triton_environment: TritonEnvironment, settings: Settings) -> Iterator[System]:
    """The whole of it, started and stopped."""
    folder = write_dataset(home / "synthetic")
    with Stack(home, plan(home, {}, triton_environment=triton_environment)) as stack:
        resolved = compose.resolve(settings)
        dataset = read_dataset(folder)
        artifact = asyncio.run(opened.train(settings, dataset, TrainingConfig(**SMALL)))
        embedded.prepare(resolved)
        number = asyncio.run(opened.publish(resolved, None))
        assert (artifact.name, number) == ("1", 1)
        api = embedded.start_processes(stack, settings)
        yield System(stack, resolved, api, [str(item) for item in dataset.items["item_id"][:20]])


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, triton_environment: TritonEnvironment) -> Iterator[System]:
    home = tmp_path_factory.mktemp("home")
    with running(home, triton_environment, Settings(home=home, api_port=0)) as started:
        yield started


def test_sign_up_behaviour_and_ranking_go_through_feasts_api_where_that_is_set(
    tmp_path: Path, triton_environment: TritonEnvironment
) -> None:
    """The team's configuration names SQLite: nothing of a user can lie in Redis."""
    ours = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    file = tmp_path / "feature_store.yaml"
    file.write_text(yaml.safe_dump(ours | {"online_store": {"type": "sqlite", "path": "online.db"}}))
    settings = Settings(home=tmp_path, api_port=0, feature_store=file)
    with running(tmp_path, triton_environment, settings) as system:
        users = [uuid4().hex for _ in range(20)]
        system.sign_up(*users)
        until(lambda: {system.served_by(user) for user in users} == {"virtual"})
        event = UserBehaved(user_id=users[0], item_id=system.items[3], action="bought", at="2026-01-01T00:00:00Z")
        asyncio.run(send(system.settings, Topic.BEHAVED, [event, event]))
        until(lambda: system.served_by(users[0]) == "blended")
        assert system.rank(users[0])[1]["behaviour_seen"] == 1
        assert (tmp_path / "online.db").is_file()


def test_a_product_needs_the_http_service_alone(system: System) -> None:
    user = uuid4().hex
    with Foretaste(system.api, tries=TryPolicy(deadline=30.0, timeout=10.0)) as service:
        assert service.ready()
        assert service.user(user) is None
        until(lambda: bool(service.register(user, COOK, wait=10).readable))  # a worker may only just be starting
        ranking = service.rank(user, system.items)
        assert (ranking.served_by, len(ranking.ranked)) == ("virtual", len(system.items))
        stored = service.user(user)
        assert stored is not None
        assert stored.virtual_behaviour is not None
        assert (stored.stage, stored.attributes, stored.virtual_behaviour.current) == ("cold", COOK, True)
        first = ranking.ranked[0]["item_id"]
        assert service.behave(user, first, action="bought", ranking_id=ranking.ranking_id, wait=10).readable
        acted = service.user(user)
        assert acted is not None
        assert (acted.stage, [act.item_id for act in acted.behaviour]) == ("warming", [first])
        assert service.rank(user, system.items).served_by == "blended"
        (generation,) = service.generations()
        assert (generation.number, generation.state) == (1, "active")
        assert generation.metrics
        with pytest.raises(RequestRefused, match="there is no previous one"):
            service.rollback()


def test_a_stranger_becomes_known(system: System) -> None:
    user = uuid4().hex
    status, stranger = system.rank(user)
    assert (status, stranger["served_by"], stranger["fallback"]) == (200, "fallback", "mean_behaviour")

    system.sign_up(user)
    until(lambda: system.served_by(user) == "virtual")
    _, known = system.rank(user)
    assert known["zero_shot_generation"] == known["ranking_generation"] == 1
    assert {item["item_id"] for item in known["ranked"]} == set(system.items)
    assert [item["score"] for item in known["ranked"]] == sorted((i["score"] for i in known["ranked"]), reverse=True)


def test_behaviour_warms_a_user(system: System) -> None:
    user = uuid4().hex
    system.sign_up(user)
    until(lambda: system.served_by(user) == "virtual")
    _, cold = system.rank(user)
    event = UserBehaved(user_id=user, item_id=system.items[3], action="bought", at="2026-01-01T00:00:00Z")
    asyncio.run(send(system.settings, Topic.BEHAVED, [event, event]))
    until(lambda: system.served_by(user) == "blended")
    _, warming = system.rank(user)
    assert warming["behaviour_seen"] == 1, "the same event twice is one behaviour"
    assert warming["ranked"] != cold["ranked"]
    more = [
        UserBehaved(user_id=user, item_id=item, action="clicked", at=f"2026-01-01T00:{minute:02}:00Z")
        for minute, item in enumerate(system.items, start=1)
    ]
    asyncio.run(send(system.settings, Topic.BEHAVED, more))
    until(lambda: system.served_by(user) == "real")


def test_a_new_item_is_ranked_and_recommended_by_its_attributes(system: System) -> None:
    user, new, other = uuid4().hex, uuid4().hex, uuid4().hex
    system.sign_up(user)
    until(lambda: system.served_by(user) == "virtual")
    assert system.rank(user, [new])[1]["ranked"][0]["unknown"]
    genres = [str(genre) for genre in read_dataset(system.stack.home / "synthetic").items["genre"].unique()[:2]]
    with Foretaste(system.api, tries=TryPolicy(deadline=30.0, timeout=10.0)) as service:
        until(lambda: bool(service.register_item(new, {"genre": genres[0]}, wait=10).readable))
        assert service.register_item(other, {"genre": genres[1]}, wait=10).readable
    scores = {item["item_id"]: item for item in system.rank(user, [new, other])[1]["ranked"]}
    assert not any("unknown" in item for item in scores.values())
    assert scores[new]["score"] != scores[other]["score"]
    body = {"user_id": user, "k": 5, "filter": {"allow": [new, other, *system.items[:2]]}}
    found = httpx.post(f"{system.api}/v1/recommend", json=body, timeout=10).json()
    assert {new, other} <= {item["item_id"] for item in found["ranked"]}
    with Foretaste(system.api, tries=TryPolicy(deadline=30.0, timeout=10.0)) as service:
        assert service.remove_item(new, wait=10).gone
    ranked = {item["item_id"]: item for item in system.rank(user, [new, other])[1]["ranked"]}
    assert ranked[new]["unknown"]
    assert "unknown" not in ranked[other]


def test_bad_events_become_dead_letters_and_the_good_ones_between_go_on(system: System) -> None:
    before, after = uuid4().hex, uuid4().hex
    bad = {
        b"{not json": Reason.MALFORMED,
        b'{"attributes": {}}': Reason.INVALID,
        json.dumps({"user_id": "", "attributes": {}}).encode(): Reason.INVALID,
        json.dumps({"user_id": "x" * 257, "attributes": {}}).encode(): Reason.INVALID,
        json.dumps({"user_id": "a", "attributes": {"age": [[1]]}}).encode(): Reason.INVALID,
        json.dumps({"user_id": "b", "attributes": {}, "note": "x" * 70_000}).encode(): Reason.TOO_LARGE,
    }

    def letters() -> list[DeadLetter]:
        connection, names = compose.kafka_connection(system.settings), TopicNames()
        return asyncio.run(newest_dead_letters(connection, names.dead_letters, 1000))

    known = letters()
    system.sign_up(before)
    system.send(Topic.REGISTERED, *bad)
    system.sign_up(after)
    until(lambda: {system.served_by(before), system.served_by(after)} == {"virtual"})
    until(lambda: len(letters()) == len(known) + len(bad))
    found = letters()[len(known) :]
    assert {letter.message.value: letter.reason for letter in found} == bad
    assert {letter.message.origin.topic for letter in found} == {TopicNames().registered}


@pytest.mark.parametrize(
    ("items", "names"),
    [([], "items"), (["a", "a"], "a"), ([str(n) for n in range(10_000)], "10000")],
    ids=["none", "a duplicate", "ten thousand"],
)
def test_wrong_candidates_are_refused_by_name(system: System, items: list[str], names: str) -> None:
    status, problem = system.rank("anyone", items)
    assert status == 422
    assert problem["field"].startswith("items")
    assert names in json.dumps(problem)


def test_the_command_line_does_what_the_readme_says(system: System) -> None:
    def foretaste(*arguments: str) -> str:
        command = [sys.executable, "-m", "foretaste", *arguments]
        environment = {**os.environ, "FORETASTE_HOME": str(system.settings.home), "COLUMNS": "300"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    user = uuid4().hex
    system.send(Topic.REGISTERED, b"[/x] no event")
    foretaste("register", user, "--attributes", json.dumps(COOK))
    until(lambda: system.served_by(user) == "virtual")
    foretaste("behave", user, system.items[0], "--action", "bought")
    until(lambda: system.served_by(user) == "blended")
    ranked = json.loads(foretaste("rank", user, "--items", f'{system.items[1]},"{system.items[2]}"', "--json"))
    assert (ranked["served_by"], ranked["behaviour_seen"], len(ranked["ranked"])) == ("blended", 1, 2)
    assert "[/x] no event" in foretaste("dead-letters")
    assert "[/x] no event" in {json.loads(line)["event"] for line in foretaste("dead-letters", "--json").splitlines()}
    assert "down" not in foretaste("status")


def test_the_steps_by_hand_run_as_they_stand_on_the_page(system: System) -> None:
    """But for the stack and the training, which the system has: another `up` would take its home."""
    block = PAGE.read_text(encoding="utf-8").split("```sh\n")[1].split("```")[0]
    lines = [line for line in block.splitlines() if line.startswith("foretaste ")]
    steps = [shlex.split(line, comments=True) for line in lines if " up" not in line and " train" not in line]
    assert [step[1] for step in steps] == ["status", "register", "rank", "behave", "rank", "dead-letters"]
    environment = {**os.environ, "FORETASTE_HOME": str(system.settings.home)}
    for step in steps:
        command = [sys.executable, "-m", *step]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr
    until(lambda: system.served_by("anna") == "blended")


def test_a_killed_worker_loses_nothing(system: System) -> None:
    users = [uuid4().hex for _ in range(200)]
    system.sign_up(*users[:100])
    os.kill(system.pid("worker"), signal.SIGKILL)
    system.sign_up(*users[100:])

    def enriched() -> bool:
        async def read() -> bool:
            store = compose.store(system.settings)
            try:
                return all(user.virtual is not None for user in await store.read(users, 1))
            finally:
                await store.close()

        return asyncio.run(read())

    until(enriched, system.stack.watch)


def test_a_killed_triton_degrades_and_recovers(system: System) -> None:
    user = uuid4().hex
    system.sign_up(user)
    until(lambda: system.served_by(user) == "virtual")
    os.kill(system.pid("triton"), signal.SIGKILL)
    until(lambda: system.rank(user)[1].get("fallback") == "popularity", system.stack.watch)
    until(lambda: system.served_by(user) == "virtual", system.stack.watch)


def test_the_console_page_and_the_metrics_are_there(system: System) -> None:
    assert "Foretaste" in httpx.get(f"{system.api}/", timeout=10).text
    assert "foretaste_rank_answers_total" in httpx.get(f"{system.api}/metrics", timeout=10).text


@pytest.mark.usefixtures("browser_form")
async def test_the_console_shows_the_whole_way(system: System) -> None:
    def worker_has_begun() -> None:
        system.sign_up("before-the-console")
        until(lambda: system.served_by("before-the-console") == "virtual")

    await asyncio.to_thread(worker_has_begun)  # a browser logs each 404 of a user who is still awaited
    async with chromium() as browser, watched(browser, system.api) as watching:
        page = await watching.open("sign-up")
        await page.get_by_label("segment").select_option("cook")
        await page.get_by_label("city").select_option("north")
        await page.locator("#new-user").fill("console-user")
        await page.get_by_role("button", name="Sign up").click()
        await expect(page.locator("#stage")).to_have_text("cold", timeout=60_000)
        await expect(page.locator("#served")).to_contain_text("Served by virtual behaviour")
        await expect(page.locator("#map .own")).to_have_count(1)
        await expect(page.locator("#nearest li")).not_to_have_count(0)
        await page.locator("#list button.name").first.click()
        await expect(page.locator("#stage")).to_have_text("warming", timeout=15_000)
        await page.get_by_role("link", name="Now").click()
        await expect(page.locator("#stages")).to_contain_text("warming", timeout=15_000)
        await expect(page.locator("#funnel li").first).not_to_contain_text("0 sign-ups", timeout=15_000)
        await expect(page.locator("#now-note")).not_to_contain_text("Away")
        assert (watching.errors, watching.elsewhere) == ([], [])


def test_health_names_every_part(system: System) -> None:
    found = {part.part: part for part in asyncio.run(health_of(system.settings))}
    assert set(found) == {"kafka", "redis", "triton", "generations", "worker", "log", "watch", "api"}
    assert [part for part in found.values() if not part.ok] == []
    assert Path(system.stack.home, "stack.json").is_file()
