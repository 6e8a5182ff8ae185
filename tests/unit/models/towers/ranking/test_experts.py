"""The zero-shot tower of fitted codes, and the two experts that its ranking tower is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.effects.fit import Effects
from models.effects.seen_bias import FIRST_OF_SEEN_BIN, SEEN_BINS
from models.generations.parity import attribute_tensor
from models.runtime.encoding import sizes_of
from models.runtime.local import LocalTowers
from models.towers.architecture import TowerPair, tower_shape
from models.towers.forms import RankingForm, ZeroShotForm
from models.towers.ranking.dmr import DMR
from models.towers.ranking.experts import AGE_MIX_SHARE, Experts
from models.towers.ranking.recency import RecencyDNN
from models.towers.zero_shot.base import ZeroShotShape
from models.towers.zero_shot.effects import AttributeEffects
from tests import ranking_checks
from tests.ranking_checks import CHECKS, LENGTHS, WARM_AFTER, Indices
from tests.towers_factory import SIZES, TINY, artifacts, expected_scores, requests, tiny_mail, trained

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH = TINY.virtual_vectors * TINY.dimension


def _effects(seed: int = 5) -> Effects:
    """Drawn, but for what is not known of padding."""
    rng = np.random.default_rng(seed)
    return Effects(
        codes=rng.normal(size=(3, sum(SIZES.attributes), WIDTH)).astype(np.float32),
        fold=np.zeros(0, dtype=np.int64),
        keys=(rng.normal(size=(SIZES.items, WIDTH)) / 3).astype(np.float32),
        biases=rng.normal(size=(len(FIRST_OF_SEEN_BIN), SIZES.items)).astype(np.float32),
    )


def _towers(seed: int = 0, **changes: Any) -> TowerPair:
    """Untrained towers in eval mode that have adopted `_effects`, and a mix that is not the one it starts from."""
    towers = tiny_mail(seed, **{"ranking": "recency", **changes, "zero_shot": "effects"})
    towers.zero_shot.adopt(_effects())
    towers.ranking.adopt(_effects())
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        mix: Any = towers.ranking.mix
        mix.copy_(0.5 + torch.rand_like(mix))
    return towers


@pytest.fixture(scope="module")
def towers() -> TowerPair:
    return _towers()


def _form(towers: Any) -> RankingForm:
    return RankingForm(towers.embeddings, towers.ranking, WARM_AFTER)


def _read(towers: Any, indices: Any) -> Any:
    names = ("attributes", "context", "items", "actions", "virtual", "candidates", "owner")
    return _form(towers).inputs(*(getattr(indices, name) for name in names))


def _changed(indices: Any, **changes: Any) -> Indices:
    fields = {name: getattr(indices, name) for name in Indices.__dataclass_fields__}
    return Indices(**{**fields, **changes})


def test_virtual_behaviour_is_the_sum_of_the_codes_of_a_users_values(towers: TowerPair) -> None:
    values = torch.tensor([[0, 0, 0], [4, 3, 2], [1, 2, 0]])
    codes = _effects().codes[0]
    expected = [codes[a] + codes[5 + b] + codes[9 + c] for a, b, c in values.tolist()]
    with torch.inference_mode():
        found = ZeroShotForm(towers.embeddings, towers.zero_shot)(values)
    assert found.shape == (3, TINY.virtual_vectors, TINY.dimension)
    np.testing.assert_allclose(found.flatten(1), np.array(expected), rtol=1e-5)


def test_virtual_behaviour_does_not_read_embeddings(towers: TowerPair) -> None:
    values = torch.tensor([[1, 2, 0]])
    one, other = (towers.zero_shot(torch.full((1, 3, TINY.dimension), size), values) for size in (0.0, float("nan")))
    assert torch.equal(one, other)


def test_what_the_warm_expert_says_of_who_has_no_behaviour_is_not_heard() -> None:
    towers = _towers()

    class Infinite(torch.nn.Module):
        def forward(self, inputs: Any) -> torch.Tensor:
            return torch.full((len(inputs.owner),), torch.inf)

    towers.ranking.warm = Infinite()
    indices = Indices.drawn()
    with torch.inference_mode():
        found = towers.ranking(_read(towers, indices))
    cold = torch.tensor(LENGTHS)[indices.owner] == 0
    assert cold.any()
    assert torch.isfinite(found[cold]).all()
    assert torch.isinf(found[~cold]).all()


def test_without_effects_there_is_no_virtual_behaviour_yet() -> None:
    tower = AttributeEffects(ZeroShotShape(sizes=(3, 2), vectors=2, dimension=4))
    assert not tower(torch.zeros(1, 2, 4), torch.tensor([[2, 1]])).any()
    assert list(tower.parameters()) == []


def test_the_logit_is_the_cold_and_the_warm_one_mixed_by_how_much_was_seen(towers: TowerPair) -> None:
    indices = Indices.drawn()
    inputs = _read(towers, indices)
    with torch.inference_mode():
        found = towers.ranking(inputs).numpy()
        warm = towers.ranking.warm(inputs._replace(taste=inputs.taste.without_virtual())).numpy()
    effects, mix = _effects(), towers.ranking.mix.detach().numpy()
    for row, (owner, item) in enumerate(zip(indices.owner.tolist(), indices.candidates.tolist(), strict=True)):
        seen = LENGTHS[owner]
        code = indices.virtual[owner].flatten().numpy() if seen < WARM_AFTER else np.zeros(WIDTH)
        cold = code @ effects.keys[item] + effects.biases[SEEN_BINS[seen], item]
        a, b = mix[seen] if seen else (1.0, 0.0)
        assert found[row] == pytest.approx(a * cold + b * warm[row], rel=1e-4, abs=1e-4)


def test_of_who_has_no_behaviour_nothing_but_the_vector_is_read(towers: TowerPair) -> None:
    indices = Indices.drawn((0, 0, 1))
    others = _changed(indices, attributes=indices.attributes * 0, context=1 + indices.context * 0)
    with torch.inference_mode():
        one, other = (towers.ranking(_read(towers, each)) for each in (indices, others))
    cold = indices.owner < 2
    assert torch.equal(one[cold], other[cold])
    assert not torch.isclose(one[~cold], other[~cold]).any()


@pytest.mark.parametrize("seen", [WARM_AFTER - 1, WARM_AFTER, 50])
def test_the_vector_counts_until_a_user_is_warm(towers: TowerPair, seen: Any) -> None:
    indices = Indices.drawn((seen,))
    with torch.inference_mode():
        one, other = (
            towers.ranking(_read(towers, each)) for each in (indices, _changed(indices, virtual=-indices.virtual))
        )
    assert torch.equal(one, other) == (seen >= WARM_AFTER)


def test_the_mix_of_who_has_no_behaviour_is_not_learned(towers: TowerPair) -> None:
    indices = Indices.drawn()
    logits = towers.ranking(_read(towers, indices))
    mix: Any = towers.ranking.mix
    (slope,) = torch.autograd.grad(logits.square().sum(), [mix])
    assert not slope[0].any()
    assert all(slope[seen].all() for seen in LENGTHS if seen)
    unseen = torch.ones(len(slope), dtype=torch.bool)
    unseen[list(LENGTHS)] = False
    assert not slope[unseen].any()


def test_no_gradient_reaches_what_was_fitted(towers: TowerPair) -> None:
    learned = {name for name, _ in towers.ranking.named_parameters() if not name.startswith("warm.")}
    assert learned == {"mix", "repeats.weights", "transitions.weights"}
    assert list(towers.zero_shot.parameters()) == []
    kept = set(towers.state_dict())
    assert {"zero_shot.codes", "ranking.keys", "ranking.biases", "ranking.mix"} <= kept
    assert not {"zero_shot.offsets", "ranking.seen_bins"} & kept, "these follow from the shape"


def test_any_ranking_tower_is_the_warm_expert(towers: TowerPair) -> None:
    assert isinstance(towers.ranking, Experts)
    assert isinstance(towers.ranking.warm, RecencyDNN)
    assert isinstance(_towers(ranking="dmr").ranking.warm, DMR)
    assert not isinstance(tiny_mail().ranking, Experts)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("ranking", ["recency", "din"])
def test_experts_keep_what_every_ranking_tower_promises(
    ranking: str, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking_checks, "tiny_mail", _towers)
    check(ranking)


def test_what_is_served_to_the_new_is_the_vector_the_keys_and_the_biases() -> None:
    """The default towers as exported, against the formula on the weights as trained."""
    folder, state = artifacts()[0], trained().model.state_dict()
    wanted = [request for request in requests() if not request.behaviour.items]
    assert wanted
    encoding = trained().encoding
    for request, of_request in zip(wanted, LocalTowers.of(folder).score(wanted), strict=True):
        item = encoding.encode_items(request.items)
        (age,) = encoding.encode_ages([request.age_ms])
        stage = age + len(encoding.age_bounds) if age else 0
        bias = state["ranking.biases"][0, item] + state["ranking.age_biases"][stage, item]
        logits = state["ranking.keys"][item] @ torch.tensor(request.virtual).flatten() + bias
        np.testing.assert_allclose(of_request, logits.sigmoid(), atol=1e-5)


def test_what_is_stored_of_the_new_is_the_sum_of_codes() -> None:
    towers, wanted = trained(), requests()
    served = LocalTowers.of(artifacts()[0]).virtual_behaviour([request.attributes for request in wanted])
    values = attribute_tensor(towers.encoding, wanted).numpy()
    offsets = np.cumsum([0, *sizes_of(towers.encoding.attributes)])[:-1]
    codes = towers.model.state_dict()["zero_shot.codes"].numpy()
    assert np.abs(codes).max() > 0.01
    np.testing.assert_allclose(served.reshape(len(wanted), -1), codes[values + offsets].sum(axis=1), atol=1e-5)


def test_served_experts_answer_as_they_were_trained() -> None:
    scores = LocalTowers.of(artifacts()[0]).score(requests())
    for found, expected in zip(scores, expected_scores(trained(), requests()), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


AGES = 3


def _aged() -> tuple[Experts, Effects]:
    """Experts that read the account's age, with drawn biases and mix."""
    rng, shape = np.random.default_rng(8), tower_shape(replace(SIZES, ages=AGES), replace(TINY, ranking="recency"))
    age_biases = rng.normal(size=(1 + 2 * AGES, SIZES.items)).astype(np.float32)
    effects = replace(_effects(), age_biases=age_biases)
    others: Any = _towers().ranking
    experts = Experts(shape, others.warm).eval()
    experts.adopt(effects)
    with torch.no_grad():
        experts.mix.copy_(others.mix)
        experts.age_mix.copy_(torch.from_numpy(rng.normal(size=(1 + AGES, 2)).astype(np.float32)))
    return experts, effects


