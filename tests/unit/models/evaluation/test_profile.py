"""A generation's profile: what it says of its training, and that the watch reads it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from features.generations.records import from_json, to_json
from foretaste.kernel.events import UserRanked
from foretaste.kernel.profile import Profile, Shares, read_profile
from foretaste.kernel.ranking import Source
from foretaste.testing import InMemoryGenerations, InMemoryOnlineStore
from models.data.dataset import Dataset
from models.data.examples import Examples
from models.data.histories import Histories
from models.data.sampling import NegativeSampler
from models.data.split import split_by_time
from models.data.vocabulary import item_counts
from models.evaluation.profile import MOST_BYTES, ProfileConfig, _fewer, _within, profile_of
from models.generations.export import export
from models.generations.manifest import generation_record
from models.runtime.encoding import FIRST_KNOWN
from models.runtime.fields import CategoricalEncoder
from models.training.trained import Trained
from streams.watch.drift import Drift
from streams.watch.monitor import Monitor
from tests.questions_factory import asking
from tests.stream_parts import NOW, ChosenTowers, message
from tests.towers_factory import METRICS, dataset, trained


@cache
def examples(*, hidden: bool = False) -> Examples:
    data, split = dataset()
    encoding = trained().encoding
    shown = replace(data, interactions=data.interactions.iloc[:0]) if hidden else data
    return Examples.of(data, split.train, encoding, Histories.of(shown, encoding))


def sampler(seed: int = 0) -> NegativeSampler:
    return sampler_of(dataset()[0], trained(), seed)


def sampler_of(data: Dataset, towers: Trained, seed: int = 0) -> NegativeSampler:
    split = split_by_time(data)
    past, encoding = replace(data, interactions=split.train), towers.encoding
    counts = item_counts(data, encoding, split.instant_ms)
    return NegativeSampler(past, encoding, counts, np.random.default_rng(seed))


def profile(**changed: int) -> Profile:
    return profile_of(
        trained(), examples(), np.random.default_rng(0), sampler=sampler(), config=ProfileConfig(**changed)
    )


def test_shares_of_attributes_are_those_of_the_moments() -> None:
    data, split = dataset()
    moments = split.train.drop_duplicates(["user_id", "time_ms", "device"])
    people = data.users.set_index("user_id").loc[moments["user_id"]]
    found = profile()
    assert found.moments == len(moments) == len(examples().sizes)
    segment = found.attributes["segment"]
    shares = people["segment"].value_counts(normalize=True)
    assert segment.values is not None
    assert dict(zip(segment.values, segment.shares, strict=False)) == pytest.approx(dict(shares), abs=1e-6)
    assert segment.shares[-2:] == (0, 0)
    age = found.attributes["age"]
    assert age.edges is not None
    assert age.shares[-1] == pytest.approx(people["age"].isna().mean(), abs=1e-6)
    known = people["age"].dropna().astype(float)
    expected = pd.cut(known, [-np.inf, *age.edges, np.inf], right=False).value_counts(sort=False) / len(people)
    assert age.shares[:-1] == pytest.approx(expected.tolist(), abs=1e-6)


def test_shares_of_lengths_and_items() -> None:
    found = profile()
    users, times = examples().users.astype(np.int64), examples().times_ms
    seen = examples().histories.seen(users, times)
    counts = [np.mean((seen >= low) & (seen < high)) for low, high in ((0, 1), (1, 3), (3, 6), (6, 11), (11, 21))]
    assert found.lengths.shares[:5] == pytest.approx(counts, abs=1e-6)
    assert list(found.lengths.edges or ()) == [1, 3, 6, 11, 21, 51]
    assert found.items.values is not None
    assert len(found.items.values) == len(trained().encoding.items)
    place = trained().encoding.items.index(found.items.values[0])
    assert found.items.shares[0] == pytest.approx(trained().popularity.max(), abs=1e-6)
    assert trained().popularity[place + FIRST_KNOWN] == trained().popularity.max()
    assert list(found.items.shares[:-2]) == sorted(found.items.shares[:-2], reverse=True)


def test_shares_sum_to_one() -> None:
    found = profile()
    for shares in (*found.attributes.values(), found.lengths, found.items):
        assert sum(shares.shares) == pytest.approx(1, abs=1e-4)


def test_the_most_frequent_values_are_kept_and_the_others_summed() -> None:
    whole, short = profile(), profile(values=1, items=3)
    assert short.items.values == (whole.items.values or ())[:3]
    assert short.items.shares[:3] == whole.items.shares[:3]
    assert short.items.shares[3] == pytest.approx(sum(whole.items.shares[3:]), abs=1e-5)
    assert len(short.attributes["segment"].values or ()) == 1
    assert short.attributes["age"] == whole.attributes["age"], "bins are kept"


def test_norms_are_means_over_the_drawn_moments() -> None:
    found = profile()
    batch = examples().batch(np.arange(len(examples().sizes)))
    with torch.inference_mode():
        virtual = trained().zero_shot(torch.from_numpy(batch.attributes))
    assert found.virtual_norm == pytest.approx(float(virtual.flatten(1).norm(dim=1).mean()), abs=1e-4)
    assert found.behaviour_norm is not None
    assert found.behaviour_norm > 0
    nobody = profile_of(trained(), examples(hidden=True), np.random.default_rng(0), sampler=sampler())
    assert nobody.behaviour_norm is None
    assert nobody.lengths.shares[0] == 1


def test_calibration_is_by_group_and_near_what_was_observed() -> None:
    found = profile().calibration
    assert set(found) == {"cold", "warming", "warm"}
    rows = 5 * len(dataset()[1].train)
    assert sum(each.impressions for each in found.values()) == pytest.approx(rows, rel=0.01)
    for each in found.values():
        assert each.observed == pytest.approx(0.2, abs=0.02), "four negatives were sampled for each"
        assert each.predicted == pytest.approx(each.observed, abs=0.1)
    assert profile_of(trained(), examples(), np.random.default_rng(0)).calibration == {}, "one class"


def test_calibration_is_that_of_the_towers_as_served() -> None:
    """With what first acts tell; of users without any it is the same."""
    towers, data, _ = asking()
    of_moments = Examples.of(data, split_by_time(data).train, towers.encoding, Histories.of(data, towers.encoding))
    served, alone = (
        profile_of(each, of_moments, np.random.default_rng(0), sampler=sampler_of(data, towers)).calibration
        for each in (towers, replace(towers, asked=None))
    )
    assert served["warming"].predicted != alone["warming"].predicted
    assert served["cold"] == alone["cold"]


def test_a_few_moments_are_drawn_where_there_are_many() -> None:
    few = profile(moments=50)
    assert few.moments == profile().moments
    assert few.attributes == profile().attributes
    assert 50 * 5 <= sum(each.impressions for each in few.calibration.values()) < 50 * 5 * 10
    assert few == profile(moments=50)


def test_of_nothing_there_is_a_profile_too() -> None:
    data, split = dataset()
    nothing = Examples.of(data, split.train.iloc[:0], trained().encoding, Histories.of(data, trained().encoding))
    found = profile_of(trained(), nothing, np.random.default_rng(0))
    assert (found.moments, found.virtual_norm, found.behaviour_norm, found.calibration) == (0, None, None, {})


def test_the_watch_reads_it_and_finds_no_drift_in_the_training_users() -> None:
    data, split = dataset()
    baseline = read_profile(profile().model_dump_json())
    assert baseline is not None
    assert baseline.virtual_norm == profile().virtual_norm
    assert baseline.calibration["cold"].observed == profile().calibration["cold"].observed
    moments = split.train.drop_duplicates(["user_id", "time_ms", "device"])
    people = data.users.set_index("user_id").loc[moments["user_id"]]
    for name, expected in baseline.attributes.items():
        drift = Drift.of(expected, 60, 1)
        for value in people[name].astype(object).where(people[name].notna(), None):
            drift.add(0, int(value) if isinstance(value, np.integer) else value)
        assert drift.psi(0) == pytest.approx(0, abs=1e-6), name


async def test_a_published_generation_brings_its_profile_to_the_watch(tmp_path: Path) -> None:
    data, split = dataset()
    folder = export(trained(), data, METRICS, tmp_path, profile=profile().model_dump_json())
    record, shares = generation_record(folder)
    generations, now = InMemoryGenerations(lambda: NOW), datetime.fromtimestamp(NOW, UTC)
    await generations.record(from_json(to_json(record)), shares)
    await generations.activate(record.number, None)
    watch = Monitor(InMemoryOnlineStore(), ChosenTowers(), generations, now=lambda: NOW)
    moments = split.train.drop_duplicates(["user_id", "time_ms", "device"])
    people = data.users.set_index("user_id").loc[moments["user_id"]]
    for user_id, row in people.astype(object).where(people.notna(), None).iterrows():
        attributes = {str(name): row[name] for name in record.attributes}
        event = UserRanked(
            ranking_id="r",
            user_id=str(user_id),
            at=now,
            items=("i",),
            scores=(0.5,),
            attributes=attributes | {"segment": "never met"},
            served_by=Source.VIRTUAL,
            zero_shot_generation=record.number,
            ranking_generation=record.number,
        )
        await watch.rankings([message(event.model_dump_json().encode())])
    figures = watch.snapshot().figures
    assert figures is not None
    assert figures.attributes["age"] == pytest.approx(0, abs=1e-6)
    assert (figures.attributes["segment"] or 0) > 0.25, "it moved away from training"
    assert figures.virtual_norm_at_training == profile().virtual_norm
    assert figures.behaviour_norm_at_training == profile().behaviour_norm
    calibration = profile().calibration["cold"]
    cold = figures.groups["cold"]
    assert (cold.predicted_at_training, cold.acted_at_training) == (calibration.predicted, calibration.observed)


def test_the_text_stays_small_whatever_there_is() -> None:
    assert len(profile().model_dump_json()) < 8000
    wide = profile().model_copy(
        update={
            "attributes": {
                f"attribute {place}": Shares(
                    values=tuple(f"{place} {value} {'x' * 60}" for value in range(50)), shares=(1 / 52,) * 52
                )
                for place in range(60)
            }
        }
    )
    found = _within(wide, MOST_BYTES)
    assert len(found.model_dump_json().encode()) <= MOST_BYTES
    assert found.left_out == 0
    kept = found.attributes["attribute 0"]
    assert 0 < len(kept.values or ()) < 50
    assert len(kept.shares) == len(kept.values or ()) + 2
    assert sum(kept.shares) == pytest.approx(1, abs=1e-3)
    tiny = _within(wide, 3000)
    assert len(tiny.model_dump_json().encode()) <= 3000
    assert tiny.left_out == 60 - len(tiny.attributes) > 0
    assert read_profile(tiny.model_dump_json()) is not None


def test_of_a_wide_vocabulary_the_text_is_json_without_nan() -> None:
    encoding = trained().encoding
    wide = replace(
        encoding, attributes=encoding.attributes | {"city": CategoricalEncoder(("north", "south", "unseen"))}
    )
    found = profile_of(replace(trained(), encoding=wide), examples(), np.random.default_rng(0))
    assert (found.attributes["city"].values or ())[2] == "unseen"
    assert found.attributes["city"].shares[2] == 0
    assert "NaN" not in found.model_dump_json()
    json.loads(found.model_dump_json())


def test_a_shortened_profile_of_lists_tells_of_the_values_that_are_left() -> None:
    shares = Shares(values=("a", "b", "c"), shares=(0.4, 0.2, 0.2, 0.0, 0.2), of_lists=True)
    assert _fewer(shares, 2).shares == (0.5, 0.25, 0.0, 0.25)
    assert _fewer(shares, 2).values == ("a", "b")
