"""One suite for every form of the `Retrieval` port: in memory, the index in this process, and the real Triton."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretaste.kernel.errors import BadTowerOutput, InvalidInput, Unavailable
from foretaste.kernel.retrieval import CandidateRequest, Retrieval
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import Attributes
from foretaste.testing import InMemoryRetrieval
from models.generations.in_process import InProcessTowers
from models.generations.repository import write_version
from models.generations.triton import KnownVocabulary, TritonTowers
from tests.conftest import TritonServer
from tests.towers_factory import artifacts, dataset, requests, trained

TowersForm = InProcessTowers | TritonTowers
NOBODY_KNOWS = "never seen in training"


def known() -> Sequence[str]:
    """The items of the generations."""
    return trained().encoding.items


@cache
def cold_request() -> CandidateRequest:
    """Of a user without behaviour."""
    return CandidateRequest(Behaviour(), requests(1)[0].virtual, nearest=10, popular=5, exploratory=3, seed=1)


def attributes() -> dict[str, Attributes]:
    """Of each item that the generations know."""
    rows = dataset()[0].items.set_index("item_id")
    return {item: {"genre": str(rows.loc[item, "genre"])} for item in known()}


async def _published(form: TowersForm, repository: Path) -> TowersForm:
    for number, folder in enumerate(artifacts(), 1):
        write_version(folder, repository)
        if not await form.ready(number):
            await form.load(number)
    return form


@pytest.fixture(params=["in_process", "triton"])
async def towers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TowersForm]:
    form: TowersForm
    if request.param == "triton":
        server = request.getfixturevalue("triton")
        form = await _published(TritonTowers(server.address, timeout=10), server.repository)
    else:
        form = await _published(InProcessTowers(tmp_path), tmp_path)
    yield form
    await form.close()


@pytest.fixture(params=["memory", "in_process", "triton"])
async def retrieval(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Retrieval]:
    if request.param == "memory":
        yield InMemoryRetrieval(attributes())
        return
    server = request.getfixturevalue("triton") if request.param == "triton" else None
    form: TowersForm = TritonTowers(server.address, timeout=10) if server else InProcessTowers(tmp_path)
    yield await _published(form, server.repository if server else tmp_path)
    await form.close()


async def _found(retrieval: Retrieval, request: CandidateRequest, generation: int = 1) -> list[str]:
    (found,) = await retrieval.candidates([request], generation)
    return found


async def test_each_kind_is_there_and_no_item_twice(retrieval: Retrieval) -> None:
    found = await _found(retrieval, cold_request())
    assert len(found) == len(set(found)) == 18
    assert set(found) <= set(known())
    nearest = await _found(retrieval, replace(cold_request(), popular=0, exploratory=0))
    assert found[:10] == nearest
    both = await _found(retrieval, replace(cold_request(), exploratory=0))
    assert found[:15] == both


@pytest.mark.parametrize("asked", [{"nearest": 1000}, {"popular": 1000}, {"exploratory": 1000}])
async def test_fewer_are_found_only_where_there_are_fewer(retrieval: Retrieval, asked: Any) -> None:
    found = await _found(retrieval, replace(cold_request(), **asked))
    assert sorted(found) == sorted(known())


async def test_no_candidates_and_no_requests_are_empty_answers(retrieval: Retrieval) -> None:
    assert await retrieval.candidates([], 1) == []
    assert await _found(retrieval, replace(cold_request(), nearest=0, popular=0, exploratory=0)) == []


async def test_a_seed_draws_the_same_items_again(retrieval: Retrieval) -> None:
    drawn = [
        await _found(retrieval, replace(cold_request(), nearest=2, popular=1, exploratory=8, seed=seed))
        for seed in (5, 6, 5)
    ]
    assert drawn[0] == drawn[2]
    assert drawn[0][:3] == drawn[1][:3]
    assert drawn[0][3:] != drawn[1][3:]
    assert len(await _found(retrieval, replace(cold_request(), seed=2**63 - 1))) == 18


async def test_what_is_denied_is_no_candidate_of_any_kind(retrieval: Retrieval) -> None:
    denied = [*(await _found(retrieval, cold_request())), NOBODY_KNOWS]
    found = await _found(retrieval, replace(cold_request(), deny=denied, exploratory=len(known())))
    assert sorted(found) == sorted(set(known()) - set(denied))


async def test_what_is_allowed_alone_is_a_candidate(retrieval: Retrieval) -> None:
    allowed = [known()[7], known()[3], NOBODY_KNOWS, known()[3]]
    assert sorted(await _found(retrieval, replace(cold_request(), allow=allowed))) == sorted({known()[3], known()[7]})
    assert await _found(retrieval, replace(cold_request(), allow=allowed, deny=[known()[3]])) == [known()[7]]
    assert await _found(retrieval, replace(cold_request(), allow=[NOBODY_KNOWS])) == []


async def test_an_attribute_has_one_of_its_values(retrieval: Retrieval) -> None:
    of_item = {item: str(each["genre"]) for item, each in attributes().items()}
    for genres in (["food"], ["food", "sport", NOBODY_KNOWS], [NOBODY_KNOWS], [None]):
        found = await _found(retrieval, replace(cold_request(), attributes={"genre": genres}, nearest=len(known())))
        assert sorted(found) == sorted(item for item, genre in of_item.items() if genre in genres)
        assert sorted(await retrieval.matching(known(), {"genre": genres}, 1)) == sorted(found)


async def test_in_memory_a_list_has_one_of_the_values() -> None:
    retrieval = InMemoryRetrieval({"a": {"tags": ["new", 3]}, "b": {"tags": []}, "c": {"tags": "new"}})
    assert await retrieval.matching(["a", "b", "c"], {"tags": ["new"]}, 1) == ["a", "c"]
    assert await retrieval.matching(["a", "b", "c"], {"tags": ["3", "old"]}, 1) == ["a"]


async def test_an_attribute_that_items_lack_is_refused(retrieval: Retrieval) -> None:
    for call in (
        _found(retrieval, replace(cold_request(), attributes={"colour": ["red"]})),
        retrieval.matching((), {"colour": ["red"]}, 1),
    ):
        with pytest.raises(InvalidInput) as refused:
            await call
        assert (refused.value.field, refused.value.value) == ("filter.attributes.colour", ["red"])


async def test_items_that_nobody_knows_match_nothing(retrieval: Retrieval) -> None:
    assert await retrieval.matching([NOBODY_KNOWS, known()[1], known()[0]], {}, 1) == [known()[1], known()[0]]


async def test_requests_together_are_answered_as_one_by_one(retrieval: Retrieval) -> None:
    wanted = [
        cold_request(),
        replace(cold_request(), deny=known()[:30], seed=4),
        replace(cold_request(), allow=known()[5:9]),
        replace(cold_request(), attributes={"genre": ["food"]}, nearest=3),
        replace(cold_request(), behaviour=Behaviour(known()[:6], ["bought"] * 6, range(6))),
    ]
    alone = [await _found(retrieval, each) for each in wanted]
    assert await retrieval.candidates(wanted, 1) == alone
    assert await asyncio.gather(*(_found(retrieval, each) for each in wanted)) == alone


async def test_a_numeric_attribute_is_refused(towers: TowersForm) -> None:
    with pytest.raises(InvalidInput, match="categorical or a list, this one is numeric") as refused:
        await towers.matching((), {"price": [3]}, 1)
    assert refused.value.field == "filter.attributes.price"


async def test_a_cold_users_nearest_are_the_towers_own_best(towers: TowersForm) -> None:
    """Of two experts the cold one is the product that the index holds."""
    for generation in (1, 2):
        for request in requests(12):
            user = replace(request, behaviour=Behaviour(), items=known(), context={})
            (scores,) = await towers.score([user], generation)
            asked = replace(cold_request(), virtual=user.virtual, popular=0, exploratory=0, age_ms=user.age_ms)
            found = await _found(towers, asked, generation)
            own = dict(zip(known(), scores.tolist(), strict=True))
            best = sorted(own.values(), reverse=True)[:10]
            np.testing.assert_allclose([own[item] for item in found], best, atol=1e-5)


async def test_behaviour_moves_the_nearest_to_what_is_like_it(towers: TowersForm) -> None:
    warm = trained().config.warm_after
    cold = await _found(towers, replace(cold_request(), popular=0, exploratory=0))
    acted = [item for item in known() if item not in cold][:warm]
    behaviour = Behaviour(acted, ["bought"] * warm, range(warm))
    found = await _found(towers, replace(cold_request(), behaviour=behaviour, popular=0, exploratory=0))
    assert len(set(found) & set(acted)) > len(set(cold) & set(acted))
    other = replace(cold_request(), behaviour=behaviour, virtual=cold_request().virtual + 1, popular=0, exploratory=0)
    assert await _found(towers, other) == found, "of a warm user, virtual behaviour counts no more"


async def test_generations_have_indexes_of_their_own(towers: TowersForm) -> None:
    asked = replace(cold_request(), popular=0, exploratory=0)
    assert await _found(towers, asked, 1) != await _found(towers, asked, 2)


async def test_a_generation_that_is_not_there_is_unavailable(towers: TowersForm) -> None:
    for call in (_found(towers, cold_request(), 77), towers.matching((), {}, 77)):
        with pytest.raises(Unavailable, match="77"):
            await call


async def test_virtual_behaviour_of_another_shape_is_refused(towers: TowersForm) -> None:
    with pytest.raises(InvalidInput, match="virtual_behaviour: expected 24 numbers a user"):
        await _found(towers, replace(cold_request(), virtual=np.ones((4, 8), dtype=np.float32)))


async def test_an_index_of_another_vocabulary_is_not_asked_with_the_wrong_one(triton: TritonServer) -> None:
    towers = await _published(TritonTowers(triton.address, timeout=10), triton.repository)
    assert isinstance(towers, TritonTowers)
    right = await _found(towers, cold_request())
    known = towers._vocabularies[1]
    odd = replace(known.encoding, items=known.encoding.items[::-1])
    towers._vocabularies[1] = KnownVocabulary(odd, known.digest + 1)
    assert await _found(towers, cold_request()) == right
    assert towers._vocabularies[1].digest == known.digest
    await towers.close()


@pytest.mark.parametrize(("name", "value"), [("behaviour", 10_000), ("wanted", -1), ("filters", 10_000)])
async def test_tensors_that_no_request_makes_are_refused_by_triton(triton: TritonServer, name: str, value: int) -> None:
    towers = await _published(TritonTowers(triton.address, timeout=10), triton.repository)
    assert isinstance(towers, TritonTowers)
    vocabulary = await towers._vocabulary(1)
    inputs: dict[str, Any] = {
        "behaviour": np.zeros((1, 100), dtype=np.int64),
        "virtual_behaviour": cold_request().virtual[None],
        "wanted": np.array([[1, 1, 1, 1]]),
        "filters": np.array([[-1, 0, 0]]),
        "vocabulary": np.array([vocabulary.digest]),
    }
    inputs[name][0, 0] = value
    with pytest.raises(InvalidInput, match=name):
        await towers._triton.infer("retrieval", 1, inputs, "candidates", 10.0)
    await towers.close()


@pytest.mark.parametrize("answer", [np.zeros((2, 3), np.int64), np.zeros(3, np.int64), np.zeros((1, 3), np.float32)])
async def test_an_answer_of_another_shape_is_an_error(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    towers = TritonTowers("127.0.0.1:9")

    async def called(*_: Any) -> Any:
        return answer

    async def vocabulary(_: int) -> KnownVocabulary:
        return KnownVocabulary(trained().encoding, 1)

    monkeypatch.setattr(towers._triton, "infer", called)
    monkeypatch.setattr(towers, "_vocabulary", vocabulary)
    with pytest.raises(BadTowerOutput, match="for 1 users"):
        await _found(towers, cold_request())
