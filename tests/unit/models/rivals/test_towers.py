from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from foretaste.kernel.errors import InvalidInput
from models.data.examples import Batch
from models.evaluation.curves import smoothed
from models.rivals.methods import FACTORIES, TRIALS, by_name
from models.rivals.towers import ABSENT, Alike, TowerMethod, TowerRanker
from models.runtime.encoding import FIELD_UNKNOWN
from models.study.figures import draw, embedded
from models.study.probes import ANOTHER, NO_ATTRIBUTES, NONE, PROBES, probes
from models.study.protocols import Questions
from models.study.protocols import questions as asked
from models.study.rows import rows
from models.study.scoring import Bench, FitTask, judge, kept_vectors
from models.study.study import Study, evaluate
from models.study.vectors import vectors
from tests.study_parts import POPULAR, fold, with_garbage
from tests.towers_factory import TINY, config

OWN_TOWERS = [name for name, path in FACTORIES.items() if path.startswith("models.rivals.towers:")]


def tiny(zero_shot: str = "mail", **changes: Any) -> TowerMethod:
    architecture = replace(TINY, ranking="dnn", zero_shot=zero_shot)
    return TowerMethod(config(architecture=architecture, rows=2000, warm_after=1, **changes))


def own() -> TowerMethod:
    """A factory, for a study to find."""
    return tiny()


def plain() -> TowerMethod:
    return tiny(ABSENT)


OWN, PLAIN = "tests.unit.models.rivals.test_towers:own", "tests.unit.models.rivals.test_towers:plain"


@cache
def ranker(zero_shot: str = "mail") -> TowerRanker:
    return tiny(zero_shot).fit(fold().material("hidden", seed=0))


@cache
def questions() -> Questions:
    return asked(fold(), ("hidden",))["hidden"]


def _batch() -> Batch:
    return next(batch for _, batch in questions().batches(400))


def _weights(fitted: Any) -> Any:
    return fitted.trained.model.state_dict()


def _same(one: Any, other: Any) -> Any:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", OWN_TOWERS)
def test_each_tower_is_as_its_name_says_and_has_as_many_trials_as_the_others(name: Any) -> None:
    method = by_name(name)
    assert len(set(map(repr, method.trials()))) == TRIALS
    assert method.trials()[0] == method
    if name.startswith("foretaste"):
        assert method.config.architecture.zero_shot == "effects"
        assert method.config.architecture.ranking == (name.partition("-")[2] or "recency")
        return
    assert method.config.warm_after == 1
    architecture, masked = method.config.architecture, method.config.masked
    with_virtual = architecture.zero_shot != ABSENT
    assert with_virtual == (name in {"none", "single", "dual", "mail", "mail-dmr"})
    assert masked == ("rows" if name == "dnn-dropout" else "users" if with_virtual or "flagged" in name else "nobody")
    assert architecture.ranking == (
        "dmr" if "dmr" in name else name if name in {"recency", "din", "dcn", "deepfm", "hstu"} else "dnn"
    )


def test_scores_are_in_the_order_of_the_served_probabilities() -> None:
    batch = _batch()
    fitted = ranker()
    virtual = fitted.trained.zero_shot(torch.from_numpy(batch.attributes))
    parts = (batch.attributes, batch.context, batch.items, batch.actions)
    with torch.inference_mode():
        served = fitted.trained.ranking(
            *map(torch.from_numpy, parts), virtual, torch.from_numpy(batch.candidates), torch.from_numpy(batch.owner)
        )
    assert 1 / (1 + np.exp(-fitted.scores(batch))) == pytest.approx(served.numpy(), abs=1e-6)


def test_progress_and_losses_are_those_of_every_step() -> None:
    heard = []
    material = replace(fold().material("hidden", seed=0), progress=lambda *step: heard.append(step))
    fitted = tiny().fit(material)
    assert heard == [(number, heard[0][1]) for number in range(1, heard[0][1] + 1)]
    assert len(fitted.losses) == len(heard)
    assert set(fitted.losses[-1]) == {"attributes", "behaviour", "discrepancy", "ranking"}


def test_what_comes_after_the_split_changes_no_weight() -> None:
    method = tiny(masked="users")
    of_garbage = method.fit(with_garbage(fold()).material("hidden", seed=0))
    assert _same(_weights(method.fit(fold().material("hidden", seed=0))), _weights(of_garbage))


def test_another_users_vector_is_never_ones_own_and_of_the_same_group() -> None:
    probe = probes(ranker(), questions())[ANOTHER]
    groups = {place: set(questions().user_of_row[questions().group == place].tolist()) for place in (0, 1)}
    for users in groups.values():
        donors = {int(probe.donors[user]) for user in users}
        assert donors == users, "each lends his once"
        assert not any(probe.donors[user] == user for user in users)
    batch = _batch()
    borrowed = ranker().virtual(questions().attributes[probe.donors[batch.users]])
    assert np.array_equal(probe.scores(batch), ranker().scores_with(batch, borrowed))
    assert not np.array_equal(probe.scores(batch), ranker().scores(batch))


def test_no_vector_is_zero_and_no_attributes_keeps_the_vector() -> None:
    batch, fitted = _batch(), ranker()
    found = probes(fitted, questions())
    virtual = fitted.virtual(batch.attributes)
    assert np.array_equal(found[NONE].scores(batch), fitted.scores_with(batch, torch.zeros_like(virtual)))
    blank = replace(batch, attributes=np.full_like(batch.attributes, FIELD_UNKNOWN))
    assert np.array_equal(found[NO_ATTRIBUTES].scores(batch), fitted.scores_with(blank, virtual))
    assert not np.array_equal(found[NO_ATTRIBUTES].scores(batch), fitted.scores(blank)), "v̂ is of the user's own"


