"""What Triton runs of a version: requests taken together, and those that cannot be taken refused alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretaste.kernel.files import hash_file
from foretaste.kernel.values import FloatArray, IndexArray
from models.runtime import layout
from models.runtime.digest import digest_of
from models.runtime.encoding import Encoding
from models.runtime.refusals import BadRequest, check_vocabulary, vocabulary_of
from models.runtime.towers import ServedRanking, ServedZeroShot, providers_of, run_together
from tests.towers_factory import artifacts, requests


@pytest.fixture(scope="module")
def folder() -> Path:
    return artifacts()[0]


def rows(folder: Path, count: int) -> IndexArray:
    """Encoded attributes of so many users."""
    encoding = Encoding.from_json((folder / layout.ENCODING).read_text())
    return encoding.encode_attributes([request.attributes for request in requests(count)])


def answers_of(tower: ServedZeroShot, batches: Sequence[IndexArray]) -> list[FloatArray]:
    """The answer to each batch, of one run of all."""
    return np.split(tower.run(np.concatenate(batches)), np.cumsum([len(each) for each in batches])[:-1])


def test_batches_are_answered_together_as_one_by_one(folder: Path) -> None:
    tower, made = ServedZeroShot(folder), rows(folder, 6)
    batches = [made[:1], made[1:1], made[1:6]]
    calls = []

    def run(taken: list[IndexArray]) -> list[FloatArray]:
        calls.append(len(taken))
        return answers_of(tower, taken)

    found = run_together(batches, run)
    assert calls == [3]
    for own, batch in zip(found, batches, strict=True):
        assert not isinstance(own, BadRequest)
        np.testing.assert_allclose(own, tower.run(batch), atol=1e-6)


def test_a_batch_that_the_graph_has_no_row_for_is_refused_alone(folder: Path) -> None:
    tower, made = ServedZeroShot(folder), rows(folder, 2)
    refused = BadRequest("it was read as one")
    sent: list[IndexArray | BadRequest] = [made[:1], refused, made[:1] + 10**6, made[1:]]
    first, none, wrong, last = run_together(sent, partial(answers_of, tower))
    assert none is refused
    assert isinstance(wrong, BadRequest)
    assert "indices" in str(wrong)
    assert not isinstance(first, BadRequest)
    assert not isinstance(last, BadRequest)
    np.testing.assert_allclose(np.concatenate([first, last]), tower.run(made), atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4), (2,), (2, 3, 1)])
def test_rows_of_another_width_are_refused_by_name(folder: Path, shape: Any) -> None:
    wrong = np.zeros(shape, dtype=np.int64)
    with pytest.raises(BadRequest, match="attributes: expected the shape"):
        ServedZeroShot(folder).check(wrong)
    with pytest.raises(BadRequest, match="users: expected the shape"):
        ServedRanking(folder).checked(wrong, np.zeros((2, 3, 8), dtype=np.float32))


def test_a_caller_of_an_earlier_version_which_sends_no_age_is_answered_as_of_an_unknown_one(folder: Path) -> None:
    encoding = Encoding.from_json((folder / layout.ENCODING).read_text())
    own = [replace(request, age_ms=None) for request in requests(4)]
    tower, virtual = ServedRanking(folder), np.stack([request.virtual for request in own])
    candidates, owner = np.tile(encoding.encode_items(encoding.items[:5]), 4), np.repeat(np.arange(4), 5)
    today, earlier = encoding.encode_users(own), replace(encoding, age_bounds=()).encode_users(own)
    assert earlier.shape[1] == today.shape[1] - 1
    expected = tower.run(tower.checked(today, virtual), virtual, candidates, owner)
    np.testing.assert_array_equal(tower.run(tower.checked(earlier, virtual), virtual, candidates, owner), expected)


def test_indices_of_another_vocabulary_are_refused(folder: Path) -> None:
    own = vocabulary_of(folder)
    assert own == digest_of(hash_file(folder / layout.ENCODING)) > 0
    check_vocabulary(np.full((3, 1), own), own)
    with pytest.raises(BadRequest, match="vocabulary: "):
        check_vocabulary(np.array([[own], [own + 1]]), own)


def test_a_gpu_is_asked_for_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    assert providers_of("CPU", "0") == ("CPUExecutionProvider",)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeError, match="no CUDAExecutionProvider"):
        providers_of("GPU", "1")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert providers_of("GPU", "1")[0] == ("CUDAExecutionProvider", {"device_id": "1"})