def test_the_age_adds_to_the_biases_and_to_the_mix(towers: TowerPair) -> None:
    experts, effects = _aged()
    ages = torch.arange(len(LENGTHS)) % (1 + AGES)
    indices = Indices.drawn()
    inputs = _read(towers, indices)._replace(age=ages)
    with torch.inference_mode():
        found = experts(inputs).numpy()
        warm = experts.warm(inputs._replace(taste=inputs.taste.without_virtual())).numpy()
    assert effects.age_biases is not None
    of_age = experts.age_mix.detach().numpy()
    for row, (owner, item) in enumerate(zip(indices.owner.tolist(), indices.candidates.tolist(), strict=True)):
        seen, age = LENGTHS[owner], int(ages[owner])
        code = indices.virtual[owner].flatten().numpy() if seen < WARM_AFTER else np.zeros(WIDTH)
        stage = age + AGES if seen == 0 and age else age
        cold = code @ effects.keys[item] + effects.biases[SEEN_BINS[seen], item] + effects.age_biases[stage, item]
        a, b = experts.mix.detach().numpy()[seen] + AGE_MIX_SHARE * of_age[age] if seen else (1.0, 0.0)
        assert found[row] == pytest.approx(a * cold + b * warm[row], rel=1e-4, abs=1e-4)


