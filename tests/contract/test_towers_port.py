"""One suite for every form of the `Towers` port: towers in this process, and the real Triton."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from foretaste.kernel.errors import BadTowerOutput, InvalidInput, Unavailable
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.running.tls import TlsFiles
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import FloatArray
from foretaste.stack import health
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.parts import Triton
from foretaste.stack.stack import Stack, StackPlan
from models.generations.in_process import InProcessTowers
from models.generations.probes import check_served
from models.generations.repository import withdraw, write_version
from models.generations.triton import KnownVocabulary, TritonTowers
from models.runtime import layout as files
from tests.conftest import TritonServer
from tests.integration.certificates import make_certificates
from tests.integration.tls_proxy import tls_before
from tests.towers_factory import artifacts, expected_scores, expected_virtual, requests, trained

GENERATIONS = (1, 2)
TowersForm = InProcessTowers | TritonTowers


@pytest.fixture(params=["in_process", "triton"])
async def towers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TowersForm]:
    """Both generations published and loaded."""
    form: TowersForm
    if request.param == "triton":
        server = request.getfixturevalue("triton")
        repository, form = server.repository, TritonTowers(server.address, timeout=10)
    else:
        repository, form = tmp_path, InProcessTowers(tmp_path)
    for folder in artifacts():
        write_version(folder, repository)
    for generation in GENERATIONS:
        if not await form.ready(generation):
            await form.load(generation)
    yield form
    await form.close()


async def _scores(towers: TowersForm, request: RankingInput, generation: int) -> FloatArray:
    """Those of one request alone."""
    (scores,) = await towers.score([request], generation)
    return scores


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_virtual_behaviour_is_that_of_the_generation_as_trained(towers: TowersForm, generation: Any) -> None:
    wanted = requests(50)
    found = await towers.virtual_behaviour([request.attributes for request in wanted], generation)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_virtual(trained(generation - 1), wanted), atol=1e-4)


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_scores_are_those_of_the_generation_as_trained(towers: TowersForm, generation: Any) -> None:
    wanted = requests(30)
    expected = expected_scores(trained(generation - 1), wanted)
    found = await asyncio.gather(*(_scores(towers, request, generation) for request in wanted))
    for scores, right, request in zip(found, expected, wanted, strict=True):
        assert scores.dtype == np.float32
        assert scores.shape == (len(request.items),)
        np.testing.assert_allclose(scores, right, atol=1e-4)


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_probes_are_answered_as_in_training(towers: TowersForm, generation: Any) -> None:
    assert 0 < await check_served(towers, artifacts()[generation - 1], generation) <= 1e-4


async def test_requests_together_are_answered_as_one_by_one(towers: TowersForm) -> None:
    wanted = [*requests(40, seed=9), replace(requests(1)[0], items=[])]
    assert len({len(request.items) for request in wanted}) > 5
    for together, request in zip(await towers.score(wanted, 1), wanted, strict=True):
        np.testing.assert_allclose(together, await _scores(towers, request, 1), atol=1e-6)


async def test_requests_at_once_are_answered_as_one_by_one(towers: TowersForm) -> None:
    wanted = requests(40, seed=8)
    alone = [await _scores(towers, request, 1) for request in wanted]
    together = await asyncio.gather(*(_scores(towers, request, 1) for request in wanted))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


async def test_nobody_and_nothing_get_empty_answers(towers: TowersForm) -> None:
    assert len(await towers.virtual_behaviour([], 1)) == 0
    scores = await _scores(towers, replace(requests(1)[0], items=[]), 1)
    assert scores.shape == (0,)
    assert scores.dtype == np.float32


async def test_a_candidate_named_twice_is_scored_twice_and_alike(towers: TowersForm) -> None:
    scores = await _scores(towers, replace(requests(1)[0], items=["item-1", "item-2", "item-1"]), 1)
    assert scores[0] == pytest.approx(scores[2])
    assert scores[0] != scores[1]


async def test_ten_thousand_candidates_are_scored(towers: TowersForm) -> None:
    items = [f"item-{number}" for number in range(10_000)]
    scores = await _scores(towers, replace(requests(1)[0], items=items), 1)
    assert scores.shape == (10_000,)
    assert ((scores > 0) & (scores < 1)).all()
    assert np.allclose(scores[60:], scores[60], atol=1e-6), "all of them unknown"


async def test_values_that_nobody_knows_are_answered(towers: TowersForm) -> None:
    strange = {"segment": "Ωß漢", "age": "old", "city": None, "planet": True, "": 1e300}
    virtual = await towers.virtual_behaviour([strange, {}], 1)
    assert await towers.unknown_values([strange, {}], 1) == {"segment": 1, "age": 1}
    again, unknown = await towers.counted_virtual_behaviour([strange, {}], 1)
    np.testing.assert_array_equal(again, virtual)
    assert unknown == {"segment": 1, "age": 1}
    behaviour = Behaviour(["?", ""], ["!", ""], [0, 0])
    scores = await _scores(towers, RankingInput(strange, strange, behaviour, virtual[0], ["", "Ω", "item-1"]), 1)
    assert np.isfinite(virtual).all()
    assert np.isfinite(scores).all()


async def test_a_cold_users_scores_follow_virtual_behaviour_and_a_warm_ones_do_not(towers: TowersForm) -> None:
    base = replace(requests(1)[0], items=["item-1", "item-2"])
    seen = trained().config.warm_after
    warm = replace(base, behaviour=Behaviour(["item-3"] * seen, ["bought"] * seen, range(seen)))
    for user, follows in ((replace(base, behaviour=Behaviour()), True), (warm, False)):
        one = await _scores(towers, user, 1)
        other = await _scores(towers, replace(user, virtual=user.virtual + 1), 1)
        assert np.allclose(one, other, atol=1e-6) is not follows


async def test_a_generation_that_is_not_there_is_unavailable(towers: TowersForm) -> None:
    assert not await towers.ready(77)
    with pytest.raises(Unavailable, match="77"):
        await towers.virtual_behaviour([{}], 77)
    with pytest.raises(Unavailable, match="77"):
        await _scores(towers, requests(1)[0], 77)
    with pytest.raises(Unavailable, match="77"):
        await towers.load(77)


@pytest.mark.parametrize("shape", [(1, 8), (3, 9), (4, 8)])
async def test_virtual_behaviour_of_another_shape_is_refused(towers: TowersForm, shape: Any) -> None:
    wrong = replace(requests(1)[0], virtual=np.ones(shape, dtype=np.float32))
    with pytest.raises(InvalidInput, match=r"expected the shape \(3, 8\)"):
        await _scores(towers, wrong, 1)


async def test_a_request_that_is_refused_fails_alone(towers: TowersForm) -> None:
    good = requests(6)
    wrong = replace(good[0], virtual=np.ones((1, 8), dtype=np.float32))
    answers = await asyncio.gather(
        *(_scores(towers, request, 1) for request in [*good[:3], wrong, *good[3:]]), return_exceptions=True
    )
    assert [isinstance(answer, InvalidInput) for answer in answers] == [False] * 3 + [True] + [False] * 3


async def test_a_vocabulary_that_is_no_more_that_of_the_version_is_brought_anew(triton: TritonServer) -> None:
    """As of a number that was given to another training, after everything was removed."""
    towers = TritonTowers(triton.address, timeout=10)
    for folder in artifacts():
        write_version(folder, triton.repository)
    if not await towers.ready(1):
        await towers.load(1)
    wanted = requests(20)
    right = await towers.score(wanted, 1)
    known = towers._vocabularies[1]
    odd = replace(known.encoding, items=known.encoding.items[::-1])
    towers._vocabularies[1] = KnownVocabulary(odd, known.digest + 1)
    for found, expected in zip(await towers.score(wanted, 1), right, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert towers._vocabularies[1].digest == known.digest
    towers._vocabularies[1] = KnownVocabulary(odd, known.digest + 1)
    found = await towers.virtual_behaviour([request.attributes for request in wanted], 1)
    np.testing.assert_allclose(found, expected_virtual(trained(0), wanted), atol=1e-4)
    await towers.close()


async def test_answers_go_on_while_another_generation_is_loaded(towers: TowersForm) -> None:
    request = requests(1)[0]
    loading = asyncio.create_task(towers.load(2))
    answered = 0
    while not loading.done():
        assert len(await _scores(towers, request, 1)) == len(request.items)
        assert len(await towers.virtual_behaviour([{}], 1)) == 1
        answered += 1
    await loading
    assert answered
    assert await towers.ready(1)
    assert await towers.ready(2)


async def test_a_closed_port_can_be_used_again(towers: TowersForm) -> None:
    await towers.close()
    assert len(await towers.virtual_behaviour([{}], 1)) == 1


async def test_triton_is_asked_over_tls_of_a_private_authority_with_a_client_certificate(
    triton: TritonServer, tmp_path: Path
) -> None:
    """The health check as well; who trusts another authority, or has no certificate, gets nothing."""
    write_version(artifacts()[0], triton.repository)
    made = make_certificates(tmp_path)
    right = TlsFiles("triton", made.ca, made.client_cert, made.client_key)
    wrong = [replace(right, ca=made.another_ca), replace(right, cert=None, key=None)]
    async with tls_before(triton.address, made) as address:
        towers = TritonTowers(address, timeout=10, tls=right)
        if not await towers.ready(1):
            await towers.load(1)
        assert len(await towers.virtual_behaviour([{}], 1)) == 1
        assert (await health.triton(address, right)).ok
        await towers.close()
        for files_of_tls in wrong:
            refused = TritonTowers(address, timeout=2, tls=files_of_tls)
            with pytest.raises(Unavailable):
                await refused.virtual_behaviour([{}], 1)
            assert not (await health.triton(address, files_of_tls)).ok
            await refused.close()


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


async def test_no_triton_is_unavailable(nowhere: str) -> None:
    towers = TritonTowers(nowhere, timeout=0.5)
    for call in (
        towers.virtual_behaviour([{}], 1),
        towers.score([requests(1)[0]], 1),
        towers.ready(1),
        towers.load(1),
        towers.unload(1),
    ):
        with pytest.raises(Unavailable, match="triton is not available"):
            await call
    await towers.close()


async def test_a_triton_that_hangs_is_unavailable_in_time() -> None:
    with socket.socket() as silent:  # the kernel takes the connection, and nobody ever answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        towers = TritonTowers(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match=r"no vocabulary of generation 1 within 0\.3 s"):
                await towers.virtual_behaviour([{}], 1)
        await towers.close()


@pytest.mark.parametrize("shape", [(2, 3), (1, 3, 8), (3, 3, 8), (2, 3, 8, 1)])
async def test_an_answer_of_another_shape_is_an_error(
    nowhere: str, monkeypatch: pytest.MonkeyPatch, shape: Any
) -> None:
    towers = TritonTowers(nowhere)

    async def answer(*_: Any) -> npt.NDArray[Any]:
        return np.zeros(shape, dtype=np.float32)

    async def vocabulary(_: int) -> KnownVocabulary:
        return KnownVocabulary(trained().encoding, 1)

    monkeypatch.setattr(towers, "_infer", answer)
    monkeypatch.setattr(towers, "_vocabulary", vocabulary)
    with pytest.raises(BadTowerOutput, match="for 2 users"):
        await towers.virtual_behaviour([{}, {}], 1)
    with pytest.raises(BadTowerOutput, match="for 5 candidates"):
        await _scores(towers, replace(requests(1)[0], items=["item-1"] * 5), 1)


@pytest.mark.parametrize(
    ("model", "name", "text"),
    [
        ("ranking_tower", files.RANKING, b"broken"),
        ("vocabulary", files.ENCODING, b"{}"),
        ("vocabulary", files.ENCODING, b"{"),
    ],
)
async def test_a_damaged_version_in_this_process_is_unavailable_until_it_is_mended(
    tmp_path: Path, model: str, name: Any, text: bytes
) -> None:
    write_version(artifacts()[0], tmp_path)
    damaged = tmp_path / model / "1" / name
    whole = damaged.read_bytes()
    damaged.write_bytes(text)
    towers = InProcessTowers(tmp_path)
    with pytest.raises(Unavailable, match="generation 1 was not loaded"):
        await towers.load(1)
    damaged.write_bytes(whole)
    await towers.load(1)
    await towers.close()


async def test_a_withdrawn_generation_in_this_process_is_let_go_and_the_other_answers(tmp_path: Path) -> None:
    for folder in artifacts():
        write_version(folder, tmp_path)
    towers = InProcessTowers(tmp_path)
    for generation in GENERATIONS:
        await towers.load(generation)
    withdraw(2, tmp_path)
    assert len(await towers.virtual_behaviour([{}], 2)) == 1, "it is held open until it is let go"
    await towers.unload(2)
    assert not await towers.ready(2)
    with pytest.raises(Unavailable, match="2"):
        await towers.virtual_behaviour([{}], 2)
    assert len(await towers.virtual_behaviour([{}], 1)) == 1
    await towers.close()


@pytest.fixture
def triton_part(triton_environment: TritonEnvironment, tmp_path: Path) -> Triton:
    """A Triton of the test's own, to be broken and started again."""
    return Triton(tmp_path / "triton", tmp_path / "triton_repo", triton_environment)


