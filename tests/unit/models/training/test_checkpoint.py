import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretaste.kernel.files import hash_file
from models.data.histories import Histories
from models.effects.codes import Combinations
from models.effects.fit import Effects
from models.effects.transitions import Transitions
from models.log.join import joined
from models.runtime.encoding import Encoding
from models.runtime.fields import CategoricalEncoder
from models.towers.embeddings import Sizes
from models.training.checkpoint import KEPT, Checkpoint, Checkpoints, RunCheckpoints, fingerprint
from tests.window_factory import logged, shown

EFFECTS = Effects(
    np.ones((2, 3, 4), np.float32),
    np.arange(5),
    np.ones((6, 4), np.float32),
    np.ones((7, 6), np.float32),
    transitions=Transitions(np.full((2, 6, 3), 2.0, np.float32), np.full((2, 6, 3), 3.0, np.float32), np.arange(1)),
    combinations=Combinations(
        *(np.full(shape, 4.0, np.float32) for shape in ((2, 3, 5), (2, 5, 6), (2, 6), (2, 6, 4)))
    ),
)

CITY = {"city": CategoricalEncoder(("north",))}
ENCODING = Encoding(CITY, {}, {}, ("a", "b"), ("did",), np.zeros((4, 0), dtype=np.int64))


def checkpoint(step: Any, batch: int = 64) -> Checkpoint:
    state = np.random.default_rng(step).bit_generator.state
    tensors = {"model/weight": torch.full((3, 2), float(step)), "generator/cpu": torch.get_rng_state()}
    return Checkpoint(step, batch, state, state, [{"ranking": 0.1 * step}] * step, tensors)


@pytest.fixture
def heard() -> Any:
    return []


@pytest.fixture
def run(tmp_path: Path, heard: Any) -> RunCheckpoints:
    """Of a run that wrote steps 0 to 3."""
    mine = Checkpoints(tmp_path / "checkpoints").of("mine", heard.append)
    for step in range(4):
        mine.save(checkpoint(step), EFFECTS)
    return mine


def folder(tmp_path: Path, step: Any) -> Path:
    return tmp_path / "checkpoints" / "mine" / f"{step:09d}"


def test_the_newest_comes_back_whole(run: RunCheckpoints, heard: Any) -> None:
    newest = run.latest(64)
    assert newest is not None
    found, effects = newest
    expected = checkpoint(3)
    assert (found.step, found.batch, found.losses) == (3, 64, expected.losses)
    assert (found.planned, found.drawn) == (expected.planned, expected.drawn)
    assert all(torch.equal(value, expected.tensors[name]) for name, value in found.tensors.items())
    for name in ("codes", "fold", "keys", "biases"):
        assert np.array_equal(getattr(effects, name), getattr(EFFECTS, name))
    assert effects is not None
    for part, names in (
        ("transitions", ("sources", "targets")),
        ("combinations", ("values", "first", "bias", "second")),
    ):
        for name in names:
            assert np.array_equal(getattr(getattr(effects, part), name), getattr(getattr(EFFECTS, part), name))
    assert not heard


def test_the_last_few_are_kept(run: RunCheckpoints, tmp_path: Path) -> None:
    kept = sorted(path.name for path in folder(tmp_path, 0).parent.iterdir())
    assert kept == [*(f"{step:09d}" for step in range(4 - KEPT, 4)), "effects"]


def _cut(path: Any) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Any) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [_cut, _flip, lambda path: path.unlink()])
@pytest.mark.parametrize("file", ["state.pt", "state.json"])
def test_a_damaged_one_is_passed_over_aloud_for_the_one_before(
    run: RunCheckpoints, tmp_path: Path, heard: Any, file: str, damage: Any
) -> None:
    damage(folder(tmp_path, 3) / file)
    if damage is _flip and file == "state.json":
        (folder(tmp_path, 3) / file).write_bytes(b"\xff" * 10)
    assert run.latest(64).checkpoint.step == 2
    assert len(heard) == 1
    assert str(folder(tmp_path, 3)) in heard[0]
    run.save(checkpoint(3), EFFECTS)
    assert run.latest(64).checkpoint.step == 3, "written anew in its place"


@pytest.mark.parametrize("file", ["effects.npz", "state.json"])
def test_without_what_was_fitted_nothing_is_resumed(run: RunCheckpoints, tmp_path: Path, heard: Any, file: str) -> None:
    (folder(tmp_path, 0).parent / "effects" / file).unlink()
    assert run.latest(64) is None
    assert len(heard) == KEPT


