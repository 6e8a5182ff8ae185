"""A window of the training log as what training and the gate read: features as served, and nothing of the future."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import UserRanked
from foretaste.kernel.ports import Logged
from foretaste.kernel.values import MAX_BEHAVIOUR, Scalar
from models.data.dataset import Dataset, read_dataset
from models.data.examples import MOST_ROWS, Examples
from models.data.histories import Histories
from models.data.vocabulary import fit_encoding, item_counts
from models.effects.counts import InteractionRows
from models.log.join import joined
from models.log.schema import LogSchema, read_catalogue
from models.log.window import LogWindow
from models.runtime.account_age import UNKNOWN_AGE
from models.runtime.encoding import FIELD_UNKNOWN, UNKNOWN, Encoding, IndexArray
from models.runtime.fields import CategoricalEncoder
from models.training.cotrain import learn
from models.training.data import TrainingData
from tests.data_factory import write_dataset
from tests.towers_factory import config
from tests.window_factory import acted, logged, shown

SCHEMA = LogSchema({"city": "categorical"}, {}, {})
NORTH: dict[str, Scalar] = {"city": "north"}
SOUTH: dict[str, Scalar] = {"city": "south"}


def encoding(items: str = "abcdef", actions: tuple[str, ...] = ("did", "bought")) -> Encoding:
    """Items and actions in this order, two cities, and no context."""
    attributes = {"city": CategoricalEncoder(("north", "south"))}
    return Encoding(attributes, {}, {}, tuple(items), actions, np.zeros((len(items) + 2, 0), dtype=np.int64))


def window_of(log: Logged, window_ms: int = 100) -> LogWindow:
    return joined(log, window_ms, 10_000_000)


def histories(window: LogWindow, known: Encoding) -> list[list[str]]:
    """Of each moment of the examples the items seen before it."""
    batch = batch_of(window.examples(known))
    names = {index: name for name in known.items for index in known.encode_items([name])} | {UNKNOWN: "?"}
    return [[names[index] for index in row[:seen]] for row, seen in zip(batch.items, batch.seen, strict=True)]


def batch_of(examples: Examples) -> Any:
    return examples.batch(np.arange(len(examples.sizes)))


def test_a_behaviour_that_reached_the_store_late_is_not_seen() -> None:
    """It happened before the ranking, but was not there when the ranking was served."""
    window = window_of(logged([shown("u", 1000, done=["c"])], [acted("u", 900, "d"), acted("u", 1010)]))
    assert histories(window, encoding()) == [["c"]]


def test_a_behaviour_that_was_served_is_seen_whatever_its_time() -> None:
    """The sender's clock may be ahead, or the behaviour older than the log."""
    window = window_of(logged([shown("u", 1000, done=["e", "c"])], [acted("u", 1020, "c")]))
    assert histories(window, encoding()) == [["e", "c"]]


def test_an_outcome_is_seen_by_later_rankings_that_were_served_with_it_alone() -> None:
    window = window_of(
        logged(
            [shown("u", 1000), shown("u", 1020), shown("u", 1040, done=[("a", "bought")])],
            [acted("u", 1010, action="bought")],
        )
    )
    assert histories(window, encoding()) == [[], [], ["a"]]
    batch = batch_of(window.examples(encoding()))
    assert batch.actions[2, :2].tolist() == [3, 0]
    assert batch.labels.tolist() == [1, 0, 0, 0, 0, 0]


def test_two_rankings_of_one_millisecond_keep_their_own_behaviour() -> None:
    window = window_of(
        logged([shown("u", 1000, ["a"], ranking_id="one", done=["c"]), shown("u", 1000, ["b"], ranking_id="two")])
    )
    examples = window.examples(encoding())
    assert examples.items.tolist() == [2, 3]
    assert histories(window, encoding()) == [["c"], []]
    assert window.user_of_row[examples.users].tolist() == [0, 0]


def test_the_newest_behaviours_are_read() -> None:
    """A ranking that was served with more than the towers read."""
    served = ["a"] * 50 + ["b"] * MAX_BEHAVIOUR
    window = window_of(logged([shown("u", 1000, done=served), shown("u", 1001, done=["c"])]))
    assert histories(window, encoding()) == [["b"] * MAX_BEHAVIOUR, ["c"]]


