"""What is particular to each ranking tower, against its paper's formula written anew in numpy."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.runtime.encoding import PADDING
from models.towers.behaviour import Taste
from models.towers.perceptron import Dice, Perceptron
from models.towers.ranking.base import RankingInputs, field_vectors
from models.towers.ranking.dcn import CrossLayer
from models.towers.ranking.deepfm import DeepFM, pairwise_products
from models.towers.ranking.din import LocalActivationUnit
from models.towers.ranking.losses import sampled_softmax
from models.towers.ranking.pairs import AllPairs, CountingPairs, pairs_of, weighted_softmax
from tests.towers_factory import SIZES, TINY, tiny_mail

U, L, M, D = 5, 7, TINY.virtual_vectors, TINY.dimension
LENGTHS = (0, 1, 2, 5, 7)
OWNER = (4, 0, 0, 1, 2, 3, 3, 4)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _array(tensor: Any) -> Any:
    return tensor.detach().numpy().astype(np.float64)


def _dense(layer: Any, x: Any) -> Any:
    found = x @ _array(layer.weight).T
    return found if layer.bias is None else found + _array(layer.bias)


def _inputs(towers: Any, warm_after: int = 4) -> Any:
    embeddings = towers.embeddings
    with torch.no_grad():
        for parameter in embeddings.parameters():
            parameter.mul_(5)
    valid = torch.arange(L) < torch.tensor(LENGTHS).unsqueeze(1)
    items = torch.randint(2, SIZES.items, (U, L)).where(valid, PADDING)
    actions = torch.randint(1, SIZES.actions, (U, L)).where(valid, PADDING)
    candidates, owner = torch.randint(2, SIZES.items, (len(OWNER),)), torch.tensor(OWNER)
    return RankingInputs(
        attributes=embeddings.attributes(torch.randint(0, 3, (U, 3))),
        context=embeddings.context(torch.randint(0, 3, (U, 1))),
        taste=Taste(embeddings, items, actions, torch.randn(U, M, D), warm_after),
        target=embeddings.target(candidates),
        candidates=candidates,
        owner=owner,
    )


def _sequence(taste: Any, user: Any) -> Any:
    """Vectors, weights, actions and positions of what counts for one user, worked out place by place."""
    embeddings, seen = taste.embeddings, LENGTHS[user]
    share = min(seen / taste.warm_after, 1)
    found = []
    if share < 1:
        found += [(_array(taste.virtual[user, m]), 1 - share, np.zeros(D), M - 1 - m) for m in range(M)]
    for place in range(seen):
        item = _array(embeddings.items.weight[taste.items[user, place]])
        action = _array(embeddings.actions.weight[taste.actions[user, place]])
        found.append((item * action, share, action, M + seen - 1 - place))
    return found


def _scored(unit: Any, q: Any, k: Any) -> Any:
    """Each query (R, D) with one key (R, D)."""
    return unit(CountingPairs(torch.ones(len(q), 1), torch.arange(len(q))), q, k.unsqueeze(1))


@pytest.mark.parametrize("kind", [CountingPairs, AllPairs])
def test_dins_unit_scores_the_pairs_of_each_candidate(kind: Any) -> None:
    unit, weights = LocalActivationUnit(D, 6, Dice).eval(), torch.tensor([[1.0, 0.0, 0.5], [0.2, 1.0, 1.0]])
    owner, queries, keys = torch.tensor([1, 0, 1]), torch.randn(3, D), torch.randn(2, 3, D)
    pairs = kind(weights, owner)
    found = pairs.total(pairs.weighted(unit(pairs, queries, keys)))
    for row, user in enumerate(owner):
        scores = _scored(unit, queries[[row] * 3], keys[user])
        assert found[row].item() == pytest.approx((scores * weights[user]).sum().item(), rel=1e-4, abs=1e-6)


def test_dins_unit_scores_query_key_difference_and_product() -> None:
    unit = LocalActivationUnit(D, 6, nn.PReLU)
    q, k = torch.randn(4, D), torch.randn(4, D)
    z = _dense(unit.dense, _array(torch.cat([q, k, q - k, q * k], dim=1)))
    expected = _dense(unit.unit, np.where(z > 0, z, 0.25 * z))[:, 0]
    np.testing.assert_allclose(_array(_scored(unit, q, k)), expected, rtol=1e-4, atol=1e-5)


def test_din_sums_behaviour_by_unnormalised_scores_and_the_weights_of_taste() -> None:
    towers = tiny_mail(ranking="din", zero_shot="mail")
    tower, inputs = towers.ranking, _inputs(towers)
    seen = []
    tower.perceptron.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    tower(inputs)
    for row, user in enumerate(OWNER):
        query = inputs.target[row, 0]
        expected = np.zeros(D)
        for vector, weight, _, _ in _sequence(inputs.taste, user):
            score = _scored(tower.attend, query.unsqueeze(0), torch.tensor(vector, dtype=torch.float32).unsqueeze(0))
            expected += weight * score.item() * vector
        fields = _array(seen[0][row]).reshape(-1, D)
        np.testing.assert_allclose(fields[4], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(fields[:3], _array(inputs.attributes[user]))
        np.testing.assert_allclose(fields[5:], _array(inputs.target[row]))


def test_dice_is_a_prelu_gated_by_the_batchs_statistics_and_by_running_ones_afterwards() -> None:
    dice, s = Dice(3), 2 * torch.randn(50, 3) + 1
    with torch.no_grad():
        dice.alpha.copy_(torch.tensor([0.1, -0.2, 0.3]))
    alpha, x = _array(dice.alpha), _array(s)

    def gated(mean: Any, variance: Any) -> Any:
        p = 1 / (1 + np.exp(-(x - mean) / np.sqrt(variance + 1e-8)))
        return p * x + (1 - p) * alpha * x

    np.testing.assert_allclose(_array(dice(s)), gated(x.mean(0), x.var(0)), rtol=1e-4, atol=1e-5)
    running = 0.1 * x.mean(0), 0.9 + 0.1 * x.var(0, ddof=1)
    np.testing.assert_allclose(_array(dice.eval()(s)), gated(*running), rtol=1e-4, atol=1e-5)


def test_dice_answers_in_the_precision_of_its_input() -> None:
    for dice in (Dice(3), Dice(3).eval()):
        with torch.autocast("cpu", torch.bfloat16):
            assert dice(torch.randn(4, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_dice_reads_a_single_row_in_training() -> None:
    assert torch.isfinite(Dice(3)(torch.randn(1, 3))).all()
    assert Dice(3)(torch.randn(0, 3)).shape == (0, 3)


def _softmax(scores: Any, weights: Any) -> Any:
    raised = np.asarray(weights) * np.exp(np.asarray(scores) - np.max(scores))
    return raised / raised.sum()


def _clues(clues: Any, vector: Any, action: Any, position: Any) -> Any:
    place = _array(clues.positions.weight[position])
    return _dense(clues.of_vector, vector) + _dense(clues.of_action, action) + _dense(clues.of_position, place)


def test_dmrs_user_to_item_relevance() -> None:
    towers = tiny_mail(ranking="dmr", zero_shot="mail")
    network, inputs = towers.ranking.user_to_item, _inputs(towers)
    found = _array(network(inputs))
    for row, user in enumerate(OWNER):
        sequence = _sequence(inputs.taste, user)
        scores = [_dense(network.score, np.tanh(_clues(network.clues, v, c, p)))[0] for v, _, c, p in sequence]
        alpha = _softmax(scores, [weight for _, weight, _, _ in sequence])
        z = _dense(network.project, sum(a * v for a, (v, _, _, _) in zip(alpha, sequence, strict=True)))
        state = np.where(z > 0, z, 0.25 * z)
        assert found[row] == pytest.approx(state @ _array(network.targets.weight[inputs.candidates[row]]), abs=1e-5)


def test_dmrs_item_to_item_relevance_is_the_sum_of_the_scores_before_the_softmax() -> None:
    towers = tiny_mail(ranking="dmr", zero_shot="mail")
    network, inputs = towers.ranking.item_to_item, _inputs(towers)
    attended, relevance = (_array(each) for each in network(inputs))
    for row, user in enumerate(OWNER):
        sequence = _sequence(inputs.taste, user)
        query = _dense(network.of_target, _array(inputs.target[row, 0]))
        scores = [_dense(network.unit, np.tanh(query + _clues(network.clues, v, c, p)))[0] for v, _, c, p in sequence]
        weights = [weight for _, weight, _, _ in sequence]
        assert relevance[row] == pytest.approx(np.dot(scores, weights), abs=1e-5)
        expected = sum(a * v for a, (v, _, _, _) in zip(_softmax(scores, weights), sequence, strict=True))
        np.testing.assert_allclose(attended[row], expected, rtol=1e-4, atol=1e-5)


def test_dmrs_auxiliary_loss_tells_the_newest_item_from_the_state_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    towers = tiny_mail(ranking="dmr", zero_shot="mail")
    tower, inputs = towers.ranking, _inputs(towers)
    network, taste = tower.user_to_item, inputs.taste
    drawn = torch.tensor([2, 3, 5, 7, 11, int(taste.items[4, 6])])
    monkeypatch.setattr(torch, "randint", lambda *_, **__: drawn)
    table, expected = _array(network.targets.weight), []
    for user in (2, 3, 4):
        target = int(taste.items[user, LENGTHS[user] - 1])
        real = [each for each in _sequence(taste, user) if each[3] >= M][:-1]
        scores = [_dense(network.score, np.tanh(_clues(network.clues, v, c, p)))[0] for v, _, c, p in real]
        z = _dense(network.project, sum(a * v for a, (v, _, _, _) in zip(_softmax(scores, 1.0), real, strict=True)))
        logits = table[[target, *(item for item in drawn.tolist() if item != target)]] @ np.where(z > 0, z, 0.25 * z)
        expected.append(np.log(np.exp(logits).sum()) - logits[0])
    assert tower.auxiliary_loss(inputs).item() == pytest.approx(0.1 * np.mean(expected), rel=1e-5)


def test_dmrs_auxiliary_loss_is_zero_where_nobody_has_done_two_things() -> None:
    towers = tiny_mail(ranking="dmr", zero_shot="mail")
    inputs = _inputs(towers)
    few = inputs._replace(
        taste=Taste(towers.embeddings, inputs.taste.items[:2], inputs.taste.actions[:2], inputs.taste.virtual[:2], 4)
    )
    assert towers.ranking.auxiliary_loss(few).item() == 0


def test_sampled_softmax_is_cross_entropy_against_the_drawn_without_the_target_itself() -> None:
    states, table = torch.randn(3, 4), torch.randn(9, 4)
    targets, drawn = torch.tensor([5, 6, 7]), torch.tensor([6, 2, 2, 8])
    expected = []
    for state, target in zip(_array(states), targets.tolist(), strict=True):
        logits = [
            _array(table[item]) @ state for item in [target, *(item for item in drawn.tolist() if item != target)]
        ]
        expected.append(np.log(np.sum(np.exp(logits))) - logits[0])
    assert sampled_softmax(states, table, targets, drawn).item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("rank", [None, 2])
def test_a_cross_layer_is_the_first_input_times_a_linear_map_plus_the_last(rank: int | None) -> None:
    layer, first, x = CrossLayer(6, rank), torch.randn(4, 6), torch.randn(4, 6)
    weight = _array(layer.dense.weight) if rank is None else _array(layer.dense.weight) @ _array(layer.into.weight)
    expected = _array(first) * (_array(x) @ weight.T + _array(layer.dense.bias)) + _array(x)
    np.testing.assert_allclose(_array(layer(first, x)), expected, rtol=1e-4, atol=1e-5)
    assert np.linalg.matrix_rank(weight) == (rank or 6)


def test_dcn_stacks_its_layers_beside_the_perceptron() -> None:
    towers = tiny_mail(ranking="dcn", zero_shot="mail")
    tower, inputs = towers.ranking, _inputs(towers)
    first = x = _array(field_vectors(inputs).flatten(1))
    for cross in tower.crosses:
        x = first * _dense(cross.dense, x) + x
    deep = _array(tower.perceptron(field_vectors(inputs).flatten(1)))
    expected = _dense(tower.unit, np.hstack([x, deep]))[:, 0]
    np.testing.assert_allclose(_array(tower(inputs)), expected, rtol=1e-4, atol=1e-4)


def test_pairwise_products_are_those_of_every_pair_of_fields() -> None:
    fields = torch.randn(4, 5, 3)
    expected = [sum(row[i] @ row[j] for i in range(5) for j in range(i)) for row in _array(fields)]
    np.testing.assert_allclose(_array(pairwise_products(fields)), expected, rtol=1e-4, atol=1e-5)


def test_deepfm_is_first_order_and_pairs_and_perceptron() -> None:
    towers = tiny_mail(ranking="deepfm", zero_shot="mail")
    tower, inputs = towers.ranking, _inputs(towers)
    assert isinstance(tower, DeepFM)
    fields = field_vectors(inputs)
    flat = _array(fields.flatten(1))
    deep = _dense(tower.unit, _array(tower.perceptron(fields.flatten(1))))[:, 0]
    pairs = [sum(row[i] @ row[j] for i in range(len(row)) for j in range(i)) for row in _array(fields)]
    expected = _dense(tower.first_order, flat)[:, 0] + deep + pairs
    np.testing.assert_allclose(_array(tower(inputs)), expected, rtol=1e-4, atol=1e-4)


def test_field_vectors_are_attributes_context_pooled_behaviour_and_target() -> None:
    inputs = _inputs(tiny_mail())
    fields = _array(field_vectors(inputs))
    for row, user in enumerate(OWNER):
        pooled = sum(weight * vector for vector, weight, _, _ in _sequence(inputs.taste, user))
        expected = [_array(inputs.attributes[user]), _array(inputs.context[user]), [pooled], _array(inputs.target[row])]
        np.testing.assert_allclose(fields[row], np.vstack(expected), rtol=1e-4, atol=1e-4)


def test_a_scaled_perceptron_does_not_mind_the_size_of_an_input() -> None:
    """DMR's relevance, a sum of up to L scores, drowned the embeddings beside it."""
    x, size = torch.randn(50, 4), torch.tensor([1.0, 1000, 0.1, 30])
    for scaled in (True, False):
        perceptron = Perceptron(4, (6, 5), dropout=0.0, scaled=scaled)
        near = torch.isclose(perceptron(x), perceptron(x * size), atol=1e-2).all()
        assert near == scaled
    assert [
        tiny_mail(ranking=name, zero_shot="mail").ranking.perceptron.scale.__class__.__name__
        for name in ("din", "dmr", "dnn")
    ] == [
        "BatchNorm1d",
        "BatchNorm1d",
        "Identity",
    ]


