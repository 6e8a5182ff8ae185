"""The rivals that make up a behaviour, against numpy."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import expit, logsumexp

from foretaste.kernel.errors import InvalidInput
from models.data.histories import Histories
from models.rivals.base import Base, WarmUsers, base_config, base_of
from models.rivals.cmclrec import CMCLRec, info_nce
from models.rivals.generator import Generator, minimise, shuffled
from models.rivals.linear import LLAE, RIDGE, EmbLR, beyond, low_rank_map
from models.rivals.mean_behaviour import MeanBehaviour
from models.rivals.metaemb import MetaEmb, TaskRows, _Tasks, meta_loss
from models.training.loop import NonFiniteLoss
from tests import towers_factory
from tests.rivals_factory import base, fitted, material, material_of, questions


def _warm(newest: int = 100) -> Any:
    trained = base_of(material(), base())
    return trained, WarmUsers.of(trained, material(), newest)


@pytest.mark.parametrize("newest", [100, 3])
def test_the_behaviour_of_warm_users_is_the_sum_of_their_newest_before_the_split(newest: int) -> None:
    trained, warm = _warm(newest)
    learned, table = material(), trained.trained.model.embeddings
    actions, items = table.actions.weight.detach().numpy(), table.items.weight.detach().numpy()
    frame = learned.split.train.sort_values("time_ms", kind="stable")
    for row in range(0, len(warm.users), 11):
        user = learned.dataset.users["user_id"].iloc[warm.users[row]]
        own = frame[frame["user_id"] == user].tail(newest)
        codes = learned.encoding.encode_items(own["item_id"].tolist())
        done = learned.encoding.encode_actions(own["action"].tolist())
        np.testing.assert_allclose(
            warm.behaviour[row], (items[codes] * actions[done]).sum(axis=0), rtol=1e-4, atol=1e-6
        )
    with_events = learned.dataset.user_rows(frame["user_id"].unique().tolist())
    assert warm.users.tolist() == sorted(with_events.tolist())


def test_pooled_behaviour_reaches_the_tower_as_virtual_vectors_that_sum_to_it() -> None:
    trained, warm = _warm()
    virtual = trained.virtual(warm.behaviour)
    assert virtual.shape == (len(warm.users), 2, towers_factory.TINY.dimension)
    np.testing.assert_allclose(virtual.sum(dim=1).numpy(), warm.behaviour)


def test_mean_behaviour_is_the_mean_of_the_warm_users() -> None:
    _, warm = _warm()
    made = fitted("mean-behaviour").impute(np.zeros((4, 3), dtype=np.int64))
    np.testing.assert_allclose(made, np.tile(warm.behaviour.mean(axis=0), (4, 1)), rtol=1e-5)


def test_emblr_is_ridge_regression_with_an_intercept() -> None:
    trained, warm = _warm()
    a, v = warm.vectors.astype(np.float64), warm.behaviour.astype(np.float64)
    centred = a - a.mean(axis=0)
    w = np.linalg.solve(centred.T @ centred + 7.0 * np.eye(a.shape[1]), centred.T @ (v - v.mean(axis=0)))
    asked = questions().attributes[:9]
    expected = v.mean(axis=0) + (trained.attribute_vectors(asked) - a.mean(axis=0)) @ w
    made = EmbLR(penalty=7.0, base=base()).fit(material()).impute(asked)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


def _planted(users: int = 300, attributes: int = 7, behaviour: int = 5, rank: int = 2, seed: int = 0) -> Any:
    """S (K, U), and X (D, U) that depends on it through a map of this rank."""
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(attributes, users))
    mapping = rng.normal(size=(behaviour, rank)) @ rng.normal(size=(rank, attributes))
    return s, mapping @ s + 0.1 * rng.normal(size=(behaviour, users))


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_llae_solves_its_sylvester_equation(weight: float) -> None:
    """Against the equation written out for all entries of W at once: (I ⊗ A + Bᵀ ⊗ I) vec W = vec C."""
    s, x = _planted()
    method = LLAE(rank=2, weight=weight, balance=0.7, rounds=200, base=base())
    w = low_rank_map(s, x, method)
    users = s.shape[1]
    a = s @ s.T / users + RIDGE * np.eye(7) + weight * beyond(w, 2)
    b, c = 0.7 * x @ x.T / users, 1.7 * s @ x.T / users
    flat = np.linalg.solve(np.kron(np.eye(5), a) + np.kron(b.T, np.eye(7)), c.ravel(order="F"))
    np.testing.assert_allclose(w, flat.reshape((7, 5), order="F"), rtol=1e-4, atol=1e-6)


def test_llae_is_where_its_loss_is_least() -> None:
    s, x = _planted()
    method = LLAE(rank=2, weight=3.0, balance=0.7, rounds=200, base=base())
    w = low_rank_map(s, x, method)

    def loss(at: Any) -> Any:
        small = np.linalg.svd(at, compute_uv=False)[2:]
        misses = np.square(x - at.T @ s).sum() + 0.7 * np.square(at @ x - s).sum()
        return misses / s.shape[1] + 3.0 * np.square(small).sum()

    rng = np.random.default_rng(1)
    assert all(loss(w + 0.01 * rng.normal(size=w.shape)) > loss(w) for _ in range(50))


def test_the_low_rank_loss_takes_away_the_smallest_singular_values_of_w() -> None:
    s, x = _planted(rank=5)
    free, bound = (
        np.linalg.svd(low_rank_map(s, x, LLAE(rank=2, weight=weight, base=base())), compute_uv=False)
        for weight in (0.0, 1e6)
    )
    assert free[2] > 0.05
    assert bound[2] < 1e-4 * bound[1]


def test_llae_finds_a_planted_map_of_low_rank() -> None:
    """With next to no weight on the encoder, whose transpose need not be the planted map."""
    s, x = _planted()
    made = low_rank_map(s[:, :200], x[:, :200], LLAE(rank=2, balance=1e-3, base=base())).T @ s[:, 200:]
    assert np.corrcoef(made.ravel(), x[:, 200:].ravel())[0, 1] > 0.99


def test_collinear_attributes_still_have_one_solution() -> None:
    s, x = _planted()
    w = low_rank_map(np.concatenate([s, s[:2]]), x, LLAE(rank=2, weight=0.0, base=base()))
    np.testing.assert_allclose(w[:2], w[-2:], atol=1e-4)


def test_llae_maps_standardised_attributes_to_standardised_behaviour() -> None:
    trained, warm = _warm()
    method = LLAE(rank=3, base=base())
    a, v = (values.astype(np.float64) for values in (warm.vectors, warm.behaviour))

    def deviation(values: Any) -> npt.NDArray[Any]:
        return np.where(values.std(axis=0) > 1e-9, values.std(axis=0), 1.0)

    w = low_rank_map(((a - a.mean(axis=0)) / deviation(a)).T, ((v - v.mean(axis=0)) / deviation(v)).T, method)
    asked = questions().attributes[:9]
    standardised = (trained.attribute_vectors(asked) - a.mean(axis=0)) / deviation(a)
    expected = v.mean(axis=0) + deviation(v) * (standardised @ w)
    np.testing.assert_allclose(method.fit(material()).impute(asked), expected, rtol=1e-3, atol=1e-4)


def test_info_nce_is_a_softmax_over_users_that_leaves_twins_out() -> None:
    rng = np.random.default_rng(0)
    mapped, real = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    kinds = np.array([0, 1, 1, 2, 3, 0])
    terms = []
    for user in range(6):
        others = [other for other in range(6) if other == user or kinds[other] != kinds[user]]
        cosines = [
            mapped[user] @ real[other] / np.linalg.norm(mapped[user]) / np.linalg.norm(real[other]) / 0.3
            for other in others
        ]
        terms.append(logsumexp(cosines) - cosines[others.index(user)])
    found = info_nce(torch.from_numpy(mapped), torch.from_numpy(real), torch.from_numpy(kinds), 0.3)
    assert found.item() == pytest.approx(np.mean(terms))


def test_only_twins_in_a_batch_leave_nothing_to_tell_apart() -> None:
    rows = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert info_nce(rows, rows, torch.zeros(3, dtype=torch.int64), 0.1).item() == pytest.approx(0)


class _Logistic:
    """A base of which all is known: logit = behaviour · vector of the candidate."""

    def __init__(self, vectors: Any) -> None:
        self._vectors = torch.from_numpy(vectors)
        architecture = SimpleNamespace(virtual_vectors=1, dimension=vectors.shape[1])
        self.config, self.ranking = SimpleNamespace(architecture=architecture), self

    def logits(
        self, _attributes: Any, _context: Any, _items: Any, _actions: Any, virtual: Any, candidates: Any, owner: Any
    ) -> Any:
        return (virtual[owner].sum(dim=1) * self._vectors[candidates]).sum(dim=1)


def _rows(users: Any, candidates: Any, labels: Any) -> TaskRows:
    moments = torch.arange(len(users))
    nothing = torch.zeros(len(users), 0, dtype=torch.int64)
    return TaskRows(torch.tensor(users), nothing, nothing, torch.tensor(candidates), torch.tensor(labels), moments)


def test_the_meta_loss_is_that_before_and_after_one_gradient_step() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 3)).astype(np.float32)
    made = rng.normal(size=(2, 3)).astype(np.float32)
    cold = {0: ([0, 1, 2], [1.0, 0.0, 0.0]), 1: ([3, 4], [0.0, 1.0])}
    after = {0: ([5, 3], [1.0, 0.0]), 1: ([2, 0, 1], [0.0, 0.0, 1.0])}

    def loss(behaviour: Any, items: Any, labels: Any) -> Any:
        p = expit(vectors[items] @ behaviour)
        return -np.mean(np.log(np.where(np.array(labels) == 1, p, 1 - p)))

    alpha, rate = 0.3, 2.0
    terms = []
    for user in (0, 1):
        items, labels = cold[user]
        gradient = vectors[items].T @ (expit(vectors[items] @ made[user]) - labels) / len(items)
        later = loss(made[user] - rate * gradient, *after[user])
        terms.append(alpha * loss(made[user], *cold[user]) + (1 - alpha) * later)

    def side(batch: Any) -> TaskRows:
        rows = [(user, *row) for user, columns in batch.items() for row in zip(*columns, strict=True)]
        return _rows(*map(list, zip(*rows, strict=True)))

    behaviour = torch.from_numpy(made).requires_grad_()
    method = MetaEmb(alpha=alpha, inner_rate=rate, base=base())
    trained: Any = _Logistic(vectors)
    found = meta_loss(Base(trained), behaviour, side(cold), side(after), method)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, behaviour)
    assert gradient.abs().sum() > 0


def test_metaemb_learns_through_the_gradient_step() -> None:
    """The gradient of the meta-loss, second order and all, against differences of the loss."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(4, 3)).astype(np.float32)
    cold, after = _rows([0, 0], [0, 1], [1.0, 0.0]), _rows([0, 0], [2, 3], [0.0, 1.0])
    method = MetaEmb(alpha=0.0, inner_rate=3.0, base=base())

    def loss(at: Any) -> Any:
        behaviour = torch.tensor(at[None], dtype=torch.float32).requires_grad_()
        trained: Any = _Logistic(vectors)
        return behaviour, meta_loss(Base(trained), behaviour, cold, after, method)

    at = rng.normal(size=3)
    behaviour, value = loss(at)
    (gradient,) = torch.autograd.grad(value, behaviour)
    steps = 1e-2 * np.eye(3)
    differences = [(loss(at + step)[1].item() - loss(at - step)[1].item()) / 2e-2 for step in steps]
    np.testing.assert_allclose(gradient.numpy()[0], differences, atol=2e-3)


