from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.data.examples import Examples, batches, encode_users
from models.data.histories import Histories
from models.data.sampling import NegativeSampler
from models.data.vocabulary import fit_encoding, item_counts
from models.log.schema import LogSchema
from models.runtime.encoding import FIELD_UNKNOWN, PADDING, UNKNOWN
from tests.data_factory import dataset_of, encoding_of
from tests.towers_factory import dataset


@pytest.fixture(scope="module", params=[False, True], ids=["watched", "labelled"])
def parts(request: pytest.FixtureRequest) -> Any:
    data, split = dataset(labels=request.param)
    encoding = fit_encoding(data, split.instant_ms)
    return data, split, encoding, Examples.of(data, split.train, encoding, Histories.of(data, encoding))


def _rows(parts: Any, batch: Any, examples: Any, moments: Any) -> Any:
    """Every row of a batch as what it came from: user, time, context, item, label."""
    data, _, _, _ = parts
    return sorted(
        (
            data.users["user_id"][batch.users[owner]],
            int(examples.times_ms[moments[owner]]),
            tuple(batch.context[owner]),
            int(candidate),
            int(label),
        )
        for candidate, label, owner in zip(batch.candidates, batch.labels, batch.owner, strict=True)
    )


def test_every_interaction_is_a_row_of_the_moment_it_belongs_to(parts: Any) -> None:
    _, split, encoding, examples = parts
    everything = np.arange(len(examples.users))
    frame = split.train
    expected = sorted(
        zip(
            frame["user_id"],
            frame["time_ms"],
            [tuple(row) for row in encoding.encode_context(frame[["device"]].to_dict("records"))],
            encoding.encode_items(frame["item_id"].tolist()).tolist(),
            frame["label"],
            strict=True,
        )
    )
    assert _rows(parts, examples.batch(everything), examples, everything) == expected


def test_behaviour_is_what_lies_strictly_before_each_moment(parts: Any) -> None:
    data, _, encoding, examples = parts
    moments = np.arange(0, len(examples.users), 37)
    batch = examples.batch(moments)
    for row, moment in enumerate(moments):
        user = data.users["user_id"][examples.users[moment]]
        frame = data.interactions
        before = frame[
            (frame["user_id"] == user) & (frame["time_ms"] < examples.times_ms[moment]) & (frame["label"] == 1)
        ]
        items, actions = encoding.encode_behaviour(before["item_id"].tolist(), before["action"].tolist())
        assert batch.items[row].tolist() == items.tolist()
        assert batch.actions[row].tolist() == actions.tolist()


def test_attributes_are_those_of_the_user(parts: Any) -> None:
    data, _, encoding, examples = parts
    names = list(encoding.attributes)
    rows = data.users[names].astype(object).where(data.users[names].notna(), None).to_dict("records")
    assert encode_users(data, encoding).tolist() == encoding.encode_attributes(rows).tolist()
    batch = examples.batch(np.array([3, 1]))
    assert batch.attributes.tolist() == encode_users(data, encoding)[examples.users[[3, 1]]].tolist()


def test_each_row_brings_negatives_that_its_user_never_met(parts: Any) -> None:
    data, split, encoding, examples = parts
    counts = item_counts(data, encoding, split.instant_ms)
    sampler = NegativeSampler(data, encoding, counts, np.random.default_rng(0))
    moments = np.arange(50)
    plain, batch = examples.batch(moments), examples.batch(moments, sampler, 4)
    assert len(batch.candidates) == 5 * len(plain.candidates)
    added = slice(len(plain.candidates), None)
    assert not batch.labels[added].any()
    assert np.array_equal(np.bincount(batch.owner), 5 * np.bincount(plain.owner))
    met = set(zip(data.interactions["user_id"], data.interactions["item_id"], strict=True))
    for candidate, owner in zip(batch.candidates[added], batch.owner[added], strict=True):
        assert (data.users["user_id"][batch.users[owner]], encoding.items[candidate - 2]) not in met


def test_hiding_takes_the_behaviour_of_the_flagged_alone(parts: Any) -> None:
    *_, examples = parts
    batch = examples.batch(np.arange(400, 440))
    flags = np.arange(40) % 2 == 0
    hidden = batch.hidden(flags)
    assert not hidden.items[flags].any()
    assert not hidden.actions[flags].any()
    assert np.array_equal(hidden.items[~flags], batch.items[~flags])


