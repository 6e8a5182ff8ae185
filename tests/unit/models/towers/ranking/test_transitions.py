from typing import Any

import numpy as np
import torch

from foretaste.kernel.values import MAX_BEHAVIOUR
from models.effects.transitions import DIRECTIONS, Transitions
from models.runtime.encoding import PADDING, UNKNOWN
from models.towers.forms import RankingForm
from models.towers.ranking.base import RankingInputs
from models.towers.ranking.experts import Experts
from models.towers.ranking.transitions import SCALE, START
from tests.towers_factory import tiny_mail

BEHAVIOUR = [[3, 2, 4], [2], [], [2, 3] * (MAX_BEHAVIOUR // 2)]
CANDIDATES, OWNER = [3, 4, 2, 3, 2, 4, UNKNOWN], [0, 0, 1, 1, 2, 3, 0]


def _towers() -> tuple[Any, Transitions]:
    towers = tiny_mail(0, ranking="recency", zero_shot="effects")
    rng = np.random.default_rng(0)
    shape = (2, towers.embeddings.sizes.items, DIRECTIONS)
    sources, targets = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    for table in (sources, targets):
        table[:, [PADDING, UNKNOWN]] = 0.0
        table[1] = table[0]  # what is known at any time is all
    return towers, Transitions(sources, targets, np.zeros(0, dtype=np.int64))


def _inputs(towers: Any) -> tuple[RankingInputs, Any]:
    users = len(BEHAVIOUR)
    padded = torch.full((users, MAX_BEHAVIOUR), PADDING)
    for row, own in enumerate(BEHAVIOUR):
        padded[row, : len(own)] = torch.tensor(own, dtype=torch.long)
    sizes, width = towers.embeddings.sizes, towers.embeddings.dimension
    attributes = torch.zeros(users, len(sizes.attributes), dtype=torch.long)
    context = torch.zeros(users, len(sizes.context), dtype=torch.long)
    form = RankingForm(towers.embeddings, towers.ranking, 20)
    given = (
        padded,
        padded,
        torch.zeros(users, towers.ranking.keys.shape[1] // width, width),
        torch.tensor(CANDIDATES),
        torch.tensor(OWNER),
    )
    return form.inputs(attributes, context, *given), padded.numpy()


def test_it_serves_what_training_reads_of_all_users() -> None:
    towers, transitions = _towers()
    inputs, behaviour = _inputs(towers)
    term = towers.ranking.transitions
    term.adopt(transitions)
    with torch.no_grad():
        found = term(inputs).numpy()
    trained = transitions.of(np.zeros(len(behaviour), dtype=np.int64), behaviour, np.array(OWNER), np.array(CANDIDATES))
    np.testing.assert_allclose(found, START * trained, rtol=1e-3, atol=1e-3)
    assert not found[[4, 6]].any()  # of a user without behaviour, and of an unknown item


def test_training_reads_what_its_users_may_see() -> None:
    towers, transitions = _towers()
    inputs, _ = _inputs(towers)
    term = towers.ranking.transitions
    term.adopt(transitions)
    with torch.no_grad():
        term.weights[1] = 2 / SCALE
        given = torch.arange(len(OWNER), dtype=torch.float32)
        found = term(inputs._replace(transition=given)).numpy()
    weights = np.where(np.array(OWNER) == 1, 2.0, START)
    np.testing.assert_allclose(found, weights * np.arange(len(OWNER)))


def test_a_user_without_behaviour_is_ranked_by_the_cold_expert_alone() -> None:
    towers, transitions = _towers()
    inputs, _ = _inputs(towers)
    before = _logits(towers.ranking, inputs)
    towers.ranking.transitions.adopt(transitions)
    after = _logits(towers.ranking, inputs)
    changed = np.array(OWNER) != 2
    assert np.array_equal(before[~changed], after[~changed])
    assert (before[changed][:-1] != after[changed][:-1]).all()


def test_towers_of_an_earlier_version_are_loaded_without_it() -> None:
    towers, transitions = _towers()
    towers.ranking.transitions.adopt(transitions)
    state = {name: value for name, value in towers.state_dict().items() if ".transitions." not in name}
    towers.load_state_dict(state)
    term = towers.ranking.transitions
    assert not term.sources.any()
    assert not term.targets.any()
    assert (term.weights == START / SCALE).all()


def _logits(experts: Experts, inputs: RankingInputs) -> Any:
    with torch.no_grad():
        return experts.eval()(inputs).numpy()
