from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from foretaste.kernel.errors import ForetasteError, InvalidInput
from models.runtime.account_age import NEVER_REGISTERED, age_bins
from models.runtime.encoding import UNKNOWN
from models.study.fold import MAKES_NEW, NEW_ITEMS, OF_USERS, PROTOCOLS, Fold, check_protocols
from models.study.new_items import served_encoding, with_new_items
from models.study.protocols import SEEN, STEPS, Questions, questions
from tests.study_parts import ByTable, fold


@pytest.fixture(scope="module")
def asked() -> Any:
    return questions(fold(), OF_USERS)


def _events(protocol: Any = "hidden") -> Any:
    """(user, item index, time) of every interaction that a protocol knows, in the order of the data."""
    under = fold().under(protocol)
    frame = under.dataset.interactions
    users = under.dataset.user_rows(frame["user_id"])
    items = under.encoding.encode_items(frame["item_id"].tolist())
    return list(zip(users.tolist(), items.tolist(), frame["time_ms"].tolist(), strict=True))


def _asked(of: Any) -> Any:
    return questions(of, ("hidden",))["hidden"]


def _rows(questions: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user": questions.user_of_row,
            "item": questions.candidates,
            "label": questions.labels,
            "group": [questions.groups[place] for place in questions.group],
            "time": questions.times_ms[questions.owner],
        }
    )


def test_no_negative_is_an_item_that_its_user_ever_met(asked: Any) -> None:
    for protocol, of_protocol in asked.items():
        met = {(user, item) for user, item, _ in _events(protocol)}
        rows = _rows(of_protocol)
        negatives = rows[rows["label"] == 0]
        assert len(negatives) == 4 * (rows["label"] == 1).sum()
        assert not met & set(zip(negatives["user"], negatives["item"], strict=True))
        assert set(zip(*rows.loc[rows["label"] == 1, ["user", "item"]].to_numpy().T, strict=True)) <= met


def test_an_event_has_the_same_candidates_whenever_it_is_asked_and_for_protocols_of_the_same_users(asked: Any) -> None:
    again = questions(fold(), ("first_steps",))["first_steps"]
    assert np.array_equal(again.candidates, asked["first_steps"].candidates)
    for hidden, by_steps in (("hidden", "first_steps"), ("random_40", "random_40_steps")):
        everything = _rows(asked[hidden]).value_counts(["user", "item", "label"])
        steps = _rows(asked[by_steps]).value_counts(["user", "item", "label"])
        assert (steps <= everything.reindex(steps.index, fill_value=0)).all()


def test_negatives_are_drawn_by_their_popularity_before_the_split_among_what_a_user_never_met(asked: Any) -> None:
    """How often each item is drawn against how often it should be, in units of that number's own spread."""
    rows = _rows(asked["hidden"])
    negatives = rows[rows["label"] == 0]
    items = fold().encoding.item_count
    before = [item for _, item, time in _events() if time < fold().split.instant_ms]
    weights = np.bincount(before, minlength=items).astype(float)
    expected = np.zeros(items)
    for user, drawn in negatives.groupby("user").size().items():
        own = weights.copy()
        own[[item for other, item, _ in _events() if other == user]] = 0
        expected += drawn * own / own.sum()
    found = np.bincount(negatives["item"], minlength=items)
    possible = expected > 0
    assert not found[~possible].any()
    assert np.mean((found - expected)[possible] ** 2 / expected[possible]) == pytest.approx(1, abs=0.5)


def test_every_event_after_the_split_is_asked_once_and_new_users_show_no_behaviour(asked: Any) -> None:
    questions = asked["hidden"]
    split = fold().split
    rows = _rows(questions)
    positives = rows[rows["label"] == 1].groupby("group").size()
    assert positives["new"] == split.test["user_id"].isin(split.cold_users).sum()
    assert positives["warm"] == split.test["user_id"].isin(split.warm_users).sum()
    cold = set(fold().dataset.user_rows(split.cold_users).tolist())
    for _, batch in questions.batches(300):
        new = np.isin(batch.users, list(cold))
        assert not batch.items[new].any()
        assert not batch.actions[new].any()
        assert not batch.seen[new].any()
        assert batch.items[~new].any(axis=1).all()


