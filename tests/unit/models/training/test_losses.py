from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from models.effects.discrepancy import discrepancy, gaussian_kernel
from models.towers.behaviour import condense
from models.towers.zero_shot.losses import squared_error
from models.training.losses import ranking_loss, zero_shot_loss
from tests.towers_factory import tiny_mail

B, L, D, M = 6, 9, 8, 3


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _mean_kernel(x: Any, y: Any) -> Any:
    return np.mean([[np.exp(-np.sum((a - b) ** 2) / 2) for b in y] for a in x])


def _norms(guess: Any, target: Any) -> Any:
    return np.mean([np.sum((g - t) ** 2) for g, t in zip(guess.detach().numpy(), target.detach().numpy(), strict=True)])


def test_squared_error_sums_over_an_example_and_averages_over_examples() -> None:
    guess, target = torch.randn(B, M, D), torch.randn(B, M, D)
    assert squared_error(guess, target).item() == pytest.approx(_norms(guess, target), rel=1e-5)


def test_kernel_is_equation_6() -> None:
    x, y = torch.randn(3, 5), torch.randn(4, 5)
    found = gaussian_kernel(x, y, sigma=1.7).numpy()
    for i in range(3):
        for j in range(4):
            distance = np.sum((x[i].numpy() - y[j].numpy()) ** 2)
            assert found[i, j] == pytest.approx(np.exp(-distance / (2 * 1.7**2)), rel=1e-4, abs=1e-6)


def test_discrepancy_is_equation_5() -> None:
    p, q = torch.randn(B, 4) * 0.5, torch.randn(B, 4) * 0.5 + 0.3
    x, y = p.numpy(), q.numpy()
    expected = _mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y)
    assert discrepancy(p, q).item() == pytest.approx(expected, abs=1e-6)


def test_equal_codes_have_no_discrepancy_and_far_ones_much() -> None:
    p = torch.randn(B, 4)
    assert discrepancy(p, p).item() == pytest.approx(0, abs=1e-6)
    assert discrepancy(p, p + 100).item() > 0.3


def _warm_users() -> Any:
    lengths = torch.tensor([1, 2, 3, 5, 8, 9])
    valid = torch.arange(L) < lengths.unsqueeze(1)
    return torch.randn(B, 3, D), torch.randn(B, L, D) * valid.unsqueeze(-1), valid


def test_zero_shot_loss_is_equations_3_to_7_with_both_codes_through_both_decoders() -> None:
    tower = tiny_mail(zero_shot="mail").zero_shot
    attributes, behaviour, valid = _warm_users()
    from_p, from_q = tower.from_attributes(attributes), tower.from_behaviour(behaviour, valid)
    condensed = condense(behaviour, valid, M)
    loss = zero_shot_loss(tower, attributes, behaviour, valid)
    assert list(loss) == ["attributes", "behaviour", "discrepancy"]
    for name, made in (("attributes", from_p), ("behaviour", from_q)):
        expected = _norms(made.attributes, attributes) + _norms(made.behaviour, condensed)
        assert loss[name].item() == pytest.approx(expected, rel=1e-5)
    assert loss["discrepancy"].item() == pytest.approx(discrepancy(from_p.code, from_q.code).item())


def test_no_gradient_of_the_zero_shot_loss_reaches_the_embedding_table() -> None:
    mail = tiny_mail(zero_shot="mail")
    attributes = mail.embeddings.attributes(torch.tensor([[4, 3, 2], [1, 0, 1]]))
    behaviour, valid = mail.embeddings.behaviour(torch.tensor([[5, 6], [7, 0]]), torch.tensor([[2, 3], [1, 0]]))
    assert attributes.requires_grad
    sum(zero_shot_loss(mail.zero_shot, attributes, behaviour, valid).values()).backward()
    assert all(parameter.grad is None for parameter in mail.embeddings.parameters())
    assert all(parameter.grad is not None for parameter in mail.zero_shot.parameters())


def test_ranking_loss_is_equation_13() -> None:
    logits, labels = torch.randn(B), torch.tensor([0.0, 1, 1, 0, 1, 0])
    scores = 1 / (1 + np.exp(-logits.numpy()))
    expected = -np.mean(labels.numpy() * np.log(scores) + (1 - labels.numpy()) * np.log(1 - scores))
    assert ranking_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)