def test_one_whose_transitions_are_of_an_earlier_version_is_passed_over(
    run: RunCheckpoints, tmp_path: Path, heard: Any
) -> None:
    effects = folder(tmp_path, 0).parent / "effects"
    with np.load(effects / "effects.npz") as file:
        arrays = dict(file)
    del arrays["transition_begins_ms"]
    np.savez(effects / "effects.npz", **arrays)
    hashes = {name: hash_file(effects / name) for name in json.loads((effects / "state.json").read_text())}
    (effects / "state.json").write_text(json.dumps(hashes))
    assert run.latest(64) is None
    assert len(heard) == KEPT


def test_that_nothing_was_fitted_is_kept_too(tmp_path: Path, heard: Any) -> None:
    mine = Checkpoints(tmp_path).of("mine", heard.append)
    mine.save(checkpoint(0), None)
    assert mine.latest(64).effects is None
    shutil.rmtree(tmp_path / "mine" / "effects")
    assert mine.latest(64) is None


def test_one_of_larger_steps_is_not_resumed(run: RunCheckpoints) -> None:
    assert run.latest(63) is None
    assert run.latest(128).checkpoint.step == 3


def test_another_runs_is_named_not_read_and_removed_once_a_new_one_is_whole(
    run: RunCheckpoints, tmp_path: Path, heard: Any
) -> None:
    other = Checkpoints(tmp_path / "checkpoints").of("other", heard.append)
    assert other.latest(64) is None
    assert len(heard) == 1
    assert "another run" in heard[0]
    assert folder(tmp_path, 3).exists()
    other.save(checkpoint(0), None)
    assert not folder(tmp_path, 3).parent.exists()
    assert other.latest(64).checkpoint.step == 0


def test_what_a_killed_writer_left_is_removed_and_never_read(run: RunCheckpoints, tmp_path: Path) -> None:
    left = folder(tmp_path, 0).parent / ".000000009.abc"
    left.mkdir()
    (left / "state.pt").write_bytes(b"half")
    assert run.latest(64).checkpoint.step == 3
    run.save(checkpoint(4), EFFECTS)
    assert not left.exists()


def test_a_disk_that_takes_nothing_ends_no_run(tmp_path: Path, heard: Any) -> None:
    (tmp_path / "file").write_text("no folder")
    mine = Checkpoints(tmp_path / "file").of("mine", heard.append)
    mine.save(checkpoint(0), EFFECTS)
    assert len(heard) == 2
    assert "training goes on" in heard[0]
    assert mine.latest(64) is None


def test_a_full_disk_ends_no_run(tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    mine = Checkpoints(tmp_path).of("mine", heard.append)
    mine.save(checkpoint(1), None)
    assert "training goes on" in heard[0]
    assert "disk" in heard[0]
    assert mine.latest(64) is None


def test_one_is_due_so_long_after_the_last(tmp_path: Path) -> None:
    now = [100.0]
    mine = Checkpoints(tmp_path, every_seconds=30, clock=lambda: now[0]).of("mine", print)
    now[0] = 129.0
    assert not mine.due()
    now[0] = 130.0
    assert mine.due()
    mine.save(checkpoint(1), None)
    assert not mine.due()


NUMBERS = np.arange(3, dtype=np.int32)
HISTORIES = Histories(NUMBERS, NUMBERS, np.arange(3), np.array([0, 3]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, "1"),
        (("a", "bc"), ("ab", "c")),
        ([1, [2]], [[1], 2]),
        (np.arange(3), np.arange(3.0)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (torch.zeros(3), torch.tensor([0.0, 0.0, 1e-30])),
        ({"a": 1}, {"b": 1}),
        (HISTORIES, replace(HISTORIES, times_ms=np.array([0, 1, 3]))),
        (Sizes((), (), 1, 2, ()), Sizes((), (), 2, 1, ())),
        (None, 0),
        (np.int64(1), np.int64(2)),
    ],
)
def test_a_fingerprint_tells_any_difference(one: Any, other: Any) -> None:
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize("part", [object(), np.array(["a"], dtype=object), {1, 2}])
def test_a_fingerprint_of_what_has_no_content_to_tell_is_refused(part: Any) -> None:
    with pytest.raises(TypeError, match="nothing to tell a run by"):
        fingerprint(part)


def test_examples_of_a_log_window_are_told_apart() -> None:
    def known(*rankings: Any) -> Any:
        return fingerprint(joined(logged(list(rankings), []), 100, 10_000_000).examples(ENCODING))

    ranking = shown("u", 1000, done=["a"])
    assert known(ranking) == known(ranking)
    assert known(ranking) != known(shown("u", 1000, done=["b"]))
    assert known(ranking) != known(ranking, shown("u", 2000))