def test_made_unknown_are_about_the_share_and_never_padding(parts: Any) -> None:
    *_, examples = parts
    batch = examples.batch(np.arange(len(examples.users)))
    forgotten = batch.with_unknowns(0.25, np.random.default_rng(0))
    assert np.array_equal(forgotten.items == PADDING, batch.items == PADDING)
    assert set(forgotten.items[forgotten.items != batch.items]) == {UNKNOWN}
    assert set(forgotten.attributes[forgotten.attributes != batch.attributes]) == {FIELD_UNKNOWN}
    assert np.mean(forgotten.candidates != batch.candidates) == pytest.approx(0.25, abs=0.03)
    assert np.array_equal(forgotten.labels, batch.labels)


def test_batches_hold_every_moment_once_and_about_as_many_rows_as_asked() -> None:
    sizes = np.random.default_rng(0).integers(1, 9, 500)
    parts = list(batches(sizes, 100, np.random.default_rng(1)))
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    assert all(80 <= sizes[part].sum() <= 120 for part in parts)
    assert not np.array_equal(np.concatenate(parts), np.arange(500))
    assert np.array_equal(np.concatenate(list(batches(sizes, 100))), np.arange(500))


def test_no_moments_make_no_batches() -> None:
    assert list(batches(np.zeros(0, dtype=np.int64), 100)) == []
    assert [part.tolist() for part in batches(np.array([3]), 100)] == [[0]]


def test_a_batch_tells_its_times_and_how_many_behaviours_it_shows(parts: Any) -> None:
    *_, examples = parts
    moments = np.arange(300, 360)
    batch = examples.batch(moments)
    assert np.array_equal(batch.times_ms, examples.times_ms[moments])
    assert np.array_equal(batch.seen, (batch.items != PADDING).sum(axis=1))
    assert batch.seen.max() > 0
    flags = np.arange(60) % 3 == 0
    assert np.array_equal(batch.hidden(flags).seen, np.where(flags, 0, batch.seen))


def test_indices_are_what_torch_wants(parts: Any) -> None:
    *_, examples = parts
    batch = examples.batch(np.arange(5))
    for name in ("users", "attributes", "context", "items", "actions", "candidates", "owner", "times_ms", "seen"):
        assert getattr(batch, name).dtype == np.int64, name


def test_rows_in_any_order_make_the_same_moments(parts: Any) -> None:
    data, split, encoding, examples = parts
    shuffled = split.train.sample(frac=1.0, random_state=3)
    again = Examples.of(data, shuffled, encoding, examples.histories)
    for name in ("users", "times_ms", "context", "starts"):
        assert np.array_equal(getattr(again, name), getattr(examples, name)), name


def test_no_rows_make_no_moments(parts: Any) -> None:
    data, split, encoding, examples = parts
    none = Examples.of(data, split.train.iloc[:0], encoding, examples.histories)
    assert len(none.users) == len(none.sizes) == 0
    assert len(none.batch(np.zeros(0, dtype=np.int64)).candidates) == 0


def test_a_moment_is_as_old_as_the_time_since_the_first_event_or_the_registration() -> None:
    data = dataset_of([(0, 0, 0, 1), (1, 1, 400, 1), (0, 1, 2_000, 1), (1, 2, 90_400, 1)])
    encoding = replace(encoding_of(), age_bounds=(0, 1_000, 60_000))
    data = replace(data, description=LogSchema({}, {}, {}).description)
    histories = Histories.of(data, encoding)
    examples = Examples.of(data, data.interactions, encoding, histories)
    assert examples.ages.tolist() == [1, 1, 2, 3]
    told = replace(data, registered_ms=np.array([-70_000, -1, 0, 0], dtype=np.int64))
    assert Examples.of(told, told.interactions, encoding, histories).ages.tolist() == [3, 0, 3, 0]
    batch = examples.batch(np.arange(4))
    assert batch.hidden(np.ones(4, dtype=np.bool_)).ages.tolist() == [1, 1, 2, 3], "behaviour is hidden, age is not"
    assert not batch.with_unknowns(1.0, np.random.default_rng(0)).ages.any()
