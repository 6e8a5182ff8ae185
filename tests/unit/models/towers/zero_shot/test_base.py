"""One suite over all zero-shot towers, and what each is in particular."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.effects.discrepancy import discrepancy
from models.towers.architecture import Architecture, TowerPair
from models.towers.behaviour import condense
from models.towers.forms import RankingForm, ZeroShotForm
from models.towers.registry import ZERO_SHOT
from models.training.cotrain import cotrain
from models.training.losses import ranking_loss, zero_shot_loss
from tests.ranking_checks import Indices
from tests.towers_factory import SIZES, TINY, config, dataset, tiny_mail

B, L, M, D, N = 6, 9, TINY.virtual_vectors, TINY.dimension, len(SIZES.attributes)
PARTS = {
    "effects": [],
    "trained-effects": [],
    "absent": [],
    "none": [],
    "single": ["attributes"],
    "dual": ["attributes", "behaviour"],
    "mail": ["attributes", "behaviour", "discrepancy"],
}
every = pytest.mark.parametrize("name", ZERO_SHOT)
with_a_loss = pytest.mark.parametrize("name", [name for name in ZERO_SHOT if PARTS.get(name) != []])


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _towers(name: Any, seed: int = 0, **changes: Any) -> TowerPair:
    """Beside BaseDNN; those of effects with codes, as if they had been fitted."""
    towers = tiny_mail(seed, ranking="dnn", zero_shot=name, **changes)
    if name in ("effects", "trained-effects"):
        for part in towers.zero_shot.state_dict().values():
            part.normal_(generator=torch.Generator().manual_seed(seed))
    return towers


def _values(users: Any) -> torch.Tensor:
    return torch.stack([torch.arange(users) % size for size in SIZES.attributes], dim=1)


def _warm() -> Any:
    valid = torch.arange(L) < torch.tensor([1, 2, 3, 5, 8, 9]).unsqueeze(1)
    return torch.randn(B, N, D), torch.randn(B, L, D) * valid.unsqueeze(-1), valid


@every
def test_virtual_behaviour_is_m_finite_vectors(name: Any) -> None:
    for users in (1, B):
        virtual = _towers(name).zero_shot(torch.randn(users, N, D), _values(users))
        assert virtual.shape == (users, M, D)
        assert torch.isfinite(virtual).all()


@every
def test_each_user_is_answered_as_if_alone(name: Any) -> None:
    tower, attributes, values = _towers(name).zero_shot, torch.randn(B, N, D), _values(B)
    alone = torch.cat([tower(attributes[user : user + 1], values[user : user + 1]) for user in range(B)])
    torch.testing.assert_close(tower(attributes, values), alone)


@every
def test_a_seed_gives_the_same_tower(name: Any) -> None:
    attributes, values = torch.randn(B, N, D), _values(B)
    one, same, other = (_towers(name, seed).zero_shot(attributes, values) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert name == "absent" or not torch.equal(one, other)


@every
def test_unknown_attributes_are_answered(name: Any) -> None:
    towers = _towers(name)
    form = ZeroShotForm(towers.embeddings, towers.zero_shot)
    assert torch.isfinite(form(torch.zeros(2, N, dtype=torch.long))).all()


@every
def test_no_gradient_of_the_zero_shot_loss_reaches_the_table(name: Any) -> None:
    towers = _towers(name)
    attributes = towers.embeddings.attributes(torch.tensor([[4, 3, 2], [1, 0, 1]]))
    behaviour, valid = towers.embeddings.behaviour(torch.tensor([[5, 6], [7, 0]]), torch.tensor([[2, 3], [1, 0]]))
    parts = zero_shot_loss(towers.zero_shot, attributes, behaviour, valid)
    if parts:
        torch.stack(list(parts.values())).sum().backward()
    assert all(parameter.grad is None for parameter in towers.embeddings.parameters())


@every
def test_either_optimiser_owns_each_parameter_and_the_ranking_one_the_table(name: Any) -> None:
    towers = _towers(name)
    zero_shot = {id(parameter) for parameter in towers.of_zero_shot_optimiser()}
    ranking = {id(parameter) for parameter in towers.of_ranking_optimiser()}
    assert zero_shot | ranking == {id(parameter) for parameter in towers.parameters()}
    assert not zero_shot & ranking
    assert {id(parameter) for parameter in towers.embeddings.parameters()} <= ranking
    own = {id(parameter) for parameter in towers.zero_shot.parameters()}
    assert own <= (ranking if towers.learns_by_ranking else zero_shot)


@every
def test_every_parameter_has_a_loss_that_trains_it(name: Any) -> None:
    towers = _towers(name, dropout=0.0).train()
    parts = zero_shot_loss(towers.zero_shot, *_warm())
    for part in parts.values():
        assert part.shape == ()
        assert torch.isfinite(part)
    if towers.learns_by_ranking:
        assert not parts
        _ranking_loss(towers).backward()
    elif parts:
        torch.stack(list(parts.values())).sum().backward()
    assert [which for which, each in towers.zero_shot.named_parameters() if each.grad is None] == []


@with_a_loss
def test_padding_never_changes_the_loss(name: Any) -> None:
    tower = _towers(name).zero_shot
    attributes, behaviour, valid = _warm()
    once = zero_shot_loss(tower, attributes, behaviour, valid)
    garbage = torch.where(valid.unsqueeze(-1), behaviour, 99.0)
    longer = torch.cat([garbage, torch.full((B, 4, D), -7.0)], dim=1)
    more = zero_shot_loss(tower, attributes, longer, torch.cat([valid, torch.zeros(B, 4, dtype=torch.bool)], dim=1))
    for part, value in once.items():
        torch.testing.assert_close(more[part], value)


@with_a_loss
def test_training_lowers_the_loss(name: Any) -> None:
    tower, given = _towers(name, dropout=0.0).zero_shot.train(), _warm()
    optimiser = torch.optim.Adam(tower.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = torch.stack(list(zero_shot_loss(tower, *given).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@every
def test_it_is_cotrained_with_a_ranking_tower(name: Any) -> None:
    data, split = dataset()
    steps: list[Any] = []
    settings = config(architecture=_architecture(name), epochs=1, rows=1500)
    trained = cotrain(data, split, settings, steps.append)
    assert set(steps[-1].losses) == {*PARTS.get(name, []), "ranking"} or name not in PARTS
    assert np.isfinite(trained.mean_virtual).all()
    assert trained.mean_virtual.any() == (name != "absent")


@pytest.mark.parametrize(("name", "parts"), PARTS.items())
def test_the_parts_of_the_loss_are_equations_3_to_5(name: Any, parts: Any) -> None:
    tower, (attributes, behaviour, valid) = _towers(name).zero_shot, _warm()
    found = zero_shot_loss(tower, attributes, behaviour, valid)
    assert list(found) == parts
    condensed = condense(behaviour, valid, M)

    def rebuilding(code: Any) -> Any:
        return np.mean(
            [
                sum(
                    np.sum((decode(code)[user].detach().numpy() - target[user].flatten().numpy()) ** 2)
                    for decode, target in ((tower.decode_attributes, attributes), (tower.decode_behaviour, condensed))
                )
                for user in range(B)
            ]
        )

    p = q = torch.zeros(0)
    if "attributes" in parts:
        p = tower.encode_attributes(tower.attend_attributes(attributes))
        assert found["attributes"].item() == pytest.approx(rebuilding(p), rel=1e-5)
    if "behaviour" in parts:
        q = tower.encode_behaviour(tower.attend_behaviour(behaviour, valid))
        assert found["behaviour"].item() == pytest.approx(rebuilding(q), rel=1e-5)
    if "discrepancy" in parts:
        assert found["discrepancy"].item() == pytest.approx(discrepancy(p, q).item(), abs=1e-6)


def test_none_is_a_linear_map_from_attributes() -> None:
    tower, attributes = _towers("none").zero_shot, torch.randn(B, N, D)
    weight, bias = tower.map.weight.detach().numpy(), tower.map.bias.detach().numpy()
    expected = attributes.flatten(1).numpy() @ weight.T + bias
    np.testing.assert_allclose(tower(attributes).detach().flatten(1).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_ranking_loss_trains_none_and_no_other() -> None:
    for name in PARTS:
        towers = _towers(name).train()
        _ranking_loss(towers).backward()
        owned = {id(parameter) for parameter in towers.of_ranking_optimiser()}
        assert all((id(each) in owned) == (name == "none") for each in towers.zero_shot.parameters()), name


def test_single_has_nothing_that_reads_behaviour_and_dual_has_what_mail_has() -> None:
    single, dual, mail = (
        {key for key, _ in _towers(name).zero_shot.named_parameters()} for name in ("single", "dual", "mail")
    )
    assert single < dual == mail
    assert not any("behaviour" in key and "decode" not in key for key in single)


def test_absent_is_the_ranking_tower_without_virtual_behaviour() -> None:
    towers, inputs = _towers("absent"), Indices.drawn()
    virtual = ZeroShotForm(towers.embeddings, towers.zero_shot)(inputs.attributes)
    assert not virtual.any()
    assert not list(towers.zero_shot.parameters())


def _architecture(name: Any) -> Architecture:
    return replace(TINY, zero_shot=name)


def _ranking_loss(towers: Any) -> torch.Tensor:
    inputs = Indices.drawn((0, 1, 20))
    virtual = ZeroShotForm(towers.embeddings, towers.zero_shot)(inputs.attributes)
    logits = RankingForm(towers.embeddings, towers.ranking, 4).logits(
        inputs.attributes, inputs.context, inputs.items, inputs.actions, virtual, inputs.candidates, inputs.owner
    )
    return ranking_loss(logits, (torch.arange(len(logits)) % 2).float())