def test_a_batch_shows_what_lies_strictly_before_its_instant_and_nothing_else(asked: Any) -> None:
    """Against a search through all events, one by one."""
    events = _events()
    equal_times = 0
    for _, batch in asked["first_steps"].batches(400):
        for place in range(len(batch.users)):
            own = [event for event in events if event[0] == batch.users[place]]
            earlier = [item for _, item, time in own if time < batch.times_ms[place]]
            equal_times += sum(time == batch.times_ms[place] for _, _, time in own) > 1
            shown = batch.items[place][batch.items[place] != 0].tolist()
            assert shown == earlier[-100:]
            assert batch.seen[place] == len(shown)
    assert equal_times, "without events of one time this test would say little"


def test_no_label_reaches_a_ranker(asked: Any) -> None:
    assert not any(batch.labels.any() for _, batch in asked["hidden"].batches())


def test_first_steps_are_grouped_by_how_many_behaviours_lie_strictly_before(asked: Any) -> None:
    """Against counting them for each new user."""
    events, split = _events(), fold().split
    expected = []
    for user in fold().dataset.user_rows(split.cold_users).tolist():
        own = [event for event in events if event[0] == user]
        for _, item, time in own[:STEPS]:
            seen = sum(other < time for _, _, other in own)
            (group,) = (name for name, (least, most) in SEEN.items() if least <= seen <= most)
            expected.append((user, item, group))
    rows = _rows(asked["first_steps"])
    found = rows.loc[rows["label"] == 1, ["user", "item", "group"]].itertuples(index=False, name=None)
    assert sorted(found) == sorted(expected)
    assert {group for *_, group in expected} == set(SEEN)


def test_users_made_new_show_no_behaviour_and_all_others_theirs(asked: Any) -> None:
    new = set(fold().under("random_40").new_users.tolist())
    assert len(new) / len(fold().dataset.users) == pytest.approx(0.4, abs=0.1)
    rows = _rows(asked["random_40"])
    assert set(rows.loc[rows["group"] == "new", "user"]) <= new
    assert not set(rows.loc[rows["group"] == "warm", "user"]) & new
    assert set(_rows(asked["random_40_steps"])["user"]) <= new
    for _, batch in asked["random_40"].batches(300):
        assert not batch.seen[np.isin(batch.users, list(new))].any()
    material = fold().material("random_40", seed=3)
    users = np.arange(len(fold().dataset.users))
    seen = material.histories.before(users, np.full(len(users), 2**60))[2]
    trained_on = fold().dataset.user_rows(fold().split.train["user_id"].unique().tolist())
    assert all((seen[user] > 0) == (user not in new) for user in trained_on)


@pytest.mark.parametrize("protocol", MAKES_NEW)
def test_nothing_of_a_user_made_new_lies_before_the_split(protocol: Any) -> None:
    """Other items in these rows change nothing that is learned from, asked, or drawn as a negative."""
    data, instant = fold().dataset, fold().split.instant_ms
    new = fold().under(protocol).new_users
    frame = data.interactions.copy()
    past = (frame["time_ms"] < instant).to_numpy() & np.isin(data.user_rows(frame["user_id"]), new)
    assert past.any()
    moved = frame["item_id"].to_numpy().copy()
    moved[past] = np.random.default_rng(2).permutation(moved[past])
    other = Fold.of(replace(data, interactions=frame.assign(item_id=moved)), instant)
    one, two = (each.material(protocol, seed=0) for each in (fold(), other))
    assert not np.isin(one.dataset.user_rows(one.split.train["user_id"]), new).any()
    assert one.split.train.astype(str).equals(two.split.train.astype(str))
    assert one.encoding.to_json() == two.encoding.to_json()
    asked, again = (questions(each, (protocol,))[protocol] for each in (fold(), other))
    for field in ("candidates", "labels", "repeat", "times_ms", "group"):
        assert np.array_equal(getattr(asked, field), getattr(again, field))


