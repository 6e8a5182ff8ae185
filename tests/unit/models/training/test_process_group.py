from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from foretaste.kernel.errors import InvalidInput
from models.data.examples import Examples
from models.data.histories import Histories
from models.training.batches import part_of
from models.training.process_group import process_group, share
from models.training.processes import SingleProcess, is_one_of_several
from tests.towers_factory import dataset, trained

SIZES = some.lists(some.integers(1, 40), min_size=1, max_size=60).map(np.array)


@given(SIZES, some.integers(1, 9), some.integers(1, 4))
def test_shares_are_each_moment_once_and_weigh_one(sizes: Any, count: Any, least: Any) -> None:
    shares = [share(sizes, least, rank, count) for rank in range(count)]
    working = [one for one in shares if one.weight > 0]
    assert [one.begin for one in working] == [0, *(one.end for one in working[:-1])]
    assert working[-1].end == len(sizes)
    assert sum(one.weight for one in shares) == pytest.approx(1)
    rows = [sizes[one.begin : one.end].sum() for one in working]
    assert [one.weight for one in working] == pytest.approx(np.array(rows) / sizes.sum())
    assert min(rows) >= least or len(working) == 1
    assert max(rows) - min(rows) <= 2 * sizes.max(), "as even as whole moments allow"
    assert all(one == (*working[0][:2], 0.0) for one in shares if one not in working)


def test_who_has_no_share_repeats_the_first_at_no_weight() -> None:
    assert [tuple(share(np.array([3, 1, 4]), 2, rank, 4)) for rank in range(4)] == [
        (0, 2, 0.5),
        (2, 3, 0.5),
        (0, 2, 0.0),
        (0, 2, 0.0),
    ]


@pytest.mark.parametrize("sampled", [False, True])
def test_parts_of_a_batch_hold_each_candidate_once_beside_its_own_moment(sampled: bool) -> None:
    data, split = dataset()
    encoding = trained().encoding
    examples = Examples.of(data, split.train, encoding, Histories.of(data, encoding))
    batch = examples.batch(np.arange(100, 120))
    if sampled:  # negatives come after all positives
        order = np.random.default_rng(0).permutation(len(batch.owner))
        for name in ("owner", "candidates", "labels"):
            object.__setattr__(batch, name, getattr(batch, name)[order])
    parts = [part_of(batch, begin, end) for begin, end in ((0, 6), (6, 7), (7, 20))]

    def met(one: Any) -> Any:
        moments = zip(one.users[one.owner], one.times_ms[one.owner], one.candidates, one.labels, strict=True)
        behaviour = one.items[one.owner].sum(axis=1), one.attributes[one.owner].sum(axis=1)
        return [(*moment, *seen) for moment, *seen in zip(moments, *behaviour, strict=True)]

    assert sorted(candidate for part in parts for candidate in met(part)) == sorted(met(batch))
    assert [len(part.users) for part in parts] == [6, 1, 13]
    assert part_of(batch, 0, 20) is batch


def test_alone_one_has_it_all() -> None:
    assert tuple(SingleProcess().share(np.array([1, 2]), 2)) == (0, 2, 1.0)


@pytest.mark.parametrize(
    ("environment", "several"), [({}, False), ({"WORLD_SIZE": "1"}, False), ({"WORLD_SIZE": "2"}, True)]
)
def test_torchruns_environment_tells_whether_there_are_several(environment: Any, several: bool) -> None:
    assert is_one_of_several(environment) is several


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(InvalidInput, match="more processes than this machine has GPUs, 1"),
        process_group({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, "cuda"),
    ):
        pass
