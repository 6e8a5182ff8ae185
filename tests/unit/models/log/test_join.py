"""The late join: which impression each act answers, and which rankings are known to be over."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.ports import Logged
from models.log.join import joined
from models.log.schema import LogSchema
from models.log.window import LogWindow
from tests.window_factory import acted, logged, shown

WINDOW, LATER = 100, 10_000
"""Milliseconds in which an act answers a ranking, and a time at which every ranking is over."""


def outcomes(window: LogWindow) -> list[list[str | None]]:
    """Of each ranking the action that answered each item."""
    names = [*window.names.actions, None]
    starts = window.shown.starts
    return [
        [names[code] for code in window.shown.actions[starts[place] : starts[place + 1]]]
        for place in range(len(window))
    ]


def join(rankings: list[UserRanked], acts: list[UserBehaved], until_ms: int = LATER) -> LogWindow:
    return joined(logged(rankings, acts), WINDOW, until_ms)


@pytest.mark.parametrize(
    ("rankings", "acts", "expected"),
    [
        ([shown("u", 1000)], [acted("u", 1000)], [["did", None]]),
        ([shown("u", 1000)], [acted("u", 1099)], [["did", None]]),
        ([shown("u", 1000)], [acted("u", 1100)], [[None, None]]),
        ([shown("u", 1000)], [acted("u", 999)], [[None, None]]),
        ([shown("u", 1000)], [acted("v", 1010)], [[None, None]]),
        ([shown("u", 1000)], [acted("u", 1010, "c")], [[None, None]]),
        ([shown("u", 1000), shown("u", 1010)], [acted("u", 1020)], [[None, None], ["did", None]]),
        ([shown("u", 1000), shown("u", 1010)], [acted("u", 1005)], [["did", None], [None, None]]),
        ([shown("u", 1000), shown("u", 1010, ["b"])], [acted("u", 1020)], [["did", None], [None]]),
        ([shown("u", 1000), shown("v", 1010)], [acted("u", 1020)], [["did", None], [None, None]]),
        ([shown("u", 1000, ["a", "a"])], [acted("u", 1020)], [["did", None]]),
        (
            [shown("u", 1000)],
            [acted("u", 1010, action="clicked"), acted("u", 1020, action="bought")],
            [["bought", None]],
        ),
        ([shown("u", 1000), shown("u", 1010)], [acted("u", 1005), acted("u", 1020)], [["did", None], ["did", None]]),
    ],
    ids=[
        "at the ranking's own time",
        "in the window's last millisecond",
        "when the window is over",
        "before it was shown",
        "another user",
        "an item that was not shown",
        "of two rankings the newest",
        "not one that came after",
        "the newest that showed the item",
        "another user's ranking between",
        "of an item shown twice the first",
        "of two acts the newest action",
        "each act its own ranking",
    ],
)
def test_an_act_answers(rankings: list[UserRanked], acts: list[UserBehaved], expected: list[list[str | None]]) -> None:
    assert outcomes(join(rankings, acts)) == expected


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (acted("u", 1020, ranking_id="old"), [["did", None], [None, None]]),
        (acted("u", 1099, ranking_id="old"), [["did", None], [None, None]]),
        (acted("u", 1100, ranking_id="old"), [[None, None], [None, None]]),
        (acted("u", 990, ranking_id="old"), [["did", None], [None, None]]),
        (acted("u", 1020, ranking_id="before the log"), [[None, None], [None, None]]),
        (acted("u", 1020, "c", ranking_id="old"), [[None, None], [None, None]]),
        (acted("v", 1020, ranking_id="old"), [[None, None], [None, None]]),
    ],
    ids=[
        "not the newest",
        "in the window's last millisecond",
        "when the window is over",
        "by a clock that is late",
        "one that is not in the log",
        "an item that it did not show",
        "another user's",
    ],
)
def test_an_act_that_names_its_ranking_answers_no_other(act: UserBehaved, expected: list[list[str | None]]) -> None:
    window = join([shown("u", 1000, ranking_id="old"), shown("u", 1010, ranking_id="new")], [act])
    assert outcomes(window) == expected
    assert window.unanswered == (expected[0][0] is None)


def naive(rankings: list[UserRanked], acts: list[UserBehaved]) -> list[list[str | None]]:
    found: list[list[str | None]] = [[None] * len(one.items) for one in rankings]
    for act in acts:
        for place in reversed(range(len(rankings))):
            one = rankings[place]
            milliseconds = (act.at - one.at).total_seconds() * 1000
            named = act.ranking_id == one.ranking_id and milliseconds < WINDOW - 0.5
            near = act.ranking_id is None and -0.5 < milliseconds < WINDOW - 0.5
            if one.user_id == act.user_id and act.item_id in one.items and (named or near):
                found[place][one.items.index(act.item_id)] = act.action
                break
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300), st.lists(st.integers(0, 3), max_size=4)), max_size=12),
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 400), st.integers(0, 4), st.none() | st.integers(0, 14)),
        max_size=12,
    ),
)
def test_it_is_what_a_plain_loop_finds(
    served: list[tuple[int, int, list[int]]], done: list[tuple[int, int, int, int | None]]
) -> None:
    rankings = sorted(
        (
            shown(f"u{user}", time, [f"i{item}" for item in items], ranking_id=f"r{place}")
            for place, (user, time, items) in enumerate(served)
        ),
        key=lambda one: one.at,
    )
    acts = sorted(
        (
            acted(f"u{user}", time, f"i{item}", action=f"act {place}", ranking_id=None if name is None else f"r{name}")
            for place, (user, time, item, name) in enumerate(done)
        ),
        key=lambda one: one.at,
    )
    assert outcomes(join(rankings, acts)) == naive(rankings, acts)


@pytest.mark.parametrize("ranking_id", [None, "shown"])
def test_a_rankings_outcome_does_not_depend_on_when_the_log_is_read(ranking_id: str | None) -> None:
    rankings = [shown("u", 1000, ranking_id="shown")]
    acts = [acted("u", 1050, action="clicked", ranking_id=ranking_id), acted("u", 5000, ranking_id=ranking_id)]
    assert outcomes(join(rankings, acts, 1100)) == outcomes(join(rankings, acts)) == [["clicked", None]]


def test_a_ranking_whose_window_is_open_is_left_out_and_keeps_its_acts() -> None:
    rankings = [shown("u", 1000), shown("u", 1050), shown("u", 1051)]
    window = join(rankings, [acted("u", 1049), acted("u", 1055)], until_ms=1150)
    assert outcomes(window) == [["did", None], [None, None]]
    assert window.open_rankings == 1
    assert window.until_ms == 1051


def test_what_was_done_later_is_not_known() -> None:
    rankings = [shown("u", 1000, ranking_id="r")]
    acts = [acted("u", 1100, ranking_id="r")]
    assert [join(rankings, acts, until_ms=until_ms).unanswered for until_ms in (1100, 1101)] == [0, 1]
    assert "did" not in join(rankings, acts, until_ms=1100).names.actions


def _dictionaries(table: pa.Table) -> pa.Table:
    """Texts as dictionaries, in pieces of two rows that have dictionaries of their own."""
    pieces = [table.slice(start, 2).combine_chunks() for start in range(0, len(table), 2)]
    parts = [
        pa.table(
            {
                name: piece[name].dictionary_encode() if pa.types.is_large_string(piece[name].type) else piece[name]  # type: ignore[misc]  # the stubs know no chunked one
                for name in piece.column_names
            }
        )
        for piece in pieces
    ]
    return pa.concat_tables(parts)


def _plain(table: pa.Table) -> pa.Table:
    """Arrow's small types."""
    small = {pa.large_string(): pa.string(), pa.large_list(pa.large_string()): pa.list_(pa.string())}
    return table.cast(pa.schema({field.name: small.get(field.type, field.type) for field in table.schema}))