def test_more_items_than_a_moment_holds_have_one_history() -> None:
    window = window_of(logged([shown("u", 1000, ["a"] * (MOST_ROWS + 1), done=["c"])]))
    examples = window.examples(encoding())
    assert examples.sizes.tolist() == [MOST_ROWS, 1]
    assert histories(window, encoding()) == [["c"], ["c"]]


def test_what_an_encoding_does_not_know_is_unknown() -> None:
    window = window_of(logged([shown("u", 1000, ["new"], done=["new", ("a", "new")], attributes={"city": "new"})]))
    batch = batch_of(window.examples(encoding()))
    assert batch.candidates.tolist() == [UNKNOWN]
    assert batch.items[0, :3].tolist() == [UNKNOWN, 2, 0]
    assert batch.actions[0, :3].tolist() == [2, UNKNOWN, 0]
    assert batch.attributes.tolist() == [[FIELD_UNKNOWN]]


def test_attributes_are_those_at_serving() -> None:
    """A user who registers again is one person, and two rows of users; nothing known is a third."""
    window = window_of(
        logged(
            [
                shown("u", 1000, attributes=NORTH),
                shown("v", 1001, attributes=NORTH),
                shown("u", 1002, attributes=SOUTH),
                shown("u", 1003, attributes=None),
                shown("u", 1004, attributes=NORTH),
            ]
        )
    )
    examples = window.examples(encoding())
    assert examples.attributes[examples.users].ravel().tolist() == [1, 1, 2, FIELD_UNKNOWN, 1]
    assert [window.names.users[user] for user in window.user_of_row[examples.users]] == ["u", "v", "u", "u", "u"]
    assert len(examples.attributes) == 4


def test_moments_that_were_not_served_have_no_history() -> None:
    window = window_of(logged([shown("u", 1000), shown("v", 1010)]))
    served = window.histories(encoding())
    assert served.rankings(np.array([1, 0]), np.array([1010, 1000])).tolist() == [1, 0]
    for row, time_ms in ((0, 1010), (0, 1005), (1, 5000), (0, 0)):
        with pytest.raises(InvalidInput, match="no ranking was served then"):
            served.before(np.array([0, row]), np.array([1000, time_ms]))


def test_parts_share_the_rows_of_users_and_lose_no_ranking() -> None:
    window = window_of(
        logged(
            [shown("u", 1000, done=["c"]), shown("v", 1010, ["d"], done=["e"]), shown("u", 1010, ["f"])],
            [acted("v", 1015, "d")],
        )
    )
    early, late = window.before(1010), window.since(1010)
    assert (len(early), len(late)) == (1, 2)
    assert (early.until_ms, late.until_ms) == (1010, window.until_ms)
    assert histories(early, encoding()) == [["c"]]
    assert Counter(map(tuple, histories(late, encoding()))) == {("e",): 1, (): 1}
    assert late.labels.tolist() == [1, 0]
    assert late.generations.tolist() == [1, 1]
    assert late.user_of_row.tolist() == early.user_of_row.tolist() == window.user_of_row.tolist()
    assert len(window.since(2000)) == len(window.before(0)) == 0
    assert len(window.since(2000).examples(encoding()).sizes) == 0
    assert window.before(window.until_ms + 1).until_ms == window.until_ms


def test_the_order_is_the_same_for_every_encoding() -> None:
    """Vocabularies in another order, a field less, and the same rankings row by row."""
    rng = np.random.default_rng(0)
    rankings = [
        shown(
            f"u{rng.integers(5)}",
            1000 + int(rng.integers(20)),
            rng.permutation(list("abc")).tolist(),
            ranking_id=f"{place}",
        )
        for place in range(100)
    ]
    window = window_of(logged(rankings, [acted("u1", 1010), acted("u2", 1015)]))
    one, other = window.examples(encoding("abc")), window.examples(encoding("cba"))
    names = [np.array(["", "?", *known])[each.items] for known, each in (("abc", one), ("cba", other))]
    assert names[0].tolist() == names[1].tolist()
    assert one.users.tolist() == other.users.tolist()
    assert one.labels.tolist() == other.labels.tolist()
    assert one.labels.sum() == 2