async def _answers(towers: TritonTowers, generation: int) -> bool:
    """Whether both towers of the generation answer."""
    if not await towers.ready(generation):
        return False
    scores = await _scores(towers, requests(1)[0], generation)
    return len(scores) > 0 and len(await towers.virtual_behaviour([{}], generation)) == 1


@pytest.mark.parametrize(
    ("broken", "device", "reason"),
    [
        (files.ZERO_SHOT, "cpu", "Protobuf parsing failed"),
        (files.RANKING, "cpu", "Protobuf parsing failed"),
        ("nothing", "gpu", "GPU"),
    ],
)
async def test_a_generation_that_triton_cannot_load_is_withdrawn_and_the_one_before_serves_on(
    triton_part: Triton, broken: Any, device: Any, reason: str
) -> None:
    repository = triton_part.repository
    first, second = artifacts()
    home = repository.parent
    with Stack(home, StackPlan([triton_part], {}, [])) as stack:
        towers = TritonTowers(stack.addresses["triton"], timeout=10)
        write_version(first, repository)
        await towers.load(1)
        write_version(second, repository, device)
        for onnx in repository.glob(f"*/2/{broken}"):
            onnx.write_bytes(b"broken")
        with pytest.raises(Unavailable, match=rf"generation 2 of \w+ was not loaded: .*{reason}") as failed:
            await towers.load(2)
        assert "\n" not in str(failed.value)
        assert await _answers(towers, 1), "the failure must not reach those who are served"
        withdraw(2, repository)
        assert await _answers(towers, 1)
        await towers.load(1)
        assert await _answers(towers, 1)
        assert not await towers.ready(2)
        await towers.close()
    with Stack(home, StackPlan([triton_part], {}, [])) as stack:
        towers = TritonTowers(stack.addresses["triton"], timeout=10)
        assert await _answers(towers, 1)
        write_version(second, repository)
        await towers.load(2)
        assert await _answers(towers, 2)
        await towers.close()


async def test_a_broken_version_left_behind_stops_its_model_but_not_triton_and_withdrawing_it_mends_that(
    triton_part: Triton,
) -> None:
    repository = triton_part.repository
    for folder in artifacts():
        write_version(folder, repository)
    (repository / "ranking_tower" / "2" / files.RANKING).write_bytes(b"broken")
    with Stack(repository.parent, StackPlan([triton_part], {}, [])) as stack:
        found = await health.triton(stack.addresses["triton"])
        assert found.ok
        assert "ranking_tower: " in found.detail
        towers = TritonTowers(stack.addresses["triton"], timeout=10)
        assert not await towers.ready(1), "one broken version takes all versions of its model along"
        withdraw(2, repository)
        await towers.load(1)
        assert await _answers(towers, 1)
        await towers.close()
