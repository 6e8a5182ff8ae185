from collections.abc import Iterator
from typing import Any

import pytest
import torch

from models.towers.dropout import Dropout

MANY = (400, 500)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_a_share_is_dropped_and_the_mean_is_kept(p: float) -> None:
    x = torch.ones(MANY)
    found = Dropout(p)(x)
    assert (found == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert found.mean().item() == pytest.approx(1, abs=0.02)
    assert len(found.unique()) == 2, "what is kept is scaled alike"


def test_what_is_dropped_is_dropped_anywhere() -> None:
    dropped = Dropout(0.3)(torch.ones(MANY)) == 0
    assert dropped.float().mean(dim=0).std() < 0.05
    assert dropped.float().mean(dim=1).std() < 0.05
    left, right = dropped[:, :-1].float().flatten(), dropped[:, 1:].float().flatten()
    assert abs(torch.corrcoef(torch.stack([left, right]))[0, 1]) < 0.02, "neighbours are drawn apart"


def test_the_same_seed_drops_the_same() -> None:
    x = torch.randn(33, 7)

    def of_seed(seed: Any) -> Any:
        torch.manual_seed(seed)
        tower = Dropout(0.5)
        return tower(x), tower(x)

    (one, then), (other, later) = of_seed(1), of_seed(1)
    assert torch.equal(one, other)
    assert torch.equal(then, later)
    assert not torch.equal(one, then), "each call draws anew"
    assert not torch.equal(one, of_seed(2)[0])


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True), (0.001, True)])
def test_nothing_is_dropped_or_drawn_where_there_is_nothing_to_drop(p: float, training: bool) -> None:
    x, before = torch.randn(9, 5), torch.get_rng_state()
    assert Dropout(p).train(training)(x) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (3, 3), (5, 2, 13), (0, 4), (1, 0)])
def test_any_shape(shape: Any) -> None:
    found = Dropout(0.5)(torch.ones(shape))
    assert found.shape == shape
    assert set(found.flatten().tolist()) <= {0.0, 2.0}


@pytest.mark.parametrize("x", [torch.ones(6, 4).T, torch.ones(6, 8)[:, ::2]], ids=["transposed", "strided"])
def test_a_view_is_read_as_it_lies(x: Any) -> None:
    assert Dropout(0.5)(x).shape == x.shape


def test_bfloat16_stays_bfloat16() -> None:
    found = Dropout(0.3)(torch.ones(MANY, dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert found.float().mean().item() == pytest.approx(1, abs=0.02)


def test_gradients_pass_where_values_did() -> None:
    x = torch.ones(50, 4, requires_grad=True)
    found = Dropout(0.5)(x)
    found.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, found.detach())


@pytest.mark.parametrize("p", [0.998, 0.9999])
def test_of_the_greatest_share_something_is_left(p: float) -> None:
    found = Dropout(p)(torch.ones(MANY))
    assert torch.isfinite(found).all()
    assert found.any()
