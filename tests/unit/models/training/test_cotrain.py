import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from foretaste.kernel.errors import InvalidInput
from models.data.examples import Examples
from models.data.histories import Histories
from models.data.sampling import repeat_share, users_repeat
from models.data.split import split_by_time
from models.data.vocabulary import fit_encoding
from models.effects.fit import Effects, EffectsConfig, fit_effects
from models.towers.architecture import Architecture, build_towers, tower_shape
from models.towers.embeddings import Sizes
from models.towers.ranking.experts import Experts
from models.towers.ranking.recency import RecencyDNN
from models.training.batches import with_new_users
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain, learn
from models.training.data import TrainingData
from models.training.loop import NonFiniteLoss, Step, adopted, fitted
from models.training.step import CoTrainer
from models.training.trained import Trained
from tests.towers_factory import SMALL, TINY, config, dataset, tiny_mail, trained

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = EffectsConfig(iterations=4, folds=3)


def _state(towers: Any) -> Any:
    return towers.model.state_dict()


def _same(one: Any, other: Any, prefix: str = "") -> Any:
    return all(torch.equal(one[name], other[name]) for name in one if name.startswith(prefix))


def _short(**changes: Any) -> Trained:
    data, split = dataset()
    return cotrain(data, split, config(epochs=1, rows=3000, **changes))


def test_the_same_arguments_give_the_same_towers_bit_for_bit() -> None:
    one, other = _short(seed=5), _short(seed=5)
    assert _same(_state(one), _state(other))
    assert np.array_equal(one.mean_virtual, other.mean_virtual)
    assert not _same(_state(one), _state(_short(seed=6)))


def test_training_leaves_torchs_own_generator_and_threads_as_they_were() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    _short()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_the_zero_shot_optimiser_moves_no_embedding_and_the_ranking_one_no_zero_shot_tower() -> None:
    data, split = dataset()
    encoding = fit_encoding(data, split.instant_ms)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = build_towers(Sizes.of(encoding), torch.from_numpy(encoding.item_features), TINY).state_dict()
    still = _state(_short(ranking_rate=0.0))
    assert _same(start, still, "embeddings.")
    assert not _same(start, still, "zero_shot.")
    still = _state(_short(zero_shot_rate=0.0))
    assert _same(start, still, "zero_shot.")
    assert not _same(start, still, "embeddings.")


def test_the_ranking_loss_sends_no_gradient_through_virtual_behaviour() -> None:
    trainer, batch = _trainer()
    losses = trainer.step(batch.hidden(np.ones(len(batch.users), dtype=bool)), np.random.default_rng(0))
    assert list(losses) == ["ranking"], "nobody is warm: eq. 7 has nothing to learn from"
    assert all(parameter.grad is None for parameter in trainer._model.zero_shot.parameters())
    assert all(parameter.grad is not None for parameter in trainer._model.ranking.parameters())


def test_virtual_behaviour_is_read_as_it_will_be_served() -> None:
    trainer, batch = _trainer()
    trainer._model.train()
    flagged = np.array([1, 4])
    virtual = trainer._virtual(batch, flagged)
    expected = trainer._zero_shot.eval()(torch.from_numpy(batch.attributes[flagged]))
    torch.testing.assert_close(virtual[flagged], expected)
    assert not virtual[[0, 2, 3]].any()
    assert not virtual.requires_grad


def _trainer() -> Any:
    data, split = dataset()
    encoding = fit_encoding(data, split.instant_ms)
    examples = Examples.of(data, split.train, encoding, Histories.of(data, encoding))
    model = build_towers(Sizes.of(encoding), torch.from_numpy(encoding.item_features), TINY)
    return CoTrainer(model, config(), torch.device("cpu")), examples.batch(np.arange(500, 540))


def test_padding_stays_zero_and_unknown_is_learned() -> None:
    embeddings = trained().model.embeddings
    assert not embeddings.items.weight[0].any()
    assert not embeddings.actions.weight[0].any()
    other = trained(1).model.embeddings
    spread = embeddings.items.weight[1].abs().mean()
    assert spread > 0.01
    assert not torch.equal(embeddings.items.weight[1], other.items.weight[1])


