from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.runtime.encoding import PADDING
from models.towers.architecture import TowerPair
from models.towers.behaviour import Taste, condense
from models.towers.embeddings import Embeddings, Sizes
from models.towers.forms import RankingForm, ZeroShotForm
from models.towers.ranking.base import RankingInputs, TowerShape
from models.towers.ranking.dnn import BaseDNN
from models.towers.zero_shot.attention import AttentionPooling
from models.towers.zero_shot.autoencoder import ResidualDecoder, ResidualEncoder
from tests.towers_factory import SIZES, TINY, tiny_mail

U, L, D = 5, 7, 4


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _paper() -> TowerPair:
    """MAIL-Base."""
    return tiny_mail(ranking="dnn", zero_shot="mail")


def _valid(lengths: list[int], positions: int = L) -> Tensor:
    return torch.arange(positions) < torch.tensor(lengths).unsqueeze(1)


def _leaky(x: Any) -> Any:
    return np.where(x > 0, x, 0.01 * x)


def _dense(layer: nn.Linear, x: Any) -> Any:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def test_attention_is_equations_1_and_2() -> None:
    pool = AttentionPooling(D, 6)
    x, lengths = torch.randn(U, L, D), [7, 3, 1, 5, 2]
    found = pool(x, _valid(lengths)).detach().numpy()
    z = pool.score.weight.detach().numpy()[0]
    for row, length in enumerate(lengths):
        own = x[row, :length].numpy()
        scores = np.exp(np.tanh(_dense(pool.project, own)) @ z)
        np.testing.assert_allclose(found[row], (scores / scores.sum()) @ own, rtol=1e-5, atol=1e-6)


def test_attention_ignores_padding_and_gives_zeros_for_nothing_else() -> None:
    pool = AttentionPooling(D, 6)
    x, valid = torch.randn(U, L, D), _valid([0, 3, 0, 7, 2])
    other = torch.where(valid.unsqueeze(-1), x, 1000 * torch.randn_like(x)).requires_grad_()
    found = pool(other, valid)
    assert torch.equal(found, pool(x, valid))
    assert not found[[0, 2]].any()
    found.sum().backward()
    assert other.grad is not None
    assert torch.isfinite(other.grad).all()
    assert not other.grad[~valid].any()


def test_attention_without_a_mask_takes_all() -> None:
    pool, x = AttentionPooling(D, 6), torch.randn(U, L, D)
    torch.testing.assert_close(pool(x), pool(x, _valid([L] * U)))


