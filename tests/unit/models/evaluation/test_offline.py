import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.evaluation.metrics import gauc
from models.evaluation.offline import EvaluationConfig, _interval, evaluate
from models.training.cotrain import cotrain
from tests.towers_factory import config, dataset, trained


@pytest.fixture(scope="module")
def metrics() -> Any:
    data, split = dataset()
    return evaluate(data, split, trained())


def test_new_users_are_ranked_better_than_by_popularity_or_chance(metrics: Any) -> None:
    assert metrics["cold.virtual.gauc"] > metrics["cold.popularity.gauc"] + 0.05
    assert metrics["cold.virtual.auc"] > 0.68
    assert metrics["warm.real.gauc"] > metrics["warm.popularity.gauc"] + 0.02, "0.62 to 0.67 by the seed"


def test_every_group_has_its_figures_and_counts(metrics: Any) -> None:
    _, split = dataset()
    ways = {"cold": ("virtual", "none", "popularity"), "warm": ("real", "popularity")}
    figures = ("auc", "gauc", "gauc_low", "gauc_high")
    expected = {f"{group}.{way}.{figure}" for group, own in ways.items() for way in own for figure in figures}
    assert set(metrics) == expected | {"cold.users", "cold.rows", "warm.users", "warm.rows"}
    assert metrics["cold.users"] == len(split.cold_users)
    assert metrics["warm.users"] == len(split.warm_users)
    assert all(0 <= metrics[name] <= 1 for name in expected)
    assert all(
        metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"] for name in expected if name.endswith("gauc")
    )


def test_the_same_seed_gives_the_same_figures(metrics: Any) -> None:
    data, split = dataset()
    assert evaluate(data, split, trained()) == metrics
    assert evaluate(data, split, trained(), EvaluationConfig(seed=2)) != metrics


def test_progress_ends_at_its_total() -> None:
    data, split = dataset()
    heard = []
    evaluate(data, split, trained(), EvaluationConfig(batch=500), lambda done, total: heard.append((done, total)))
    assert heard[-1][0] == heard[-1][1] == len(heard) > 2


def test_at_most_so_many_events_of_a_user_are_judged() -> None:
    data, split = dataset()
    found = evaluate(data, split, trained(), EvaluationConfig(events_a_user=3))
    assert found["cold.rows"] <= 5 * 3 * len(split.cold_users)
    assert found["cold.users"] == len(split.cold_users)
    everything = evaluate(data, split, trained(), EvaluationConfig(events_a_user=None))
    assert everything["cold.rows"] + everything["warm.rows"] == 5 * len(split.test)


def test_an_event_whose_item_training_never_met_is_not_judged() -> None:
    data, split = dataset()
    item = split.test["item_id"].iloc[0]
    early = (data.interactions["time_ms"] < split.instant_ms) & (data.interactions["item_id"] == item)
    without = replace(data, interactions=data.interactions[~early])
    found = evaluate(without, split, trained(), EvaluationConfig(events_a_user=None))
    judged = (split.test["item_id"] != item).sum()
    assert 0 < judged < len(split.test)
    assert found["cold.rows"] + found["warm.rows"] == 5 * judged


def test_a_group_of_nobody_gives_nan_and_zero_counts() -> None:
    data, split = dataset()
    found = evaluate(data, replace(split, warm_users=()), trained())
    assert found["warm.users"] == found["warm.rows"] == 0
    assert math.isnan(found["warm.real.auc"])
    assert math.isnan(found["warm.popularity.gauc_high"])
    assert found["cold.rows"] > 0


def test_labels_of_the_data_are_judged_as_they_are() -> None:
    data, split = dataset(labels=True)
    towers = cotrain(data, split, config(epochs=6, warm_after=4))
    found = evaluate(data, split, towers, EvaluationConfig(events_a_user=None))
    assert found["cold.rows"] + found["warm.rows"] == len(split.test)
    assert found["cold.virtual.auc"] > 0.68


def test_gauc_has_an_interval_over_users() -> None:
    rng = np.random.default_rng(0)
    aucs, impressions = np.append(rng.random(40), np.nan), np.append(rng.integers(2, 9, 40), 5).astype(float)
    middle, low, high = _interval(aucs, impressions, 500, rng)
    assert low < middle < high
    assert middle == pytest.approx(np.average(aucs[:-1], weights=impressions[:-1]))
    assert high - low == pytest.approx(3.92 * np.std(aucs[:-1]) / math.sqrt(40), rel=0.3)
    assert math.isnan(_interval(np.array([np.nan]), np.ones(1), 10, rng)[0])
    assert math.isnan(gauc([1], [1], [0.5]))