def test_progress_hears_of_every_step_and_its_losses() -> None:
    heard: list[Step] = []
    data, split = dataset()
    cotrain(data, split, config(epochs=2, rows=2000), heard.append)
    assert [step.number for step in heard] == list(range(1, heard[0].total + 1))
    assert set(heard[-1].losses) == {"attributes", "behaviour", "discrepancy", "ranking"}
    assert np.mean([step.losses["ranking"] for step in heard]) < 1.0


def test_a_loss_that_is_not_finite_stops_training_and_names_the_batch() -> None:
    with pytest.raises(NonFiniteLoss, match=r"epoch 1, batch \d+ of \d+: .*(inf|nan)"):
        _short(zero_shot_rate=1e20)


def test_labels_of_one_class_are_refused() -> None:
    data, split = dataset(labels=True)
    only = replace(split, train=split.train[split.train["label"] == 1])
    with pytest.raises(InvalidInput, match=r"'acted'.*labels of both kinds"):
        cotrain(data, only, config())


def test_a_catalogue_of_one_item_is_refused() -> None:
    data, split = dataset()
    item = split.train["item_id"].iloc[0]
    frame = data.interactions[data.interactions["item_id"] == item]
    with pytest.raises(InvalidInput, match="two items"):
        cotrain(replace(data, interactions=frame), split, config())


def test_rows_with_labels_are_taken_as_they_are() -> None:
    data, split = dataset(labels=True)
    heard: list[Step] = []
    towers = cotrain(data, split, config(epochs=1, batch=128), heard.append)
    assert abs(len(heard) - len(split.train) / 128) <= 1
    assert np.isfinite(towers.mean_virtual).all()


def test_popularity_is_a_share_of_the_training_interactions() -> None:
    _, split = dataset()
    towers = trained()
    counts = split.train["item_id"].value_counts(normalize=True)
    assert towers.popularity.sum() == pytest.approx(1)
    assert towers.popularity[2] == pytest.approx(counts[towers.encoding.items[0]])


@pytest.mark.parametrize("masked", ["rows", "users"])
def test_made_new_are_a_share_of_the_moments_or_all_of_some_users(masked: str) -> None:
    _, batch = _trainer()
    batch = replace(batch, users=np.arange(len(batch.users)) % 10, items=np.full_like(batch.items, 5))
    made = [
        ~with_new_users(batch, 200, config(masked=masked, masked_share=0.4, unknown_share=0.0), rng).items.any(axis=1)
        for rng in (np.random.default_rng(seed) for seed in range(50))
    ]
    by_user = np.array([[hidden[batch.users == user].mean() for user in range(10)] for hidden in made])
    if masked == "users":
        assert set(by_user.ravel()) <= {0.0, 1.0}
        assert len({tuple(row) for row in by_user}) == 1, "the same users throughout"
    else:
        assert np.mean(made) == pytest.approx(0.4, abs=0.05)
        assert len({tuple(row) for row in by_user}) > 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("warm_after", 0),
        ("warm_after", 101),
        ("masked", "row"),
        ("masked_share", 1.0),
        ("unknown_share", -0.1),
        ("device", "gpu"),
        ("epochs", 0),
        ("batch", 1),
        ("rows", 0),
        ("negatives", 0),
        ("zero_shot_users", 0),
        ("threads", 0),
        ("seed", -1),
        ("zero_shot_rate", float("nan")),
        ("ranking_rate", -0.01),
        ("ranking_rate", float("inf")),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"^{field}: .*\(got {re.escape(repr(value))}\)") as raised:
        TrainingConfig(**{field: value})
    assert (raised.value.field, raised.value.value is value) == (field, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dimension", 0),
        ("virtual_vectors", 0),
        ("attention", -1),
        ("dropout", 1.0),
        ("hidden", ()),
        ("encoder.1", (8, 0, 8)),
    ],
)
def test_an_architecture_that_cannot_be_is_refused_by_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        Architecture(**{field.partition(".")[0]: value})