@pytest.fixture(scope="module")
def of_new_items() -> Questions:
    return questions(fold(), (NEW_ITEMS,))[NEW_ITEMS]


def test_of_new_items_nothing_is_learned_and_all_of_their_events_are_asked(of_new_items: Questions) -> None:
    under, data = fold().under(NEW_ITEMS), fold().dataset
    new = set(data.items["item_id"].iloc[sorted(under.new_items)])
    assert 0.1 < len(new) / len(data.items) < 0.3
    assert not new & set(under.split.train["item_id"])
    assert not new & set(under.encoding.items)
    assert under.split.test["item_id"].isin(new).sum() == (of_new_items.labels == 1).sum()
    assert (of_new_items.candidates >= under.encoding.first_kind).all()


def test_a_new_item_is_asked_against_others_that_its_user_never_met(of_new_items: Questions) -> None:
    under, data = fold().under(NEW_ITEMS), fold().dataset
    encoding = served_encoding(under)
    kind_of = {
        item: int(encoding.encode_items([item])[0]) for item in data.items["item_id"].iloc[sorted(under.new_items)]
    }
    rows = _rows(of_new_items)
    for user, drawn in rows[rows["label"] == 0].groupby("user")["item"]:
        own = data.interactions[data.user_rows(data.interactions["user_id"]) == user]
        met = set(own["item_id"].astype(str))
        assert set(drawn) <= {kind for item, kind in kind_of.items() if item not in met}
    assert (rows["label"] == 0).sum() == pytest.approx(4 * (rows["label"] == 1).sum(), rel=0.1)


def test_a_method_without_kinds_reads_an_unknown_item(of_new_items: Questions) -> None:
    encoding = fold().under(NEW_ITEMS).encoding
    table = np.arange(encoding.item_count, dtype=np.float64)
    found = of_new_items.scores(with_new_items(ByTable(table), encoding))
    batches = [batch for _, batch in of_new_items.batches()]
    assert len(found) == sum(len(batch.candidates) for batch in batches)
    assert found.max() < UNKNOWN + 1 + 0.01 * 100 + 0.001 * len(fold().dataset.users)


def test_inside_the_training_period_others_are_made_new(asked: Any) -> None:
    outer = fold().under("random_40")
    inner = outer.validation.under("random_40")
    assert not set(inner.dataset.user_rows(inner.dataset.interactions["user_id"])) & set(outer.new_users.tolist())
    rows = _rows(questions(outer.validation, ("random_40",))["random_40"])
    assert set(rows["group"]) == {"new", "warm"}
    assert not set(rows["user"]) & set(outer.new_users.tolist())


def test_an_event_repeats_what_its_user_had_acted_on_strictly_before() -> None:
    """Against a search through all events; some are made to repeat one of the same user, at the same time or later."""
    data, instant = fold().dataset, fold().split.instant_ms
    frame = data.interactions
    own = frame.groupby("user_id", observed=True)["item_id"].transform("first")
    repeated = frame.assign(item_id=frame["item_id"].where(np.arange(len(frame)) % 3 > 0, own))
    of = Fold.of(replace(data, interactions=repeated), instant)
    everything = list(repeated[["user_id", "item_id", "time_ms"]].astype({"user_id": str}).itertuples(index=False))
    late = [event for event in everything if event[2] >= instant]
    expected = sum(any(e[:2] == o[:2] and e[2] < o[2] for e in everything) for o in late)
    asked = _asked(of)
    assert 0 < expected < len(late)
    assert asked.repeat[asked.labels == 1].sum() == expected
    negatives = asked.repeat[asked.labels == 0]
    assert negatives.sum() == 4 * expected, "the negatives of a repeated event go with it"


