"""The perceptron as it is exported, where what a user brings is multiplied once a user."""

import pytest
import torch

from models.towers.perceptron import Perceptron


@pytest.mark.parametrize("counts", [[4], [3, 0, 5], [1, 1, 1]])
def test_an_export_answers_as_the_form_that_is_trained(monkeypatch: pytest.MonkeyPatch, counts: list[int]) -> None:
    torch.manual_seed(0)
    perceptron = Perceptron(6 + 4, (8, 5), dropout=0.5)
    users, candidates = torch.randn(len(counts), 6), torch.randn(sum(counts), 4)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    for _ in range(3):  # so that normalisation has statistics of its own
        perceptron(torch.randn(50, 10) * 3 + 1)
    perceptron.eval()
    expected = perceptron(torch.cat([users[owner], candidates], dim=1))
    torch.testing.assert_close(perceptron.of_pairs(users, candidates, owner), expected)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(perceptron.of_pairs(users, candidates, owner), expected)
