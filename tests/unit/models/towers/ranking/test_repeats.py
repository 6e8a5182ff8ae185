"""What it says of a candidate that the user met it before."""

from typing import Any

import numpy as np
import torch

from models.runtime.encoding import PADDING, UNKNOWN
from models.towers.forms import RankingForm
from models.towers.ranking.repeats import DECAY, SCALE, RepeatTerm
from tests.towers_factory import tiny_mail

WEIGHTS = (0.5, -0.3, 0.7)
ITEMS = 6


def _found(items: Any, candidates: Any, owner: Any) -> Any:
    towers = tiny_mail(0, ranking="recency", zero_shot="effects")
    term = RepeatTerm(ITEMS)
    with torch.no_grad():
        term.weights.copy_(torch.tensor(WEIGHTS).unsqueeze(1))
    users = len(items)
    padded = torch.full((users, 100), PADDING)
    for row, own in enumerate(items):
        padded[row, : len(own)] = torch.tensor(own)
    form = RankingForm(towers.embeddings, towers.ranking, 20)
    zeros = torch.zeros(users, len(towers.embeddings.sizes.attributes), dtype=torch.long)
    context = torch.zeros(users, len(towers.embeddings.sizes.context), dtype=torch.long)
    shape = (users, 2, 4)
    virtual = torch.zeros(shape)
    inputs = form.inputs(zeros, context, padded, padded, virtual, torch.tensor(candidates), torch.tensor(owner))
    with torch.no_grad():
        return term(inputs).numpy()


def test_it_reads_whether_how_often_and_how_lately() -> None:
    found = _found([[3, 2, 3, 4], [2]], [3, 4, 5, 2, 3], [0, 0, 0, 1, 1])

    def expected(*ago: int) -> float:
        late = sum(DECAY**each for each in ago)
        met, often, lately = WEIGHTS
        return SCALE * (met + often * float(np.log1p(len(ago))) + lately * late)

    np.testing.assert_allclose(found, [expected(3, 1), expected(0), 0, expected(0), 0], rtol=1e-5)


def test_of_a_full_history_the_oldest_is_met_too() -> None:
    found = _found([[3] + [2] * 99], [3, 4], [0, 0])
    late = WEIGHTS[0] + WEIGHTS[1] * np.log(2) + WEIGHTS[2] * DECAY**99
    np.testing.assert_allclose(found, [SCALE * late, 0], rtol=1e-4)


def test_items_that_training_did_not_know_are_not_taken_for_one() -> None:
    assert not _found([[UNKNOWN, UNKNOWN]], [UNKNOWN, PADDING], [0, 0]).any()


def test_untrained_it_says_nothing() -> None:
    assert not RepeatTerm(ITEMS).weights.any()


def test_towers_of_an_earlier_version_are_loaded_without_it() -> None:
    term = RepeatTerm(ITEMS)
    with torch.no_grad():
        term.weights.fill_(1.0)
    term.load_state_dict({})
    assert not term.weights.any()