@pytest.mark.parametrize("labels", [False, True])
def test_a_task_is_two_sides_of_one_users_own_rows(labels: bool) -> None:
    learned = material_of(*towers_factory.dataset(labels=labels))
    rows = learned.dataset.user_rows(learned.split.train["user_id"])
    items = learned.encoding.encode_items(learned.split.train["item_id"].tolist())
    users = np.unique(rows[learned.split.train["label"].to_numpy() == 1])
    warm: Any = SimpleNamespace(users=users)
    method = MetaEmb(positives=2, negatives=3, base=base())
    tasks = _Tasks.of(learned, warm, method, np.random.default_rng(0))
    part = np.arange(20)
    sides = [(side, side.users[side.owner].numpy()) for side in tasks.draw(part)]
    assert len(sides) == 2
    met = {user: set(items[rows == user].tolist()) for user in users}
    for side, whose in sides:
        for user in part:
            own, judged = side.candidates.numpy()[whose == user], side.labels.numpy()[whose == user]
            assert len(own) == 8
            known = met[users[user]]
            assert all((item in known) == (label == 1 or labels) for item, label in zip(own, judged, strict=True))
            if not labels:
                assert judged.sum() == 2
    enough = [user for user in part if (rows == users[user]).sum() >= (16 if labels else 4)]
    assert len(enough) > 5
    for user in enough:
        positives = [
            side.candidates.numpy()[(whose == user) & (labels | (side.labels.numpy() == 1))] for side, whose in sides
        ]
        assert not set(positives[0].tolist()) & set(positives[1].tolist()), "no row is in both"