def test_what_a_method_learns_from_holds_nothing_at_or_after_the_split() -> None:
    for protocol in PROTOCOLS:
        material = fold().material(protocol, seed=0)
        instant = fold().split.instant_ms
        assert (material.dataset.interactions["time_ms"] < instant).all()
        assert not len(material.split.test)
        assert not material.split.cold_users
        assert not material.split.warm_users
        assert (material.histories.times_ms < instant).all()
        assert len(material.histories.times_ms) > 0
        assert len(material.dataset.users) == len(fold().dataset.users)


def test_validation_lies_inside_the_training_period_with_new_users_of_its_own() -> None:
    inner, outer = fold().validation, fold().split
    assert inner.dataset.interactions["time_ms"].max() < outer.instant_ms
    assert len(inner.split.train) == pytest.approx(0.8 * len(outer.train), rel=0.05)
    assert inner.split.cold_users
    assert not set(inner.split.cold_users) & set(outer.cold_users)
    assert not set(inner.split.cold_users) & set(inner.split.train["user_id"])


def test_labels_of_the_data_are_asked_as_they_are() -> None:
    labelled = fold(labels=True)
    rows = _rows(_asked(labelled))
    test = labelled.split.test
    items = labelled.encoding.encode_items(test["item_id"].tolist())
    expected = zip(labelled.dataset.user_rows(test["user_id"]), items, test["label"], strict=True)
    assert sorted(rows[["user", "item", "label"]].itertuples(index=False, name=None)) == sorted(expected)


def test_context_stays_with_its_event(asked: Any) -> None:
    test = fold().split.test
    context = fold().encoding.context["device"].encode(test["device"].tolist())
    items = fold().encoding.encode_items(test["item_id"].tolist())
    users = fold().dataset.user_rows(test["user_id"])
    expected = sorted(zip(users, items, context, strict=True))
    questions = asked["hidden"]
    shown = []
    for _, batch in questions.batches(500):
        shown += list(zip(batch.users[batch.owner], batch.candidates, batch.context[batch.owner, 0], strict=True))
    positive = {(user, item) for user, item, _ in expected}
    assert sorted(row for row in shown if row[:2] in positive) == expected


def test_batches_ask_every_row_once_whatever_their_size(asked: Any) -> None:
    for of_protocol in asked.values():
        by_size = []
        for size in (100, 10**6):
            rows = np.concatenate([rows for rows, _ in of_protocol.batches(size)])
            assert sorted(rows) == list(range(len(of_protocol.owner)))
            table = np.random.default_rng(0).random(fold().encoding.item_count)
            by_size.append(of_protocol.scores(ByTable(table)))
        assert np.array_equal(*by_size)


@pytest.mark.parametrize("bad", [np.full(1, np.nan), np.zeros((1, 1)), np.zeros(0)])
def test_scores_that_cannot_be_judged_are_refused(asked: Any, bad: Any) -> None:
    class Broken:
        def scores(self, batch: Any) -> npt.NDArray[Any] | Any:
            return np.resize(bad, (len(batch.candidates), *bad.shape[1:])) if bad.size else bad

    with pytest.raises(ForetasteError, match="finite number a candidate"):
        asked["hidden"].scores(Broken())


def _without_past(*items: str, labels: bool = False) -> Fold:
    """The fold where nobody had acted on the items before the split."""
    of = fold(labels=labels)
    frame = of.dataset.interactions
    early = (frame["time_ms"] < of.split.instant_ms) & frame["item_id"].isin(items)
    return Fold.of(replace(of.dataset, interactions=frame[~early]), of.split.instant_ms)


def test_an_item_that_training_never_met_is_no_question_but_behaviour_of_what_comes_after() -> None:
    """It would be right whenever it is a candidate, and whoever puts the unknown first would win."""
    item = fold().dataset.interactions["item_id"].iloc[0]
    without = _without_past(item)
    own = without.split.test["item_id"] == item
    found = questions(without, ("hidden", "first_steps"))
    assert own.sum() > 5
    assert (found["hidden"].labels == 1).sum() == len(without.split.test) - own.sum()
    for each in found.values():
        assert not (each.candidates == UNKNOWN).any()
    cold = without.split.test[without.split.test["user_id"].isin(without.split.cold_users)]
    steps = cold.groupby("user_id", observed=True).head(STEPS)
    asked_of = (steps["item_id"] != item).sum()
    assert (found["first_steps"].labels == 1).sum() == asked_of < len(steps), "a first step, though not asked"
    assert any((batch.items == UNKNOWN).any() for _, batch in found["hidden"].batches())


