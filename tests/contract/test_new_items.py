"""What towers say of items that were registered after they had learned: in this process, and on the real Triton."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.running.registered_items import TakesNewItems
from foretaste.kernel.users import Behaviour
from models.generations.in_process import InProcessTowers
from models.generations.parity import ranking_tensors
from models.generations.probes import TOLERANCE
from models.generations.repository import write_version
from models.generations.triton import TritonTowers
from models.training.item_kinds import with_kinds
from tests.conftest import TritonServer
from tests.towers_factory import artifacts, requests, trained

TowersForm = InProcessTowers | TritonTowers
GENRES = trained().encoding.item_attributes["genre"].vocabulary
NEW = {f"new {genre}": {"genre": genre} for genre in GENRES} | {"new odd": {"genre": "never seen"}, "new bare": {}}


@pytest.fixture(params=["in_process", "triton"])
async def towers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TowersForm]:
    form: TowersForm
    if request.param == "triton":
        server: TritonServer = request.getfixturevalue("triton")
        repository, form = server.repository, TritonTowers(server.address, timeout=10)
    else:
        repository, form = tmp_path, InProcessTowers(tmp_path)
    for number, folder in enumerate(artifacts(), 1):
        write_version(folder, repository)
        if not await form.ready(number):
            await form.load(number)
    yield form
    await form.close()


def asked(seed: int = 0, **changes: object) -> CandidateRequest:
    known = requests(10)[seed]
    made = CandidateRequest(known.behaviour, known.virtual, nearest=20, popular=5, exploratory=5, seed=seed)
    return replace(made, **changes)  # type: ignore[arg-type]


async def found(towers: TowersForm, request: CandidateRequest, generation: int = 1) -> list[str]:
    (candidates,) = await towers.candidates([request], generation)
    assert len(candidates) == len(set(candidates))
    return candidates


async def test_new_items_are_scored_as_the_trained_towers_score_their_kind(towers: TowersForm) -> None:
    assert isinstance(towers, TakesNewItems)
    await towers.add_items(NEW)
    served = with_kinds(trained())
    served.encoding.add_items(NEW)
    wanted = [replace(each, items=[*NEW, *each.items]) for each in requests(8)]
    with torch.inference_mode():
        expected = served.ranking(**ranking_tensors(served.encoding, wanted)).numpy()
    scores = np.concatenate(await towers.score(wanted, 1))
    np.testing.assert_allclose(scores, expected, atol=TOLERANCE)
    assert len(set(scores[: len(GENRES)].tolist())) == len(GENRES)


async def test_they_are_unknown_until_they_are_met_and_in_every_generation_from_then_on(towers: TowersForm) -> None:
    assert await towers.unknown([*NEW, "nobody"], 1) == [*NEW, "nobody"]
    await towers.add_items(NEW)
    for generation in (1, 2):
        assert await towers.unknown([*NEW, "nobody"], generation) == ["nobody"]


async def test_they_are_candidates(towers: TowersForm) -> None:
    everything = asked(nearest=1000)
    assert not NEW.keys() & set(await found(towers, everything))
    await towers.add_items(NEW)
    assert NEW.keys() <= set(await found(towers, everything))


async def test_what_may_not_be_recommended_holds_for_them(towers: TowersForm) -> None:
    await towers.add_items(NEW)
    first, second = f"new {GENRES[0]}", f"new {GENRES[1]}"
    left = set(await found(towers, asked(nearest=1000, deny=[first])))
    assert NEW.keys() - left == {first}
    assert set(await found(towers, asked(nearest=1000, allow=[first, "nobody"]))) == {first}
    of_genre = set(await found(towers, asked(nearest=1000, attributes={"genre": [GENRES[1]]})))
    assert NEW.keys() & of_genre == {second}
    assert set(await towers.matching([*NEW, "nobody"], {"genre": [GENRES[1]]}, 1)) == {second}


async def test_as_many_candidates_come_as_were_asked_for(towers: TowersForm) -> None:
    before = len(await found(towers, asked()))
    await towers.add_items(NEW | {f"another {number}": {"genre": GENRES[0]} for number in range(50)})
    assert len(await found(towers, asked())) == before == 30


async def test_registered_again_an_item_has_its_newest_attributes(towers: TowersForm) -> None:
    await towers.add_items(NEW)
    await towers.add_items({"new bare": {"genre": GENRES[0]}})
    user = requests(1)[0]
    (scores,) = await towers.score([replace(user, items=["new bare", f"new {GENRES[0]}"])], 1)
    assert scores[0] == scores[1]


async def test_taken_out_an_item_is_unknown_again_and_no_candidate(towers: TowersForm) -> None:
    await towers.add_items(NEW)
    first = f"new {GENRES[0]}"
    await towers.add_items({first: None, "nobody": None, trained().encoding.items[0]: None})
    for generation in (1, 2):
        assert await towers.unknown([*NEW, trained().encoding.items[0]], generation) == [first]
    assert NEW.keys() - set(await found(towers, asked(nearest=1000))) == {first}


async def test_an_item_that_the_generation_learned_of_is_as_it_knows_it(towers: TowersForm) -> None:
    item = trained().encoding.items[0]
    wanted = [RankingInput({}, {}, Behaviour(), requests(1)[0].virtual, [item])]
    before = await towers.score(wanted, 1)
    await towers.add_items({item: {"genre": GENRES[-1]}})
    np.testing.assert_array_equal(await towers.score(wanted, 1), before)


async def test_behaviour_towards_a_new_item_moves_the_ranking(towers: TowersForm) -> None:
    await towers.add_items(NEW)
    known = requests(1)[0]
    action = trained().encoding.actions[0]
    users = [
        replace(known, behaviour=Behaviour([item], [action], [1])) for item in (f"new {GENRES[0]}", f"new {GENRES[1]}")
    ]
    one, other = await towers.score(users, 1)
    assert (one != other).any()