def test_new_items_actions_and_values_are_there_to_be_learned() -> None:
    """Of what was shown, what was acted on, and what was served; what a later part of the window brings is not."""
    rankings = [
        shown("u", 1000, ["a", "b"], done=["c"], attributes=NORTH),
        shown("u", 1010, ["b"], done=["c", ("d", "saved")], attributes=NORTH),
        shown("v", 1020, ["later"], done=["even later"], attributes=SOUTH),
    ]
    window = window_of(logged(rankings, [acted("u", 1005, action="bought"), acted("v", 1021, "later", action="new")]))
    early = window.before(1020)
    found = fit_encoding(early.dataset(SCHEMA), early.until_ms)
    assert sorted(found.items) == ["a", "b", "c", "d"]
    assert sorted(found.actions) == ["bought", "did", "saved"]
    assert found.attributes["city"].to_dict()["values"] == ["north"]
    counts = item_counts(early.dataset(SCHEMA), found, early.until_ms)
    assert counts[found.encode_items(["a", "b"])].tolist() == [1, 0]


def test_items_are_described_by_the_catalogue() -> None:
    schema = LogSchema({"city": "categorical"}, {}, {"genre": "categorical", "price": "numeric"})
    window = window_of(logged([shown("u", 1000, ["a", "b"])], [acted("u", 1010)]))
    catalogue = pd.DataFrame({"item_id": ["b", "z"], "genre": ["food", "games"], "year": [1, 2]}, dtype=object)
    items = window.dataset(schema, catalogue).items.set_index("item_id")
    assert items.index.tolist() == ["a", "b"]
    assert items.loc["b", "genre"] == "food"
    assert items["genre"].isna().loc["a"]
    assert items["price"].isna().all()
    nothing = window.dataset(schema).items
    assert nothing[["genre", "price"]].isna().all(axis=None)
    assert fit_encoding(window.dataset(schema), 2000).item_features.tolist() == [[0, 0]] * 4


def test_fields_that_the_log_and_the_schema_do_not_share_are_told() -> None:
    log = logged([shown("u", 1000, attributes={"age": 3, "city": "north"}, context={"hour": 8})], [acted("u", 1000)])
    window = window_of(Logged(log.rankings, log.behaviours, ("torn.parquet",)))
    schema = LogSchema({"city": "categorical", "plan": "categorical"}, {"device": "categorical"}, {})
    assert window.notices(schema) == [
        "the log has no attribute 'plan': it is unknown",
        "the log has a new attribute 'age': it is not read before a cold start",
        "the log has no context field 'device': it is unknown",
        "the log has a new context field 'hour': it is not read before a cold start",
        "rankings that do not tell when their user registered, whose account's age is unknown: 1",
        "1 of the log's files could not be read: torn.parquet",
    ]
    users = window.dataset(schema).users
    assert users.columns.tolist() == ["user_id", "city", "plan"]
    assert users["plan"].isna().all()


def test_values_that_python_takes_for_one_are_told_apart() -> None:
    """1 and true are two cities, 1 and "1.0" are one, as they are for the towers."""
    schema = LogSchema(SCHEMA.attributes, {"flag": "categorical", "hour": "numeric"}, {})
    values: list[Scalar] = [1, True, "1.0", None]
    rankings = [
        shown(f"u{place}", 1000 + place, attributes={"city": value}, context={"flag": value, "hour": value})
        for place, value in enumerate(values)
    ]
    window = window_of(logged(rankings, [acted("u0", 1000)]))
    found = fit_encoding(window.dataset(schema), window.until_ms)
    assert found.attributes["city"].to_dict()["values"] == ["1", "true"]
    assert found.context["flag"].to_dict()["values"] == ["1", "true"]
    codes = batch_of(window.examples(found))
    assert codes.attributes.ravel().tolist() == codes.context[:, 0].tolist() == [1, 2, 1, FIELD_UNKNOWN]
    assert (codes.context[:, 1] == FIELD_UNKNOWN).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (logged([]), "training log: no ranking"),
        (logged([shown("u", 1000)]), "training log, label: 2 impressions of 1 rankings have one outcome"),
        (logged([shown("u", 1000, ["a"])], [acted("u", 1000)]), "training log, label: 1 impressions"),
        (logged([shown("u", 1000, [])]), "training log, label: 0 impressions"),
    ],
    ids=["empty", "nothing acted on", "everything acted on", "nothing shown"],
)
def test_what_nothing_can_be_learned_from_is_refused_for_training_alone(log: Logged, told: str) -> None:
    window = window_of(log)
    with pytest.raises(InvalidInput, match=told):
        window.dataset(SCHEMA)
    assert len(window.examples(encoding()).items) == len(window.labels)