def test_a_generator_begins_near_the_mean_behaviour() -> None:
    _, warm = _warm()
    generator = Generator(warm, hidden=4, dropout=0.0)
    behaviour = torch.from_numpy(warm.behaviour)
    torch.testing.assert_close(generator.behaviour(generator.standardised(behaviour)), behaviour)
    np.testing.assert_allclose(
        generator.behaviour(torch.zeros(1, 8))[0].numpy(), warm.behaviour.mean(axis=0), rtol=1e-5
    )


def test_a_loss_that_is_not_finite_stops_training_and_names_the_batch() -> None:
    parameter = torch.nn.Parameter(torch.ones(1))

    def loss(part: Any) -> torch.Tensor:
        return parameter.sum() * (math.nan if part.max() == 9 else 1.0)

    with pytest.raises(NonFiniteLoss, match="batch 2: nan"):
        minimise([parameter], 0.1, [np.arange(5), np.arange(5, 10)], loss)
    assert torch.isfinite(parameter).all()


def test_every_row_is_in_one_part_of_each_pass() -> None:
    parts = list(shuffled(11, 4, 2, np.random.default_rng(0)))
    assert len(parts) == 6
    for passed in (parts[:3], parts[3:]):
        assert sorted(np.concatenate(passed).tolist()) == list(range(11))
    assert [len(part) for part in shuffled(1, 4, 1, np.random.default_rng(0))] == [1]