def _sliced(table: pa.Table) -> pa.Table:
    """Rows of a longer table."""
    return pa.concat_tables([table, table, table]).combine_chunks().slice(len(table), len(table))


@pytest.mark.parametrize("form", [_dictionaries, _plain, _sliced])
def test_any_form_of_arrow_columns_is_read_alike(form: Callable[[pa.Table], pa.Table]) -> None:
    log = logged(
        [
            shown("u", 1000, ["a", "b"], done=["c"], context={"hour": 8}),
            shown("v", 1010, ["b", "c", "d"], attributes=None),
            shown("u", 1020, [], done=["c", ("a", "bought")], generation=None),
        ],
        [acted("u", 1030, "b"), acted("v", 1040, "d", ranking_id="v at 1010"), acted("w", 1050)],
    )
    plain = joined(log, WINDOW, LATER)
    window = joined(Logged(form(log.rankings), form(log.behaviours)), WINDOW, LATER)
    assert outcomes(window) == outcomes(plain) == [[None, "did"], [None, None, "did"], []]
    names = window.names
    assert [names.items[code] for code in window.shown.items] == ["a", "b", "b", "c", "d"]
    assert [names.items[code] for code in window.behaviour.items] == ["c", "c", "a"]
    assert [names.actions[code] for code in window.behaviour.actions] == ["did", "did", "bought"]
    assert window.behaviour.starts.tolist() == [0, 1, 1, 3]
    assert window.generations.tolist() == [1, 1, 0]
    assert window.warm_after.tolist() == [3, 3, 0]
    assert window.served_by.tolist() == ["real", "virtual", "real"]


