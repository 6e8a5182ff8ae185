"""Probes asked of towers as served."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from foretaste.kernel.errors import BadTowerOutput
from models.generations.in_process import InProcessTowers
from models.generations.probes import ParityError, Probe, check_served, difference, read_probes, write_probes
from models.generations.repository import write_version
from models.runtime import layout as files
from tests.towers_factory import artifacts


@pytest.fixture
async def towers(tmp_path: Path) -> AsyncIterator[InProcessTowers]:
    for folder in artifacts():
        write_version(folder, tmp_path)
    form = InProcessTowers(tmp_path)
    yield form
    await form.close()


async def test_towers_as_served_answer_as_in_training(towers: InProcessTowers) -> None:
    for number, folder in enumerate(artifacts(), 1):
        assert 0 <= await check_served(towers, folder, number) <= 1e-5


async def test_another_generation_in_its_place_is_no_parity_and_the_error_says_by_how_much(
    towers: InProcessTowers,
) -> None:
    with pytest.raises(ParityError, match="the served zero-shot tower differs by") as raised:
        await check_served(towers, artifacts()[0], 2)
    assert raised.value.difference > 1e-3


async def test_a_generation_without_probes_passes(towers: InProcessTowers, tmp_path: Path) -> None:
    assert await check_served(towers, tmp_path / "older", 1) == 0.0


class Spoilt:
    """Towers whose answers are changed on their way."""

    def __init__(self, towers: Any, virtual: Any = lambda answer: answer, scores: Any = lambda answer: answer) -> None:
        self._towers, self._virtual, self._scores = towers, virtual, scores

    async def virtual_behaviour(self, attributes: Any, generation: Any) -> Any:
        return self._virtual(await self._towers.virtual_behaviour(attributes, generation))

    async def score(self, request: Any, generation: Any) -> Any:
        return [self._scores(each) for each in await self._towers.score(request, generation)]


def _with_nan(answer: Any) -> npt.NDArray[Any]:
    return np.where(np.arange(answer.size).reshape(answer.shape) == 0, np.float32("nan"), answer)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        ({"scores": lambda answer: answer + np.float32(2e-4)}, ParityError, "served ranking tower differs"),
        ({"virtual": lambda answer: answer + np.float32(2e-4)}, ParityError, "served zero-shot tower differs"),
        ({"scores": _with_nan}, BadTowerOutput, "ranking tower gave numbers that are not finite"),
        ({"virtual": _with_nan}, BadTowerOutput, "zero-shot tower gave numbers that are not finite"),
        ({"scores": lambda answer: answer[:-1]}, BadTowerOutput, "ranking tower answered"),
        ({"virtual": lambda answer: answer[:, :1]}, BadTowerOutput, "zero-shot tower answered"),
    ],
)
async def test_answers_that_are_wrong_are_told(towers: InProcessTowers, spoil: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        await check_served(Spoilt(towers, **spoil), artifacts()[0], 1)  # type: ignore[arg-type]  # a stand-in


def test_probes_survive_the_file_bit_for_bit(tmp_path: Path) -> None:
    probe = read_probes(artifacts()[0])[0]
    numbers = np.array([[1e-45, -0.0, 3.4028235e38], [0.1, 1 / 3, -1.0]], np.float32)
    strange = replace(probe.request, attributes={"": None, "Ω": True, "x": 1e300}, virtual=numbers)
    write_probes(tmp_path / files.PROBES, [Probe(strange, numbers, numbers[0])])
    (read,) = read_probes(tmp_path)
    assert read.request.attributes == strange.attributes
    assert read.request.virtual.tobytes() == read.virtual.tobytes() == numbers.tobytes()
    assert read.scores.tobytes() == numbers[0].tobytes()


def test_a_difference_that_is_no_number_is_no_parity() -> None:
    zeros = np.zeros(2, np.float32)
    assert difference("served", "ranking", zeros, zeros + np.float32(5e-5)) == pytest.approx(5e-5)
    with pytest.raises(ParityError, match="nan"):
        difference("served", "ranking", zeros, zeros + np.float32("nan"))
