"""What towers make of answers to questions: in this process, and on the real Triton."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.service_ports import AsksQuestions
from foretaste.kernel.users import Behaviour
from models.generations.in_process import InProcessTowers
from models.generations.probes import TOLERANCE, check_served, read_probes
from models.generations.repository import write_version
from models.generations.triton import TritonTowers
from models.runtime.local import LocalTowers
from tests.conftest import TritonServer
from tests.questions_factory import answers, asking, questions_of
from tests.towers_factory import artifacts, requests

ASKING = 3
"""The number of the generation that asks; those beside it ask nothing."""
TowersForm = InProcessTowers | TritonTowers


@pytest.fixture(scope="module")
def folder() -> Path:
    return asking()[2]


@pytest.fixture(params=["in_process", "triton"])
async def towers(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> AsyncIterator[TowersForm]:
    form: TowersForm
    if request.param == "triton":
        server: TritonServer = request.getfixturevalue("triton")
        repository, form = server.repository, TritonTowers(server.address, timeout=10)
    else:
        repository, form = tmp_path, InProcessTowers(tmp_path)
    for generation in (artifacts()[0], folder):
        write_version(generation, repository)
    for number in (1, ASKING):
        if not await form.ready(number):
            await form.load(number)
    yield form
    await form.close()


async def test_the_answers_of_training_come_back(towers: TowersForm, folder: Path) -> None:
    questions = LocalTowers.of(folder).encoding.questions
    probed = [questions.answers(each.request.behaviour) for each in read_probes(folder)]
    assert sum(len(each) > 1 for each in probed) > len(probed) / 4
    assert await check_served(towers, folder, ASKING) < TOLERANCE


async def test_it_is_known_what_is_asked(towers: TowersForm, folder: Path) -> None:
    assert isinstance(towers, AsksQuestions)
    assert list(await towers.questions(ASKING)) == questions_of(folder)
    assert list(await towers.questions(1)) == []


async def test_users_with_and_without_answers_share_a_call(towers: TowersForm, folder: Path) -> None:
    (virtual,) = await towers.virtual_behaviour([{"city": "north"}], ASKING)
    behaviours = (Behaviour(), answers(even=True), answers(even=False))
    users = [RankingInput({"city": "north"}, {}, each, virtual, ["i7", "i8", "i9"]) for each in behaviours]
    found = await towers.score(users, ASKING)
    for own, expected in zip(found, LocalTowers.of(folder).score(users), strict=True):
        np.testing.assert_allclose(own, expected, atol=TOLERANCE)
    nobody, even, odd = found
    assert even[1] - odd[1] > nobody[1] - odd[1] > 0


async def test_what_was_passed_over_is_read_beside_what_was_chosen(towers: TowersForm, folder: Path) -> None:
    probed = [each.request.behaviour.passed_over for each in read_probes(folder)]
    assert sum(len(each) > 1 for each in probed) > len(probed) / 4
    (virtual,) = await towers.virtual_behaviour([{"city": "north"}], ASKING)
    chosen = Behaviour(["i2"], ["acted"], [2])
    passed = Behaviour(["i3", "i5", "i2"], ["passed_over", "passed_over", "acted"], [1, 1, 2])
    users = [RankingInput({"city": "north"}, {}, each, virtual, ["i7", "i8"]) for each in (chosen, passed)]
    found = await towers.score(users, ASKING)
    for own, expected in zip(found, LocalTowers.of(folder).score(users), strict=True):
        np.testing.assert_allclose(own, expected, atol=TOLERANCE)
    alone, against = found
    assert against[1] - against[0] > alone[1] - alone[0] > 0
    asked = [CandidateRequest(each, virtual, nearest=20, popular=0, exploratory=0, seed=0) for each in (chosen, passed)]
    candidates = await towers.candidates(asked, ASKING)
    assert candidates == LocalTowers.of(folder).candidates(asked)
    assert candidates[0] != candidates[1]


@pytest.mark.parametrize("action", ["answered_yes", "passed_over"])
async def test_a_generation_that_asks_nothing_reads_acts_alone(towers: TowersForm, action: str) -> None:
    known = requests(1)[0]
    users = [replace(known, behaviour=each) for each in (Behaviour(), Behaviour(["i1"], [action], [1]))]
    without, answered = await towers.score(users, 1)
    np.testing.assert_array_equal(without, answered)


async def test_a_catalogue_without_attributes_is_recommended_from(towers: TowersForm, folder: Path) -> None:
    (virtual,) = await towers.virtual_behaviour([{"city": "north"}], ASKING)
    request = CandidateRequest(answers(even=True), virtual, nearest=5, popular=2, exploratory=1, seed=0)
    (found,) = await towers.candidates([request], ASKING)
    assert len(found) == 8
    assert found == LocalTowers.of(folder).candidates([request])[0]