def test_the_fewest_rows_are_still_a_step() -> None:
    heard: list[Step] = []
    data, split = dataset()
    cotrain(data, split, config(epochs=1, rows=2), heard.append)
    assert len(heard) == 1


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidInput, match=r"device.*no GPU"):
        _short(device="cuda")


def test_untrained_towers_differ_by_seed() -> None:
    assert not _same(tiny_mail(0).state_dict(), tiny_mail(1).state_dict())


def _default(**changes: Any) -> Trained:
    """The default towers."""
    data, split = dataset()
    return cotrain(
        data, split, config(**{"architecture": SMALL, "effects": QUICK, "epochs": 1, "rows": 1000, **changes})
    )


def test_the_default_towers_are_the_same_bit_for_bit_by_their_seed() -> None:
    one, other = _default(seed=5), _default(seed=5)
    assert _same(_state(one), _state(other))
    assert np.array_equal(one.mean_virtual, other.mean_virtual)
    another = _state(_default(seed=6))
    for name in ("zero_shot.codes", "ranking.keys", "ranking.biases", "ranking.mix", "embeddings.items.weight"):
        assert not _same(_state(one), another, name), name


def _effects_trainer(**changes: Any) -> Any:
    lessons = TrainingData.of(*dataset())
    settings = config(architecture=SMALL, effects=QUICK, **changes)
    rng = np.random.default_rng(0)
    model = build_towers(
        Sizes.of(lessons.encoding), torch.from_numpy(lessons.encoding.item_features), settings.architecture
    )
    assert lessons.sampler is not None
    codes = adopted(model, fitted(model, lessons, lessons.sampler(rng), settings, rng))
    return CoTrainer(model, settings, torch.device("cpu"), codes), lessons.examples.batch(np.arange(500, 540)), codes


def test_training_reads_the_codes_that_a_users_own_behaviour_is_not_in() -> None:
    trainer, batch, codes = _effects_trainer()
    flagged = np.array([1, 4, 7])
    virtual = trainer._virtual(batch, flagged).flatten(1).numpy()
    effects = codes.effects
    assert set(effects.fold[batch.users]) <= {1, 2, 3}, "each was learned from, so each has a fold"
    for row, user, values in zip(flagged, batch.users[flagged], batch.attributes[flagged], strict=True):
        expected = effects.codes[effects.fold[user]][codes.tables.places(values[None])[0]].sum(axis=0)
        np.testing.assert_allclose(virtual[row], expected, rtol=1e-6)
    served = trainer._zero_shot(torch.from_numpy(batch.attributes[flagged])).flatten(1).numpy()
    assert np.abs(virtual[flagged] - served).max() > 1e-3
    assert not np.delete(virtual, flagged, axis=0).any()


def _spoilt(part: Any) -> Callable[..., Any]:
    def fit(*arguments: Any) -> Effects:
        effects = fit_effects(*arguments)
        effects.codes[part] = np.nan
        return effects

    return fit


