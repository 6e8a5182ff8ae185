"""Publishing, activating and retiring on a real Redis: what is killed at which step leaves what."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import torch

from foretaste import compose
from foretaste.kernel.errors import BadTowerOutput, DamagedArtifact, InvalidInput, Unavailable
from foretaste.kernel.generations import Serving
from foretaste.kernel.ports import Generations
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import Value
from foretaste.settings import Settings
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.parts import Triton
from foretaste.stack.stack import Stack, StackPlan
from models.data.dataset import read_dataset
from models.data.split import split_by_time
from models.generations.export import export
from models.generations.in_process import InProcessTowers
from models.generations.manifest import generation_record
from models.generations.probes import ParityError
from models.generations.repository import is_published, published
from models.generations.triton import TritonTowers
from models.generations.triton_http import TritonHttp
from models.runtime import layout as files
from models.training.cotrain import cotrain
from tests import opened
from tests.data_factory import PORTRAIT, with_several_values, write_dataset
from tests.towers_factory import SMALL, artifacts, config

STEPS = (1, 2, 3, 4, 5)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class System:
    settings: Settings
    generations: Generations

    async def serving(self) -> tuple[int | None, int | None]:
        """The active number and the previous one."""
        found: Serving = await self.generations.serving()
        return found.active.number if found.active else None, found.previous

    def state(self) -> dict[str, object]:
        return {"published": published(self.settings.repository), "left": self._left()}

    def _left(self) -> list[str]:
        return [path.name for path in self.settings.repository.glob("*/.*") if path.is_dir()]


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Generations 1 and 2 are written; nothing is published."""
    shutil.copytree(artifacts()[0].parent, tmp_path / "generations")
    return Settings(home=tmp_path, redis=redis_url, triton="in-process", project=f"test_{uuid4().hex}")


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    generations = compose.generations(settings)
    yield System(settings, generations)
    await generations.close()


async def test_a_generation_is_loaded_first_and_activated_then(system: System) -> None:
    reached: list[int] = []
    await opened.load(system.settings, 1, reached.append)
    assert reached == list(STEPS)
    assert await system.serving() == (None, None)
    await opened.activate(system.settings, 1, None, "the first")
    assert await system.serving() == (1, None)
    (move,) = await system.generations.moves()
    assert (move.number, move.came_from, move.reason) == (1, None, "the first")


async def test_publishing_activates_the_newest_and_may_be_repeated(system: System) -> None:
    await opened.publish(system.settings, 1)
    for _ in range(2):
        assert await opened.publish(system.settings, None) == 2
        assert await system.serving() == (2, 1)


class Stopped(Exception):
    """An injected failure."""


@pytest.mark.parametrize("step", STEPS)
async def test_stopped_at_any_step_the_old_one_serves_on_and_the_next_try_completes(system: System, step: int) -> None:
    await opened.publish(system.settings, 1)

    def stop(reached: int) -> None:
        if reached == step:
            raise Stopped

    with pytest.raises(Stopped):
        await opened.load(system.settings, 2, stop)
    await _serves_on_and_completes(system)


KILLED = """
import asyncio, os, signal, sys
from foretaste import compose
from foretaste.settings import Settings
from models.generations import publish
def reached(step):
    if step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
async def load():
    async with compose.publish_parts(Settings()) as parts:
        await publish.load(parts, 2, reached)
asyncio.run(load())
"""


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_the_old_one_serves_on_and_the_next_run_completes(system: System, step: int) -> None:
    await opened.publish(system.settings, 1)
    names = ("home", "redis", "triton", "project")
    env = {f"FORETASTE_{name.upper()}": str(getattr(system.settings, name)) for name in names}
    command = [sys.executable, "-c", KILLED, str(step)]
    ended = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env={**os.environ, **env}, check=False)
    assert ended.returncode == -signal.SIGKILL
    await _serves_on_and_completes(system)


async def _serves_on_and_completes(system: System) -> None:
    assert await system.serving() == (1, None)
    towers = compose.towers(system.settings)
    assert len(await towers.virtual_behaviour([{}], 1)) == 1
    await towers.close()
    assert await opened.publish(system.settings, 2) == 2
    assert await system.serving() == (2, 1)
    assert system.state() == {"published": [1, 2], "left": []}