def test_residual_encoder_is_equation_15() -> None:
    encoder = ResidualEncoder(D, first=9, second=8, code=6).eval()
    h = torch.randn(U, D)
    x = h.numpy()
    z1 = _leaky(_dense(encoder.first, x))
    z2 = _leaky(_dense(encoder.second, np.hstack([z1, x])))
    expected = _leaky(_dense(encoder.third, np.hstack([z2, x])))
    np.testing.assert_allclose(encoder(h).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_residual_decoder_is_equation_16_with_a_linear_output() -> None:
    decoder = ResidualDecoder(10, first=9, second=8, code=6).eval()
    p = torch.randn(U, 6)
    x = p.numpy()
    z3 = _leaky(_dense(decoder.first, x))
    z4 = _leaky(_dense(decoder.second, np.hstack([z3, x])))
    expected = _dense(decoder.third, np.hstack([z4, x]))
    np.testing.assert_allclose(decoder(p).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("vectors", [1, 2, 3, 4, L])
def test_condensed_behaviour_pools_to_the_same_sum(vectors: Any) -> None:
    valid = _valid([0, 1, 2, 5, 7])
    behaviour = torch.randn(U, L, D) * valid.unsqueeze(-1)
    condensed = condense(behaviour, valid, vectors)
    assert condensed.shape == (U, vectors, D)
    torch.testing.assert_close(condensed.sum(dim=1), behaviour.sum(dim=1))


def test_as_many_vectors_as_behaviours_is_the_papers_padded_sequence() -> None:
    valid = _valid([0, 1, 2, 5, 7])
    behaviour = torch.randn(U, L, D) * valid.unsqueeze(-1)
    assert torch.equal(condense(behaviour, valid, L), behaviour)


def test_condensed_stretches_are_consecutive_and_even() -> None:
    behaviour = torch.eye(6).unsqueeze(0)
    members = condense(behaviour, torch.ones(1, 6, dtype=torch.bool), 3)[0]
    assert members.tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]


def test_padding_never_reaches_condensed_behaviour() -> None:
    valid, behaviour = _valid([0, 1, 2, 5, 7]), torch.randn(U, L, D)
    other = torch.where(valid.unsqueeze(-1), behaviour, 99.0)
    assert torch.equal(condense(other, valid, 3), condense(behaviour * valid.unsqueeze(-1), valid, 3))


def _taste(lengths: Any, warm_after: Any, virtual: Any = None) -> Taste:
    valid = _valid(lengths)
    items = torch.randint(1, SIZES.items, (len(lengths), L)).where(valid, PADDING)
    actions = torch.randint(1, SIZES.actions, (len(lengths), L))
    virtual = torch.randn(len(lengths), 3, TINY.dimension) if virtual is None else virtual
    return Taste(_paper().embeddings, items, actions, virtual, warm_after)


def _pooled(taste: Any) -> Any:
    return (taste.weights.unsqueeze(1) @ taste.vectors).squeeze(1)


def _real(taste: Any) -> Any:
    return taste.embeddings.behaviour(taste.items, taste.actions)[0].sum(dim=1)


def test_warm_after_one_is_the_papers_flag() -> None:
    taste = _taste([0, 1, 2, 5, 7], warm_after=1)
    assert set(taste.weights.unique().tolist()) == {0.0, 1.0}
    pooled = _pooled(taste)
    torch.testing.assert_close(pooled[0], taste.virtual[0].sum(dim=0))
    torch.testing.assert_close(pooled[1:], _real(taste)[1:])


def test_while_warming_real_behaviour_counts_as_far_as_it_was_seen() -> None:
    taste = _taste([0, 1, 2, 4, 7], warm_after=4)
    weight = torch.tensor([0, 0.25, 0.5, 1, 1]).unsqueeze(1)
    torch.testing.assert_close(_pooled(taste), (1 - weight) * taste.virtual.sum(dim=1) + weight * _real(taste))


def test_who_has_no_virtual_behaviour_has_the_real_one_in_full() -> None:
    virtual = torch.randn(U, 3, TINY.dimension)
    virtual[1:4] = 0
    taste = _taste([0, 0, 1, 3, 1], warm_after=4, virtual=virtual)
    assert taste.share.squeeze(1).tolist() == [0, 1, 1, 1, 0.25]
    assert not taste.weights[1].any()
    torch.testing.assert_close(_pooled(taste)[1:4], _real(taste)[1:4])


def test_a_virtual_vector_of_zeros_is_none() -> None:
    virtual = torch.randn(U, 3, TINY.dimension)
    virtual[:, 1] = 0
    weights = _taste([0, 1, 2, 4, 7], warm_after=4, virtual=virtual).weights
    assert weights[1, :4].tolist() == [0.75, 0, 0.75, 0.25]


@pytest.mark.parametrize("most_kinds", [0, 1 << 18])
def test_pooling_without_the_sequence_is_the_sum_of_the_sequence_and_so_are_its_gradients(
    monkeypatch: pytest.MonkeyPatch, most_kinds: Any
) -> None:
    monkeypatch.setattr("models.towers.embeddings.MOST_KINDS", most_kinds)
    taste = _taste([0, 1, 2, 4, 7], warm_after=4)
    weights = torch.randn(U, TINY.dimension)
    table = list(taste.embeddings.items.parameters()) + list(taste.embeddings.actions.parameters())
    fast, slow = taste.pooled, _pooled(taste)
    torch.testing.assert_close(fast, slow)
    for one, other in zip(
        torch.autograd.grad((fast * weights).sum(), table),
        torch.autograd.grad((slow * weights).sum(), table),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_positions_count_from_the_newest_and_tell_virtual_from_real() -> None:
    positions = _taste([0, 1, 2, 4, 7], warm_after=4).positions
    assert positions[:, :3].tolist() == [[2, 1, 0]] * U
    assert positions[3, 3:7].tolist() == [6, 5, 4, 3]
    assert positions[4, 3:].tolist() == [9, 8, 7, 6, 5, 4, 3]
    assert positions.min() >= 0
    assert positions.max() < 3 + L


def test_actions_of_the_sequence_are_those_of_real_behaviour() -> None:
    taste = _taste([0, 1, 2, 4, 7], warm_after=4)
    assert not taste.action_vectors[:, :3].any()
    assert torch.equal(taste.action_vectors[:, 3:], taste.embeddings.actions.weight[taste.actions])


def test_behaviour_is_item_times_action_and_padding_is_zero() -> None:
    embeddings = _paper().embeddings
    items, actions = torch.tensor([[5, 1, 0]]), torch.tensor([[2, 1, 0]])
    behaviour, valid = embeddings.behaviour(items, actions)
    torch.testing.assert_close(behaviour[0, 0], embeddings.items.weight[5] * embeddings.actions.weight[2])
    assert valid.tolist() == [[True, True, False]]
    assert not behaviour[0, 2].any()
    assert behaviour[0, 1].any(), "an unknown item has an embedding of its own"


def test_a_target_is_its_own_vector_and_those_of_its_attributes() -> None:
    embeddings = _paper().embeddings
    items = torch.tensor([1, 7])
    target = embeddings.target(items)
    torch.testing.assert_close(target[:, 0], embeddings.items.weight[items])
    of_genre = embeddings.item_attributes.table.weight[embeddings.item_features[items, 0]]
    torch.testing.assert_close(target[:, 1], of_genre)


def test_fields_do_not_share_rows() -> None:
    embeddings = _paper().embeddings
    first = embeddings.attributes(torch.tensor([[4, 3, 2]]))
    assert len({tuple(vector.tolist()) for vector in first[0]}) == 3
    assert embeddings.attributes(torch.tensor([[0, 0, 0]])).shape == (1, 3, TINY.dimension)


def test_groups_without_fields_are_empty() -> None:
    sizes = Sizes(attributes=(3,), context=(), items=9, actions=3, item_attributes=())
    embeddings = Embeddings(sizes, torch.zeros(9, 0, dtype=torch.long), D)
    assert embeddings.context(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0, D)
    assert embeddings.target(torch.tensor([4, 5])).shape == (2, 1, D)


def test_zero_shot_tower_is_equation_8_and_its_reconstruction_agrees() -> None:
    tower = _paper().zero_shot
    attributes, valid = torch.randn(U, 3, 8), _valid([7, 3, 1, 5, 2])
    virtual = tower(attributes)
    assert virtual.shape == (U, 3, 8)
    code = tower.encode_attributes(tower.attend_attributes(attributes))
    torch.testing.assert_close(virtual.flatten(1), tower.decode_behaviour(code))
    from_p, from_q = tower.from_attributes(attributes), tower.from_behaviour(torch.randn(U, L, 8), valid)
    torch.testing.assert_close(from_p.behaviour, virtual)
    assert from_q.attributes.shape == (U, 3, 8)
    assert from_p.code.shape == from_q.code.shape == (U, 16)


def test_base_dnn_is_equations_11_and_12() -> None:
    dimension = TINY.dimension
    tower = BaseDNN(TowerShape(dimension, 3, 2, 2, L, 3, items=9, hidden=(6, 5)))
    inputs = RankingInputs(
        attributes=torch.randn(U, 3, dimension),
        context=torch.randn(U, 2, dimension),
        taste=_taste([0, 1, 2, 5, 7], warm_after=2),
        target=torch.randn(8, 2, dimension),
        candidates=torch.arange(8),
        owner=torch.tensor([4, 0, 0, 1, 2, 3, 3, 4]),
    )
    tower.train()
    tower(inputs)  # batch normalisation learns some statistics
    tower.eval()
    user = np.hstack([inputs.attributes.sum(1), inputs.context.sum(1), _pooled(inputs.taste).detach()])
    x = np.hstack([user[inputs.owner], inputs.target.sum(1)])
    blocks: Any = tower.perceptron.blocks
    for _, dense, norm, _ in blocks:
        x = _dense(dense, x)
        mean, var = norm.running_mean.numpy(), norm.running_var.numpy()
        x = _leaky((x - mean) / np.sqrt(var + norm.eps) * norm.weight.detach().numpy() + norm.bias.detach().numpy())
    np.testing.assert_allclose(tower(inputs).detach().numpy(), _dense(tower.unit, x)[:, 0], rtol=1e-4, atol=1e-5)


def _ranked(mail: Any, items: Any, actions: Any, virtual: Any, warm_after: int = 2) -> Any:
    form = RankingForm(mail.embeddings, mail.ranking, warm_after).eval()
    users = len(items)
    attributes = torch.tensor([[4, 3, 2]]).expand(users, -1)
    context = torch.ones(users, 1, dtype=torch.long)
    owner = torch.arange(users).repeat_interleave(3)
    return form(attributes, context, items, actions, virtual, torch.tensor([2, 3, 1]).repeat(users), owner).detach()


def test_a_warm_users_answer_does_not_depend_on_virtual_behaviour_and_a_cold_ones_does() -> None:
    mail, items = _paper(), torch.zeros(2, L, dtype=torch.long)
    items[1, :2] = torch.tensor([4, 5])
    actions = (items != PADDING).long()
    one, other = (_ranked(mail, items, actions, torch.randn(2, 3, 8)).view(2, 3) for _ in range(2))
    assert torch.equal(one[1], other[1])
    assert not torch.isclose(one[0], other[0]).all()


def test_an_action_where_there_is_no_item_changes_nothing() -> None:
    mail, items = _paper(), torch.tensor([[4, 5, 0, 0]])
    virtual = torch.randn(1, 3, 8)
    clean = _ranked(mail, items, torch.tensor([[1, 2, 0, 0]]), virtual)
    assert torch.equal(clean, _ranked(mail, items, torch.tensor([[1, 2, 3, 3]]), virtual))


def test_each_optimiser_owns_its_part_and_none_but_the_ranking_one_owns_an_embedding() -> None:
    mail = _paper()
    zero_shot = {id(parameter) for parameter in mail.of_zero_shot_optimiser()}
    ranking = {id(parameter) for parameter in mail.of_ranking_optimiser()}
    table = {id(parameter) for parameter in mail.embeddings.parameters()}
    assert zero_shot | ranking == {id(parameter) for parameter in mail.parameters()}
    assert not zero_shot & ranking
    assert table <= ranking


def test_initialisation_is_xavier_with_zeros_for_padding_and_biases() -> None:
    mail = _paper()
    assert not mail.embeddings.items.weight[PADDING].any()
    assert not mail.embeddings.actions.weight[PADDING].any()
    first = mail.zero_shot.encode_attributes.first
    bound = (6 / (first.in_features + first.out_features)) ** 0.5
    assert 0.8 * bound < first.weight.abs().max() <= bound
    assert not first.bias.any()


def test_any_other_ranking_tower_fits_behind_the_same_form() -> None:
    class DotProduct(nn.Module):
        def forward(self, inputs: RankingInputs) -> Tensor:
            return (inputs.taste.pooled[inputs.owner] * inputs.target[:, 0]).sum(dim=1)

    mail = _paper()
    mail.ranking = DotProduct()
    scores = _ranked(
        mail, torch.zeros(2, L, dtype=torch.long), torch.zeros(2, L, dtype=torch.long), torch.randn(2, 3, 8)
    )
    assert scores.shape == (6,)
    assert ((scores > 0) & (scores < 1)).all()


def test_unknown_and_padding_indices_are_answered() -> None:
    mail = _paper()
    virtual = ZeroShotForm(mail.embeddings, mail.zero_shot)(torch.zeros(2, len(SIZES.attributes), dtype=torch.long))
    assert torch.isfinite(virtual).all()
    assert torch.isfinite(
        _ranked(mail, torch.ones(2, L, dtype=torch.long), torch.ones(2, L, dtype=torch.long), virtual)
    ).all()