def test_an_empty_log_is_an_empty_window() -> None:
    window = joined(logged([]), WINDOW, LATER)
    assert len(window) == len(window.labels) == window.open_rankings == 0


def test_acts_alone_answer_nothing() -> None:
    window = joined(logged([], [acted("u", 1000), acted("u", 1001, ranking_id="r")]), WINDOW, LATER)
    assert (len(window), window.unanswered) == (0, 2)


def test_an_answer_at_sign_up_is_no_act_but_tells_that_the_user_is_real() -> None:
    asked = shown("u", 1000).model_copy(update={"attributes": None})
    answers = [acted("u", 1010, action="answered_yes"), acted("u", 1020, "b", action="answered_no")]
    window = join([asked], answers)
    assert window.strangers == 0
    assert outcomes(window) == [[None, None]]
    assert window.unanswered == 0


def test_files_that_were_skipped_are_carried_along() -> None:
    log = replace(logged([shown("u", 1000)]), skipped=["day=2026-01-01/x.parquet"])
    assert joined(log, WINDOW, LATER).skipped == ("day=2026-01-01/x.parquet",)


@pytest.mark.parametrize(
    ("column", "value", "field"),
    [
        ("behaviour_actions", ["did"], "rankings, behaviour_actions"),
        ("attributes", "{", "rankings, attributes"),
        ("context", "[1]", "rankings, context"),
    ],
)
def test_a_log_that_contradicts_itself_is_refused(column: str, value: object, field: str) -> None:
    rankings = logged([shown("u", 1000), shown("u", 1001)]).rankings
    place = rankings.column_names.index(column)
    changed = pa.array([rankings[column][0].as_py(), value], rankings[column].type)
    with pytest.raises(InvalidInput, match=field):
        joined(Logged(rankings.set_column(place, column, changed), logged([]).behaviours), WINDOW, LATER)


def test_a_window_must_last() -> None:
    with pytest.raises(InvalidInput, match="window_ms"):
        joined(logged([]), 0, LATER)


def test_many_rankings_at_once() -> None:
    """Every third impression is answered, of 20,000: nothing is mixed up where pieces are put together."""
    rankings = [shown(f"u{place % 50}", 1000 + place, [f"i{place % 7}", "x"]) for place in range(10_000)]
    acts = [acted(f"u{place % 50}", 1000 + place, f"i{place % 7}") for place in range(0, 10_000, 3)]
    window = joined(logged(rankings, acts), 1, 100_000)
    assert np.flatnonzero(window.labels).tolist() == list(range(0, 20_000, 6))


def test_only_real_users_are_learned_from() -> None:
    """One registered with nothing, one whose behaviour was served, one who acted later, one with attributes later."""
    invented = {"attributes": None, "behaviour_items": (), "behaviour_actions": (), "behaviour_times": ()}
    behaviour = {"behaviour_items": ("a",), "behaviour_actions": ("did",), "behaviour_times": (1,)}
    rankings = [
        shown("invented", 1000).model_copy(update=invented),
        shown("registered", 1010).model_copy(update=invented | {"attributes": {}}),
        shown("behaved", 1020).model_copy(update=invented | behaviour),
        shown("acts later", 1030).model_copy(update=invented),
        shown("registers later", 1040).model_copy(update=invented),
        shown("invented", 1050).model_copy(update=invented),
        shown("registers later", 1060).model_copy(update=invented | {"attributes": {"age": 30}}),
    ]
    window = join(rankings, [acted("acts later", 5000, "c"), acted("nobody asked", 1000)])
    users = [window.names.users[window.names.user_of_row[row]] for row in window.users]
    assert users == ["registered", "behaved", "acts later", "registers later", "registers later"]
    assert window.strangers == 2
    assert "2 rankings of users who neither registered nor ever acted are left out" in window.notices(
        LogSchema({}, {}, {})
    )


def test_a_log_of_invented_users_alone_teaches_nothing() -> None:
    invented = {"attributes": None, "behaviour_items": (), "behaviour_actions": (), "behaviour_times": ()}
    window = join([shown(f"u{at}", at).model_copy(update=invented) for at in range(1000, 1005)], [])
    assert (len(window), window.strangers) == (0, 5)


def test_an_act_that_is_not_known_yet_makes_nobody_real() -> None:
    invented = {"attributes": None, "behaviour_items": (), "behaviour_actions": (), "behaviour_times": ()}
    window = join([shown("u", 1000).model_copy(update=invented)], [acted("u", 5000)], until_ms=2000)
    assert (len(window), window.strangers) == (0, 1)