def test_an_age_that_nobody_gives_is_unknown(towers: TowerPair) -> None:
    experts, _ = _aged()
    inputs = _read(towers, Indices.drawn())
    with torch.inference_mode():
        assert torch.equal(experts(inputs), experts(inputs._replace(age=torch.zeros(len(LENGTHS), dtype=torch.long))))


def test_experts_of_a_generation_without_ages_have_nothing_of_them(towers: TowerPair) -> None:
    inputs = _read(towers, Indices.drawn())
    with torch.inference_mode():
        known = towers.ranking(inputs._replace(age=torch.ones(len(LENGTHS), dtype=torch.long)))
        assert torch.equal(known, towers.ranking(inputs))
    assert not {name for name in towers.state_dict() if "age_" in name}


def test_served_experts_tell_ages_apart() -> None:
    """As exported: the default towers read the age of the very request, and of a new user most of all."""
    towers = LocalTowers.of(artifacts()[0])
    new = next(request for request in requests() if not request.behaviour.items and len(request.items) > 1)
    ages = [None, *towers.encoding.age_bounds]
    scores = towers.score([replace(new, age_ms=age) for age in ages])
    for other, age in zip(scores, ages, strict=True):
        (alone,) = towers.score([replace(new, age_ms=age)])
        np.testing.assert_allclose(alone, other, atol=1e-6)
    assert max(float(np.abs(each - scores[0]).max()) for each in scores[1:]) > 1e-3