def _damaged_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings.generations / "2" / files.RANKING).write_bytes(b"broken")


def _full_disk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", refuse)


def _not_loaded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise Unavailable("triton", "injected")

    monkeypatch.setattr(InProcessTowers, "load", refuse)


def _wrong_answers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: object, attributes: list[object], __: int) -> object:
        return np.full((len(attributes), 3, 8), np.nan, np.float32)

    monkeypatch.setattr(InProcessTowers, "virtual_behaviour", answer)


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (_damaged_file, DamagedArtifact),
        (_full_disk, Unavailable),
        (_not_loaded, Unavailable),
        (_wrong_answers, BadTowerOutput),
    ],
)
async def test_one_that_may_not_serve_is_withdrawn_and_never_recorded(
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[Settings, pytest.MonkeyPatch], None],
    error: type[Exception],
) -> None:
    await opened.publish(system.settings, 1)
    with monkeypatch.context() as broken:
        break_it(system.settings, broken)
        with pytest.raises(error):
            await opened.publish(system.settings, 2)
    assert system.state() == {"published": [1], "left": []}
    assert await system.generations.numbers() == [1]
    assert await system.serving() == (1, None)


async def test_one_that_serves_is_not_withdrawn_when_publishing_it_again_fails(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened.publish(system.settings, 1)
    _not_loaded(system.settings, monkeypatch)
    with pytest.raises(Unavailable):
        await opened.publish(system.settings, 1)
    assert system.state() == {"published": [1], "left": []}


async def test_a_number_of_another_training_is_refused_before_anything_is_written(system: System) -> None:
    await opened.load(system.settings, 1)
    shutil.rmtree(system.settings.repository)
    manifest = system.settings.generations / "1" / files.MANIFEST
    manifest.write_text(manifest.read_text().replace("2027-01-15", "2027-01-16"))
    with pytest.raises(InvalidInput, match="is taken by another training"):
        await opened.load(system.settings, 1)
    assert system.state() == {"published": [], "left": []}


async def test_a_pointer_that_somebody_moved_is_not_moved_again(system: System) -> None:
    for number in (1, 2):
        await opened.load(system.settings, number)
    await opened.activate(system.settings, 1, None, "theirs")
    with pytest.raises(Unavailable, match="the pointer is not at None any more"):
        await opened.activate(system.settings, 2, None, "ours")
    assert await system.serving() == (1, None)


async def test_what_triton_does_not_answer_for_is_not_activated(system: System) -> None:
    await opened.publish(system.settings, 1)
    await opened.load(system.settings, 2)
    for tower in system.settings.repository.iterdir():
        shutil.rmtree(tower / "2")
    with pytest.raises(Unavailable, match="does not answer for generation 2"):
        await opened.activate(system.settings, 2, 1, "by hand")
    with pytest.raises(InvalidInput, match="expected a recorded generation"):
        await opened.activate(system.settings, 7, 1, "by hand")
    assert await system.serving() == (1, None)


async def test_rolling_back_is_one_move_with_its_reason(system: System) -> None:
    for number in (1, 2):
        await opened.publish(system.settings, number)
    assert await opened.rollback(system.settings) == (2, 1)
    assert await system.serving() == (1, 2)
    assert (await system.generations.moves(1))[0].reason == "rollback by hand"
    assert not any(move.filled for move in await system.generations.moves()), "nobody filled them"


@pytest.mark.parametrize("numbers", [(), (1,)])
async def test_without_a_previous_one_there_is_nothing_to_roll_back_to(system: System, numbers: tuple[int]) -> None:
    for number in numbers:
        await opened.publish(system.settings, number)
    with pytest.raises(InvalidInput, match="no previous one"):
        await opened.rollback(system.settings)


@pytest.mark.parametrize("delete", [False, True])
async def test_a_retired_generation_leaves_its_files_only(system: System, delete: bool) -> None:
    await opened.publish(system.settings, 1)
    await opened.load(system.settings, 2)
    await opened.retire(system.settings, 2, delete=delete)
    assert system.state() == {"published": [1], "left": []}
    assert (system.settings.generations / "2").is_dir() is not delete
    assert await system.generations.numbers() == [1]
    with pytest.raises(InvalidInput, match="was retired"):
        await system.generations.record(*generation_record(artifacts()[1]))


async def test_a_generation_in_use_is_not_retired(system: System) -> None:
    for number in (1, 2):
        await opened.publish(system.settings, number)
    for number, use in ((2, "active"), (1, "kept for rollback")):
        with pytest.raises(InvalidInput, match=f"is {use}"):
            await opened.retire(system.settings, number, delete=True)
    assert system.state() == {"published": [1, 2], "left": []}
    with pytest.raises(InvalidInput, match="expected a recorded generation"):
        await opened.retire(system.settings, 7, delete=True)


async def test_a_retirement_that_was_killed_is_completed_by_the_same_call(system: System) -> None:
    await opened.publish(system.settings, 1)
    await opened.load(system.settings, 2)
    await system.generations.retire(2)
    assert is_published(2, system.settings.repository)
    await opened.retire(system.settings, 2, delete=False)
    assert system.state() == {"published": [1], "left": []}
    await opened.retire(system.settings, 2, delete=True)
    assert not (system.settings.generations / "2").exists()


async def test_what_is_published_is_recorded_again_where_redis_knows_of_none(system: System) -> None:
    for number in (1, 2):
        await opened.publish(system.settings, number)
    await opened.rollback(system.settings)
    assert await opened.republish(system.settings) is None
    assert await system.serving() == (1, 2)

    emptied = system.settings.model_copy(update={"project": f"test_{uuid4().hex}"})
    generations = compose.generations(emptied)
    assert await opened.republish(emptied) == 2
    assert await generations.numbers() == [1, 2]
    assert await System(emptied, generations).serving() == (2, None)
    assert await opened.republish(emptied) is None
    await generations.close()


async def test_an_older_one_without_its_files_is_left_out_and_the_newest_is_named(system: System) -> None:
    for number in (1, 2):
        await opened.publish(system.settings, number)
    shutil.rmtree(system.settings.generations / "1")
    emptied = system.settings.model_copy(update={"project": f"test_{uuid4().hex}"})
    generations = compose.generations(emptied)
    assert await opened.republish(emptied) == 2
    assert await generations.numbers() == [2]
    await generations.close()
    shutil.rmtree(system.settings.generations / "2")
    with pytest.raises(InvalidInput, match="generation: is not in"):
        await opened.republish(system.settings.model_copy(update={"project": f"test_{uuid4().hex}"}))


async def test_a_return_to_the_newest_that_was_cut_short_is_gone_on_with(system: System) -> None:
    for number in (1, 2):
        await opened.publish(system.settings, number)
    emptied = system.settings.model_copy(update={"project": f"test_{uuid4().hex}"})
    generations = compose.generations(emptied)
    missing = system.settings.generations / "2"
    away = missing.rename(missing.with_name("away"))
    with pytest.raises(InvalidInput, match="generation: is not in"):
        await opened.republish(emptied)
    assert await System(emptied, generations).serving() == (None, None)
    away.rename(missing)
    assert await opened.republish(emptied) == 2
    assert await System(emptied, generations).serving() == (2, None)
    await generations.close()


async def test_where_nothing_is_published_nothing_is_recorded(system: System) -> None:
    assert await opened.republish(system.settings) is None
    assert await system.generations.numbers() == []


@pytest.fixture
def on_triton(settings: Settings, triton_environment: TritonEnvironment) -> Iterator[Settings]:
    """The same, on a real Triton of the test's own."""
    part = Triton(settings.home / "triton", settings.repository, triton_environment)
    with Stack(settings.home, StackPlan([part], {}, [])) as stack:
        yield settings.model_copy(update={"triton": stack.addresses["triton"]})


async def _asked_while(towers: TritonTowers, number: int, done: asyncio.Event) -> int:
    """How often the towers answered until `done`; what they refuse is raised."""
    answered = 0
    while not done.is_set():
        assert len(await towers.virtual_behaviour([{}], number)) == 1
        answered += 1
    return answered


async def test_on_triton_the_others_answer_while_one_is_published_and_retired(on_triton: Settings) -> None:
    towers = TritonTowers(on_triton.triton or "", timeout=10)
    await opened.publish(on_triton, 1)
    done = asyncio.Event()
    asking = asyncio.create_task(_asked_while(towers, 1, done))
    reached: list[int] = []
    await opened.load(on_triton, 2, reached.append)
    assert reached == list(STEPS)
    assert await towers.ready(2)
    await opened.retire(on_triton, 2, delete=False)
    assert not await towers.ready(2)
    done.set()
    assert await asking > 1
    with pytest.raises(Unavailable):
        await towers.virtual_behaviour([{}], 2)
    await towers.close()


SLOW = """
import time

class TritonPythonModel:
    def initialize(self, args):
        time.sleep(2)
"""
SLOW_CONFIG = 'backend: "python"\nmax_batch_size: 0\n'


async def test_on_triton_an_answer_does_not_wait_until_another_model_is_loaded(on_triton: Settings) -> None:
    """Triton reads nothing more of the connections that share a thread with the request for a load."""
    await opened.publish(on_triton, 1)
    slow = on_triton.repository / "slow"
    (slow / "1").mkdir(parents=True)
    (slow / "1" / "model.py").write_text(SLOW)
    (slow / "config.pbtxt").write_text(SLOW_CONFIG)
    async with AsyncExitStack() as closed:
        clients = [TritonTowers(on_triton.triton or "", timeout=10) for _ in range(8)]
        for each in clients:
            closed.push_async_callback(each.close)
            await each.virtual_behaviour([{}], 1)  # its connection is there before the load
        admin = closed.enter_context(closing(TritonHttp(on_triton.triton or "")))
        began = time.monotonic()
        loading = asyncio.create_task(admin.load("slow", 60))
        longest = 0.0
        while not loading.done():
            asked = time.monotonic()
            await asyncio.gather(*(each.virtual_behaviour([{}], 1) for each in clients))
            longest = max(longest, time.monotonic() - asked)
        await loading
        assert longest < (time.monotonic() - began) / 2


async def test_on_triton_one_that_answers_wrongly_is_withdrawn_and_let_go(
    on_triton: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened.publish(on_triton, 1)
    probes = on_triton.generations / "2" / files.PROBES
    shutil.copyfile(on_triton.generations / "1" / files.PROBES, probes)
    monkeypatch.setattr("models.generations.manifest.verify", lambda *_: None)  # as though training had written them
    with pytest.raises(ParityError, match="the served zero-shot tower differs by"):
        await opened.publish(on_triton, 2)
    assert published(on_triton.repository) == [1]
    towers = TritonTowers(on_triton.triton or "", timeout=10)
    assert not await towers.ready(2)
    assert await towers.ready(1)
    await towers.close()


async def test_on_triton_lists_and_vectors_are_read_as_they_were_trained(on_triton: Settings, tmp_path: Path) -> None:
    data = read_dataset(
        with_several_values(write_dataset(tmp_path / "several", users=120, items=20, interactions=1500))
    )
    trained = cotrain(data, split_by_time(data), config(architecture=SMALL, epochs=1))
    number = int(export(trained, data, {}, on_triton.generations).name)
    await opened.publish(on_triton, number)  # which asks Triton about known, strange and missing values of each kind
    users: list[dict[str, Value]] = [{"interests": ["cook", "new"], "portrait": [0.5] * PORTRAIT}, {"portrait": [1.0]}]
    towers = TritonTowers(on_triton.triton or "", timeout=10)
    virtual, unknown = await towers.counted_virtual_behaviour(users, number)
    asked = CandidateRequest(Behaviour(), virtual[0], nearest=20, popular=0, exploratory=0, seed=1)
    (found,) = await towers.candidates([replace(asked, attributes={"tags": ["winter", "never seen"]})], number)
    await towers.close()
    of_winter = {item for item, tags in zip(data.items["item_id"], data.items["tags"], strict=True) if "winter" in tags}
    assert set(found) == of_winter & set(trained.encoding.items)
    with torch.inference_mode():
        expected = trained.zero_shot(torch.from_numpy(trained.encoding.encode_attributes(users))).numpy()
    np.testing.assert_allclose(virtual, expected, atol=1e-5)
    assert unknown == {"portrait": 1}