def test_training_never_reads_the_codes_of_all_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which are what is served, and so what the mean of virtual behaviour is of."""
    monkeypatch.setattr("models.training.loop.fit_effects", _spoilt(0))
    towers = _default()
    assert np.isnan(towers.mean_virtual).all()
    assert all(torch.isfinite(value).all() for name, value in _state(towers).items() if name != "zero_shot.codes")


def test_a_code_that_is_not_finite_stops_training_and_names_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.loop.fit_effects", _spoilt(slice(1, None)))
    with pytest.raises(NonFiniteLoss, match=r"epoch 1, batch 1 of \d+: .*nan"):
        _default()


def test_default_towers_that_diverge_stop_and_name_the_batch() -> None:
    with pytest.raises(NonFiniteLoss, match=r"epoch \d+, batch \d+ of \d+: .*'ranking': (inf|nan)"):
        _default(ranking_rate=1e30)


@pytest.mark.parametrize("architecture", [SMALL, TINY], ids=["default", "paper"])
def test_what_comes_after_the_split_is_not_known_to_training(architecture: Any) -> None:
    """Not even as what is no negative: the towers are those of data that end at the split."""
    data, split = dataset()
    settings = config(architecture=architecture, effects=QUICK, epochs=1, rows=800)
    assert len(split.train) < len(data.interactions)
    ended = cotrain(replace(data, interactions=split.train.reset_index(drop=True)), split, settings)
    assert _same(_state(cotrain(data, split, settings)), _state(ended))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_either_precision_trains(precision: str) -> None:
    data, split = dataset()
    heard: list[float] = []
    settings = config(architecture=SMALL, effects=QUICK, precision=precision, epochs=2)
    towers = cotrain(data, split, settings, lambda step: heard.append(step.losses["ranking"]))
    assert np.mean(heard[-10:]) < 0.98 * np.mean(heard[:10])
    state = _state(towers)
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert all(torch.isfinite(value).all() for value in state.values())


def test_the_precision_of_products_is_the_configured_one() -> None:
    """What the warm expert's linear layers give in a step."""
    for precision, expected in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        trainer, batch, _ = _effects_trainer(precision=precision)
        given: list[Any] = []
        trainer._model.ranking.warm.unit.register_forward_hook(lambda *call, given=given: given.append(call[2].dtype))
        trainer.step(batch, np.random.default_rng(0))
        assert given == [expected]


class _Listening(RecencyDNN):
    """A warm expert that learns from a loss of its own, and keeps what it read for that."""

    def __init__(self, shape: Any) -> None:
        super().__init__(shape)
        self.heard = torch.nn.Parameter(torch.zeros(()))
        self.read: list[Any] = []

    def auxiliary_loss(self, inputs: Any) -> torch.Tensor:
        self.read.append(inputs)
        return (self.heard - 3.0).square()


def test_the_loss_of_a_warm_experts_own_is_heard() -> None:
    trainer, batch, codes = _effects_trainer()
    model = trainer._model
    shape = tower_shape(model.embeddings.sizes, SMALL)
    model.ranking = Experts(shape, _Listening(shape))
    model.ranking.adopt(codes.effects)
    trainer = CoTrainer(model, config(architecture=SMALL), torch.device("cpu"), codes)
    losses = [trainer.step(batch, np.random.default_rng(0)) for _ in range(2)]
    assert losses[0]["auxiliary"] == 9.0
    assert losses[1]["auxiliary"] < 9.0
    assert set(losses[0]) == {"ranking", "auxiliary"}
    warm = model.ranking.warm
    assert warm.heard.item() > 0
    assert not any(inputs.taste.virtual.any() for inputs in warm.read), "the warm expert reads real behaviour alone"


def test_dmr_as_the_warm_expert_trains_by_its_auxiliary_loss() -> None:
    heard: list[Step] = []
    data, split = dataset()
    settings = config(architecture=replace(SMALL, ranking="dmr"), effects=QUICK, epochs=1, rows=500)
    cotrain(data, split, settings, heard.append)
    assert all(step.losses["auxiliary"] > 0 for step in heard)


@pytest.mark.parametrize(("every", "is_learned"), [(200, False), (20, True)])
def test_what_is_learned_of_repeats_is_learned_beside_negatives_that_were_met_before(
    every: int, is_learned: bool
) -> None:
    """Of data with few of them, no negative is one: whatever a user met before would be right."""
    data, _ = dataset()
    frame = data.interactions
    again = frame.iloc[::every].assign(time_ms=lambda rows: rows["time_ms"] + 3_600_000)
    repeating = replace(data, interactions=pd.concat([frame, again]).sort_values("time_ms", ignore_index=True))
    assert repeat_share(repeating) > 0
    assert users_repeat(repeating) == is_learned
    towers = cotrain(repeating, split_by_time(repeating), config(architecture=SMALL, effects=QUICK, epochs=1))
    assert bool(towers.model.ranking.repeats.weights.any()) == is_learned