def test_an_item_that_training_never_met_is_asked_where_the_data_say_who_passed_it_by() -> None:
    without = _without_past(fold(labels=True).dataset.interactions["item_id"].iloc[0], labels=True)
    asked = _asked(without)
    assert len(asked.labels) == len(without.split.test)
    assert set(asked.labels[asked.candidates == UNKNOWN]) == {0, 1}


def test_a_kind_of_new_items_that_nobody_had_acted_on_is_no_question_either() -> None:
    under = fold().under(NEW_ITEMS)
    new = fold().dataset.items["item_id"].iloc[sorted(under.new_items)].astype(str).to_numpy()
    kinds = served_encoding(under).encode_items(new.tolist())
    alike = new[kinds == kinds[0]].tolist()
    before, after = (questions(of, (NEW_ITEMS,))[NEW_ITEMS] for of in (fold(), _without_past(*alike)))
    own = fold().split.test["item_id"].isin(alike).sum()
    assert own > 0
    assert (before.labels == 1).sum() - (after.labels == 1).sum() == own


def test_new_items_of_which_none_has_a_past_leave_nothing_to_ask() -> None:
    new = fold().dataset.items["item_id"].iloc[sorted(fold().under(NEW_ITEMS).new_items)].astype(str)
    asked = questions(_without_past(*new), (NEW_ITEMS,))[NEW_ITEMS]
    assert not len(asked.labels)


def test_protocols_that_are_unknown_or_none_are_refused() -> None:
    assert check_protocols(["random_40", "hidden"]) == ("hidden", "random_40")
    for names, said in (([], "names none"), (["seen"], "seen")):
        with pytest.raises(InvalidInput, match=f"^protocols: .*{said}"):
            check_protocols(names)


@pytest.mark.parametrize("protocol", OF_USERS)
def test_an_event_is_as_old_as_its_user_was_then_though_behaviour_is_hidden(asked: Any, protocol: str) -> None:
    questions, known = asked[protocol], fold()
    first: dict[int, int] = {}
    possible: dict[tuple[int, int], set[int]] = {}
    for user, item, time_ms in _events(protocol):
        first.setdefault(user, time_ms)
        (age,) = age_bins([first[user]], [time_ms], known.encoding.age_bounds).tolist()
        possible.setdefault((user, item), set()).add(age)
    positive = np.flatnonzero(questions.labels == 1)
    ages = questions.ages[questions.owner[positive]].tolist()
    asked_of = zip(questions.user_of_row[positive].tolist(), questions.candidates[positive].tolist(), strict=True)
    assert all(age in possible[of] for age, of in zip(ages, asked_of, strict=True))
    assert len(set(ages)) > 2
    for rows, batch in questions.batches():
        assert np.array_equal(batch.ages[batch.owner], questions.ages[questions.owner[rows]])


def test_whoever_is_made_new_registers_with_the_first_event_that_is_left() -> None:
    given = fold()
    instant = given.split.instant_ms
    registered_ms = given.dataset.first_events_ms - 1
    registered_ms[::5] = NEVER_REGISTERED
    under = Fold.of(replace(given.dataset, registered_ms=registered_ms), instant).under("random_40")
    anew = np.zeros(len(registered_ms), dtype=np.bool_)
    anew[under.new_users] = True
    anew &= (registered_ms != NEVER_REGISTERED) & (registered_ms < instant)
    assert anew.any()
    found = under.dataset.registrations_ms
    assert np.array_equal(found[~anew], registered_ms[~anew])
    assert np.array_equal(found[anew], under.dataset.first_events_ms[anew])
    assert ((found[anew] >= instant) | (found[anew] == NEVER_REGISTERED)).all()