def test_no_behaviour_at_all_is_refused() -> None:
    data, split = towers_factory.dataset()
    learned = material_of(data, split)
    nothing = replace(data, interactions=split.train.iloc[:0])
    learned = replace(learned, histories=Histories.of(nothing, learned.encoding))
    with pytest.raises(InvalidInput, match="no behaviour of any user"):
        WarmUsers.of(_warm()[0], learned, 100)


def test_the_base_is_a_plain_tower_trained_on_all_histories() -> None:
    config = base_config()
    assert (config.masked, config.architecture.ranking, config.architecture.zero_shot) == ("nobody", "dnn", "absent")


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (MeanBehaviour, "newest", 0),
        (EmbLR, "penalty", 0.0),
        (EmbLR, "newest", 0),
        (LLAE, "rank", 0),
        (LLAE, "balance", -1.0),
        (LLAE, "weight", math.nan),
        (LLAE, "rounds", 0),
        (CMCLRec, "temperature", 0.0),
        (CMCLRec, "reconstruction", -1.0),
        (CMCLRec, "dropout", 1.0),
        (CMCLRec, "batch", 1),
        (MetaEmb, "alpha", 1.5),
        (MetaEmb, "inner_rate", math.inf),
        (MetaEmb, "positives", 0),
        (MetaEmb, "rate", 0.0),
    ],
)
def test_settings_that_cannot_be_are_refused_by_field_and_value(make: Any, field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: ") as raised:
        make(**{field: value})
    assert raised.value.value is value


def test_rivals_with_equal_settings_are_equal() -> None:
    assert replace(CMCLRec(base=base())) == CMCLRec(base=base())
    assert hash(LLAE(base=base())) == hash(LLAE(base=base()))