def test_a_tower_beside_no_experts_has_no_effects_to_fit() -> None:
    trainer, _, codes = _effects_trainer()
    assert codes is not None
    model = build_towers(trainer._model.embeddings.sizes, trainer._model.embeddings.item_features, TINY)
    assert fitted(model, None, None, config(), np.random.default_rng(0)) is None  # type: ignore[arg-type]  # not read
    assert adopted(model, None) is None


def test_labels_of_their_own_are_what_effects_are_fitted_to() -> None:
    data, split = dataset(labels=True)
    towers = cotrain(data, split, config(architecture=SMALL, epochs=1, rows=500))
    state = _state(towers)
    share = split.train["label"].mean()
    odds = np.log(share / (1 - share))
    assert state["ranking.biases"][0, 1].item() == pytest.approx(odds, abs=0.2)
    assert state["zero_shot.codes"].abs().max() > 0.01


def test_examples_made_elsewhere_train_as_those_of_a_dataset() -> None:
    data, split = dataset(labels=True)
    settings = config(architecture=SMALL, effects=QUICK, epochs=1, rows=800)
    expected = cotrain(data, split, settings)
    examples = Examples.of(data, split.train, expected.encoding, Histories.of(data, expected.encoding))
    towers = learn(TrainingData.of_examples(examples, expected.encoding, split.instant_ms), settings)
    assert _same(_state(towers), _state(expected))
    np.testing.assert_allclose(towers.mean_virtual, expected.mean_virtual, rtol=1e-5, atol=1e-8)
    assert np.array_equal(towers.popularity, expected.popularity)
    assert towers.split_ms == expected.split_ms


@pytest.mark.parametrize(("kept", "value"), [(lambda labels: labels == 0, 0), (lambda labels: labels > 1, None)])
def test_examples_of_one_class_or_none_are_refused(kept: Callable[..., Any], value: int | None) -> None:
    data, split = dataset(labels=True)
    frame = split.train[kept(split.train["label"])]
    encoding = fit_encoding(data, split.instant_ms)
    examples = Examples.of(data, split.train, encoding, Histories.of(data, encoding))
    with pytest.raises(InvalidInput, match="labels of both kinds") as raised:
        TrainingData.of_examples(replace(examples, labels=frame["label"].to_numpy()), encoding, split.instant_ms)
    assert raised.value.value == value


class _Start:
    """Weights of an earlier run, and its counts."""

    counts: Any = None

    def __init__(self, state: Any) -> None:
        self._state = state

    def into(self, model: Any) -> None:
        model.load_state_dict(self._state)


def test_training_begins_where_it_is_told_to() -> None:
    data, split = dataset()
    earlier = _short()
    settings = config(epochs=1, rows=500, ranking_rate=0.0, zero_shot_rate=0.0)
    went_on = cotrain(data, split, settings, start=_Start(_state(earlier)))  # type: ignore[arg-type]  # a stand-in
    assert _same(_state(earlier), _state(went_on), "embeddings.")
    assert _same(_state(earlier), _state(went_on), "zero_shot.")


def test_effects_go_on_from_earlier_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def fit(*arguments: Any) -> Effects:
        given.append(arguments[6])
        return fit_effects(*arguments)

    monkeypatch.setattr("models.training.loop.fit_effects", fit)
    data, split = dataset()
    settings = config(architecture=SMALL, effects=QUICK, epochs=1, rows=500)
    first = cotrain(data, split, settings)
    start = _Start(_state(first))
    start.counts = first.counts
    later = cotrain(data, split, settings, start=start)  # type: ignore[arg-type]  # a stand-in
    assert [one is first.counts for one in given] == [False, True]
    assert later.counts is not None


def test_a_run_leaves_the_losses_of_its_steps() -> None:
    heard: list[Step] = []
    data, split = dataset()
    towers = cotrain(data, split, config(epochs=1, rows=1000), heard.append)
    assert list(towers.losses) == [step.losses for step in heard]


def test_alone_nothing_is_distributed() -> None:
    told = "import sys, torch; from tests.unit.models.training.test_cotrain import _short; _short();"
    told += "print('models.training.process_group' in sys.modules, torch.distributed.is_initialized())"
    done = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["False", "False"]