def test_weighted_softmax_leaves_out_weight_zero_and_gives_zeros_for_nothing() -> None:
    scores, weights = torch.tensor([[1.0, 2, 900], [1, 2, 3]]), torch.tensor([[1.0, 0.5, 0], [0, 0, 0]])
    scores.requires_grad_()
    found = weighted_softmax(scores, weights)
    np.testing.assert_allclose(_array(found[0, :2]), _softmax([1, 2], [1, 0.5]), rtol=1e-6)
    assert not found[0, 2]
    assert not found[1].any()
    found[:, 0].sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_pairs_that_count_give_what_all_pairs_give() -> None:
    """With fractions as weights, a user of whom nothing counts, one without candidates, and repeated owners."""
    weights = torch.tensor([[1.0, 0, 0.5], [0, 0, 0], [0.2, 1, 1], [1, 1, 1]])
    owner, queries, vectors = torch.tensor([2, 0, 1, 0, 2]), torch.randn(5, 4), torch.randn(4, 3, 4)
    shapes, found = [], []

    for kind in (CountingPairs, AllPairs):
        given = vectors.clone().requires_grad_()
        pairs = kind(weights, owner)
        product = pairs.of_candidates(queries) * pairs.of_sequence(given)
        shapes.append(product.shape)
        scores = product.sum(dim=-1)
        summed, soft = pairs.weighted(scores), pairs.softmax(scores)
        answers = [pairs.total(summed), pairs.total(soft), pairs.attend(summed, given), pairs.attend(soft, given)]
        torch.cat([answer.flatten() for answer in answers]).square().sum().backward()
        found.append([*answers, given.grad])
    assert shapes == [(10, 4), (5, 3, 4)]
    for counting, everything in zip(*found, strict=True):
        torch.testing.assert_close(counting, everything)
    total, ones, _, attended, gradient = found[0]
    assert ones.tolist() == pytest.approx([1, 1, 0, 1, 1])
    assert total[1].item() == pytest.approx((queries[1] @ (vectors[0, 0] + 0.5 * vectors[0, 2])).item(), rel=1e-5)
    products = [(queries[1] @ vectors[0, place]).item() for place in (0, 2)]
    expected = sum(a * _array(vectors[0, place]) for a, place in zip(_softmax(products, [1, 0.5]), (0, 2), strict=True))
    np.testing.assert_allclose(_array(attended[1]), expected, rtol=1e-4, atol=1e-5)
    assert not gradient[1].any()
    assert not gradient[3].any()


def test_pairs_of_users_for_whom_nothing_counts() -> None:
    pairs = CountingPairs(torch.zeros(2, 3), torch.tensor([0, 1, 1]))
    scores = (pairs.of_candidates(torch.randn(3, 4)) * pairs.of_sequence(torch.randn(2, 3, 4))).sum(dim=-1)
    assert pairs.total(pairs.softmax(scores)).tolist() == [0, 0, 0]
    assert torch.equal(pairs.attend(scores, torch.randn(2, 3, 4)), torch.zeros(3, 4))


def test_a_graph_for_export_makes_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, owner = torch.ones(1, 2), torch.tensor([0])
    assert isinstance(pairs_of(weights, owner), CountingPairs)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert isinstance(pairs_of(weights, owner), AllPairs)