def test_towers_without_virtual_behaviour_have_no_probes() -> None:
    assert probes(ranker(ABSENT), questions()) == {}


def test_probes_are_held_against_their_own_tower_on_the_hidden_protocol(tmp_path: Path) -> None:
    bench = Bench.of(fold(), ("hidden", "first_steps"), tmp_path, resamples=20)
    outcomes = [judge(bench, FitTask("mine", tiny(), seed, ("hidden", "first_steps"))) for seed in (0, 1)]
    found = rows(outcomes, [])
    names = {f"mine ({probe})" for probe in PROBES}
    assert {row.tower for row in found if row.protocol == "first_steps"} == {"mine"}
    assert {row.tower for row in found if row.protocol == "hidden"} == {"mine", *names}
    assert {(row.tower, row.against) for row in found if row.against is not None} == {(name, "mine") for name in names}


def test_vectors_are_of_old_and_new_users_as_the_towers_make_them() -> None:
    material = fold().material("hidden", seed=0)
    kept = vectors(ranker(), fold(), material)
    old = fold().split.train["user_id"].nunique()
    width = TINY.virtual_vectors * TINY.dimension
    assert kept.old_virtual.shape == kept.old_real.shape == (old, width)
    assert kept.new_virtual.shape == kept.new_real.shape == (len(fold().split.cold_users), width)
    assert kept.new_attributes.shape == (len(fold().split.cold_users), TINY.dimension)
    new = np.sort(fold().dataset.user_rows(fold().split.cold_users))
    expected = ranker().virtual(questions().attributes[new]).flatten(1).numpy()
    assert kept.new_virtual == pytest.approx(expected)
    assert kept.new_real.any(axis=1).all(), "each has done something in the end"
    assert kept.losses.shape == (len(ranker().losses), 4)
    assert vectors(ranker(ABSENT), fold(), material).old_virtual.shape == (0, 0)


def test_a_study_of_towers_keeps_what_its_figures_draw_and_draws_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.study.vectors.MOST_USERS", 20)
    study = Study((OWN, PLAIN, POPULAR), protocols=("hidden",), seeds=(0,), resamples=20)
    found = evaluate(fold().dataset, study, tmp_path, tmp_path / "tuned.json")
    kept = [one.vectors is not None for one in found.contenders]
    assert kept == [True, True, False]
    drawn = draw(found, tmp_path / "figures")
    assert [file.split("-")[0] for file, _ in drawn] == ["losses", "tsne"]
    for file, _ in drawn:
        assert ElementTree.parse(tmp_path / "figures" / file).getroot().tag.endswith("svg")  # noqa: S314  # our own


def test_vectors_come_back_from_the_cache_and_are_of_the_time_split(tmp_path: Path) -> None:
    bench = Bench.of(fold(), ("hidden", "random_40"), tmp_path, resamples=5)
    task = FitTask("mine", tiny(), 0, ("random_40",))
    judge(bench, task)
    assert kept_vectors(bench, task) is None
    judge(bench, replace(task, protocols=("hidden",)))
    expected = vectors(ranker(), fold(), fold().material("hidden", seed=0)).arrays()
    for name, values in kept_vectors(bench, task).arrays().items():
        assert np.array_equal(values, expected[name], equal_nan=values.dtype.kind == "f")


def test_a_smoothed_loss_is_the_mean_of_its_neighbours() -> None:
    values = np.random.default_rng(0).random(120).astype(np.float32)
    half = 3
    expected = [values[max(place - half, 0) : place + half + 1].mean() for place in range(120)]
    assert smoothed(values) == pytest.approx(expected, rel=1e-5)
    assert smoothed(values[:1]) == pytest.approx(values[:1])


def test_points_that_differ_are_put_apart_the_same_way_each_time() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.normal(mean, 1, (size, 5)).astype(np.float32) for mean, size in ((0, 30), (8, 20)))
    first, second = embedded(one, other)
    assert (first.shape, second.shape) == ((30, 2), (20, 2))
    apart = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert apart > first.std()
    assert np.array_equal(first, embedded(one, other)[0])


def test_one_training_for_all_towers_leaves_the_towers_as_they_are() -> None:
    alike = Alike.parse("epochs=3,batch=64,rate=0.002,dropout=0.2")
    for name in ("foretaste-din", "mail"):
        before, after = by_name(name).config, alike.of(by_name(name)).config
        trained = (after.epochs, after.batch, after.ranking_rate, after.architecture.dropout)
        assert trained == (3, 64, 0.002, 0.2)
        assert after.least_steps == 1
        assert after.architecture.ranking == before.architecture.ranking
        assert (after.masked, after.warm_after) == (before.masked, before.warm_after)
    assert alike.of(by_name("popularity")) == by_name("popularity")


@pytest.mark.parametrize(
    "text", ["", "epochs=3", "epochs=x,batch=64,rate=0.002,dropout=0.2", "epochs=3,batch=1,rate=1"]
)
def test_a_training_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="alike: expected epochs="):
        Alike.parse(text)


def test_a_ranking_tower_within_ours_is_held_against_itself_alone() -> None:
    pairs = Study(("foretaste", "foretaste-din", "din"), against=()).pairs
    assert pairs == [("foretaste", "foretaste-din"), ("foretaste", "din"), ("foretaste-din", "din")]
