"""Each peer for real, on tiny data: what is timed is what was meant. Run by `make bench-test`, which installs them."""

import contextlib
import importlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.timing import Stopwatch, TimeLimitReached
from benchmarks.training.peer_rows import PeerRows
from benchmarks.training.peers import PEERS, PeerModel, PeerSettings, train
from foretaste.kernel.values import MAX_BEHAVIOUR

BATCH, BATCHES, ITEMS = 16, 6, 20
BOTH = pytest.mark.parametrize("model", ["din", "dnn"])
EACH = pytest.mark.parametrize("library", sorted(PEERS))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def settings(model: PeerModel) -> PeerSettings:
    return PeerSettings(model, 4, hidden=(8, 6), attention=(5, 3), dropout=0.5, batch=BATCH, rate=0.01, seed=0)


def rows(count: int = BATCH * BATCHES) -> PeerRows:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, MAX_BEHAVIOUR + 1, count).astype(np.int32)
    history = rng.integers(2, ITEMS, (count, MAX_BEHAVIOUR)).astype(np.int32)
    history[np.arange(MAX_BEHAVIOUR) >= lengths[:, None]] = 0
    sizes = {"user_age": 5, "item_genre": 3}
    return PeerRows(
        fields={name: rng.integers(0, size, count).astype(np.int32) for name, size in sizes.items()},
        sizes=sizes,
        items=rng.integers(2, ITEMS, count).astype(np.int32),
        item_count=ITEMS,
        history=history,
        lengths=lengths,
        labels=(rng.random(count) < 0.5).astype(np.float32),
    )


def built(library: str, model: PeerModel) -> Any:
    return importlib.import_module(f"benchmarks.training.{PEERS[library]}_models").build(settings(model), rows())


@EACH
@BOTH
def test_every_batch_but_the_last_is_counted(library: str, model: PeerModel) -> None:
    watch = Stopwatch(warm_up=1)
    train(library, settings(model), rows(), watch)
    lap = watch.lap()
    assert (lap.batches, lap.rows) == (BATCHES - 2, (BATCHES - 2) * BATCH)
    assert lap.seconds > 0


@EACH
@BOTH
def test_a_limit_ends_it_early(library: str, model: PeerModel) -> None:
    watch = Stopwatch(warm_up=1, limit=1e-9)
    with contextlib.suppress(TimeLimitReached):
        train(library, settings(model), rows(), watch)
    assert watch.lap().batches == 1


@EACH
@BOTH
def test_the_perceptron_has_the_widths_asked_for(library: str, model: PeerModel) -> None:
    shapes = [tuple(each.weight.shape) for each in built(library, model).modules() if isinstance(each, nn.Linear)]
    assert (6, 8) in shapes
    if model == "din":
        assert (5, 4 * 4) in shapes
        assert (3, 5) in shapes


@EACH
@BOTH
def test_candidates_and_history_share_one_table(library: str, model: PeerModel) -> None:
    tables = [each for each in built(library, model).modules() if isinstance(each, nn.Embedding)]
    assert sorted(len(table.weight) for table in tables) == [3, 5, ITEMS]


@EACH
@BOTH
def test_nothing_is_printed(library: str, model: PeerModel, capsys: pytest.CaptureFixture[str]) -> None:
    train(library, settings(model), rows(), Stopwatch())
    assert capsys.readouterr() == ("", "")