def test_a_fingerprint_tells_outcomes_apart() -> None:
    rankings = [shown("u", 1000), shown("v", 1000)]
    prints = [window_of(logged(rankings, [acted(user, 1000)])).dataset(SCHEMA).fingerprint for user in ("u", "v", "u")]
    assert prints[0] == prints[2] != prints[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_dataset(tmp_path_factory.mktemp("log") / "data", users=60, interactions=1200, labels=True)


@pytest.fixture(scope="module")
def both(folder: Any) -> tuple[Dataset, LogWindow]:
    """Each moment of the folder as a ranking that was served with what the user had done before."""
    data = read_dataset(folder)
    frame = data.interactions.astype(dict.fromkeys(("user_id", "item_id", "action", "device"), object))
    people = data.users.set_index("user_id")
    rankings: list[Any]
    rankings, acts = [], []
    for (user, time_ms, device), rows in frame.groupby(["user_id", "time_ms", "device"], sort=False):
        before = frame[(frame["user_id"] == user) & (frame["time_ms"] < time_ms) & (frame["label"] == 1)]
        done = list(zip(before["item_id"], before["action"], strict=True))
        attributes = json.loads(people.loc[str(user)].to_json())
        one = shown(str(user), int(str(time_ms)), rows["item_id"].tolist(), done=done, attributes=attributes)
        rankings.append(one.model_copy(update={"context": {"device": device}, "ranking_id": f"{len(rankings)}"}))
        acts += [
            acted(str(user), int(str(time_ms)), item, action=action)
            for item, action in rows.loc[rows["label"] == 1, ["item_id", "action"]].itertuples(index=False)
        ]
    return data, joined(logged(rankings, acts), 1, int(frame["time_ms"].iloc[-1]) + 1)


def _moments(examples: Examples, persons: list[str]) -> Counter[Any]:
    """All that is read of each moment, rows in their order."""
    batch = batch_of(examples)
    rows = np.split(np.arange(len(batch.labels)), examples.starts[1:-1])
    return Counter(
        (
            person,
            int(batch.times_ms[place]),
            tuple(batch.attributes[place]),
            tuple(batch.context[place]),
            tuple(batch.items[place]),
            tuple(batch.actions[place]),
            tuple(batch.candidates[own]),
            tuple(batch.labels[own]),
        )
        for place, (person, own) in enumerate(zip(persons, rows, strict=True))
    )


def _persons(window: LogWindow, rows: IndexArray) -> list[str]:
    return [window.names.users[user] for user in window.user_of_row[rows]]


def test_a_log_gives_the_examples_of_a_folder(both: tuple[Dataset, LogWindow]) -> None:
    data, window = both
    known = fit_encoding(data, window.until_ms)
    theirs = Examples.of(data, data.interactions, known, Histories.of(data, known))
    ours = window.examples(known)
    assert _moments(ours, _persons(window, ours.users.astype(np.int64))) == _moments(
        theirs, data.users["user_id"].iloc[theirs.users].tolist()
    )
    assert ours.histories.seen(ours.users.astype(np.int64), ours.times_ms).tolist() == batch_of(ours).seen.tolist()


def test_a_log_gives_the_vocabularies_and_counts_of_a_folder(folder: Any, both: tuple[Dataset, LogWindow]) -> None:
    data, window = both
    dataset = window.dataset(LogSchema.of_description(data.description), read_catalogue(folder))
    ours, theirs = (fit_encoding(each, window.until_ms) for each in (dataset, data))
    assert set(ours.items) == set(theirs.items)
    assert set(ours.actions) == set(theirs.actions)
    assert {name: one.to_dict() for name, one in ours.context.items()} == {
        name: one.to_dict() for name, one in theirs.context.items()
    }
    assert set(ours.attributes["segment"].to_dict()["values"]) == set(theirs.attributes["segment"].to_dict()["values"])
    assert set(ours.item_attributes["genre"].to_dict()["values"]) == set(
        theirs.item_attributes["genre"].to_dict()["values"]
    )
    counts = [item_counts(*pair, window.until_ms) for pair in ((dataset, theirs), (data, theirs))]
    assert counts[0].tolist() == counts[1].tolist()
    rows = InteractionRows.of(window.examples(theirs))
    people = Counter(zip(_persons(window, rows.users), rows.items.tolist(), rows.labels.tolist(), strict=True))
    expected = InteractionRows.of(Examples.of(data, data.interactions, theirs, Histories.of(data, theirs)))
    ids = data.users["user_id"].iloc[expected.users]
    assert people == Counter(zip(ids, expected.items.tolist(), expected.labels.tolist(), strict=True))


def test_a_catalogue_is_the_items_of_a_folder(folder: Any, both: tuple[Dataset, LogWindow]) -> None:
    pd.testing.assert_frame_equal(read_catalogue(folder), both[0].items)


@pytest.mark.usefixtures("one_thread")
def test_towers_learn_from_a_log(both: tuple[Dataset, LogWindow]) -> None:
    data, window = both
    dataset = window.dataset(LogSchema.of_description(data.description))
    known = fit_encoding(dataset, window.until_ms)
    lessons = TrainingData.of_examples(window.examples(known), known, window.until_ms)
    assert lessons.counts.tolist() == item_counts(dataset, known, window.until_ms).tolist()
    trained = learn(lessons, config(epochs=6))
    losses = [step["ranking"] for step in trained.losses]
    assert np.isfinite(trained.mean_virtual).all()
    assert np.mean(losses[-3:]) < losses[0]


def test_a_moment_is_as_old_as_its_ranking_told_and_an_older_log_tells_no_age() -> None:
    aged = replace(encoding(), age_bounds=(0, 1_000, 60_000))
    served = [
        shown("u", 100_000, registered_ms=100_000),
        shown("u", 102_000, registered_ms=100_000),
        shown("v", 170_000, registered_ms=100_000),
        shown("w", 180_000),
        shown("x", 190_000, registered_ms=196_000),
    ]
    log = logged(served, [acted("u", 100_010)])
    window = window_of(log)
    assert window.examples(aged).ages.tolist() == [1, 2, 3, UNKNOWN_AGE, UNKNOWN_AGE]
    assert batch_of(window.since(170_000).examples(aged)).ages.tolist() == [3, UNKNOWN_AGE, UNKNOWN_AGE]
    assert not window.examples(encoding()).ages.any(), "a generation that reads no age"
    assert window.notices(SCHEMA)[-2:] == [
        "rankings that do not tell when their user registered, whose account's age is unknown: 1",
        "rankings before their user's registration, whose account's age is unknown: 1",
    ]
    assert window_of(logged(served[:3], [acted("u", 100_010)])).notices(SCHEMA) == []


def _drawn(user: str, at_ms: int, items: str, *probabilities: float) -> UserRanked:
    return shown(user, at_ms, tuple(items)).model_copy(update={"probabilities": probabilities})


def test_drawn_orders_are_told_by_their_rows_among_the_examples() -> None:
    rankings = [
        _drawn("v", 1000, "abc", 0.5, 0.25, 1.0),
        _drawn("u", 1000, "cd", 0.75, 1.0),
        shown("u", 1100, tuple("ab")),
        _drawn("w", 1200, "d", 1.0),
        _drawn("u", 1300, "ab", 0.5, 1.0),
        _drawn("u", 1300, "da", 0.625, 1.0),
        _drawn("v", 1400, "db", 0.125, 1.0),
    ]
    window = window_of(logged(rankings, [acted("v", 1001, "a"), acted("u", 1002, "c"), acted("v", 1410, "b")]))
    drawn, examples = window.drawn_orders, window.examples(encoding())
    names = {index: name for name in "abcdef" for index in encoding().encode_items([name])}
    found = {
        "".join(names[item] for item in examples.items[first : first + size]): (probability, examples.labels[first])
        for first, size, probability in zip(*drawn, strict=True)
    }
    assert found == {"abc": (0.5, 1), "cd": (0.75, 1), "ab": (0.5, 0), "da": (0.625, 0), "db": (0.125, 0)}
    assert len(window.since(1400).drawn_orders.first) == 1
    assert len(window_of(logged([shown("u", 1)], [])).drawn_orders.first) == 0
