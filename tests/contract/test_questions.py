"""What towers make of answers to questions: in this process, and on the real Triton."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.running.answers import AsksQuestions
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import Attributes
from models.generations.in_process import InProcessTowers
from models.generations.probes import TOLERANCE, check_served, read_probes
from models.generations.repository import write_version
from models.generations.triton import TritonTowers
from models.runtime.local import LocalTowers
from tests.conftest import TritonServer
from tests.questions_factory import asking, questions_of
from tests.towers_factory import artifacts

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
    probed = [each.request.attributes for each in read_probes(folder)]
    assert any("answered_yes" in each for each in probed)
    assert await check_served(towers, folder, ASKING) < TOLERANCE


async def test_it_is_known_what_is_asked(towers: TowersForm, folder: Path) -> None:
    assert isinstance(towers, AsksQuestions)
    assert list(await towers.questions(ASKING)) == questions_of(folder)
    assert list(await towers.questions(1)) == []


async def test_users_with_and_without_answers_share_a_call(towers: TowersForm, folder: Path) -> None:
    asked = questions_of(folder)
    users: list[Attributes] = [
        {"city": "north"},
        {"city": "north", "answered_yes": asked[:2]},
        {"answered_no": ["nobody asks"]},
    ]
    found = await towers.virtual_behaviour(users, ASKING)
    np.testing.assert_allclose(found, LocalTowers.of(folder).virtual_behaviour(users), atol=TOLERANCE)
    assert (found[1] != found[0]).any()
    of_another = await towers.virtual_behaviour([{"segment": "cook"}, {"segment": "cook", "answered_yes": asked}], 1)
    np.testing.assert_array_equal(*of_another)


async def test_a_catalogue_without_attributes_is_recommended_from(towers: TowersForm, folder: Path) -> None:
    (virtual,) = await towers.virtual_behaviour([{"city": "north"}], ASKING)
    request = CandidateRequest(Behaviour(), virtual, nearest=5, popular=2, exploratory=1, seed=0)
    (found,) = await towers.candidates([request], ASKING)
    assert len(found) == 8
