"""The checker of the fault suite, on histories in which something is wrong: it must find it, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.streams.checker import Verdict, judge
from tests.faults.streams.history import (
    Announced,
    Begun,
    DeadLettered,
    History,
    Hurt,
    Kind,
    Logged,
    Operation,
    Place,
    Produced,
    Ranked,
    Stored,
    read_history,
)

NOW = 1_700_000_000.0
NOW_MS = round(NOW * 1000)
BEGUN = Begun("a fault", "plain", warm_after=3)
FAULTS = ("lost", "doubled", "disordered", "unreadable", "phantom")


def produced(kind: Kind, event: str, user: str, offset: int, *, at_ms: int | None = None, number: int = 0) -> Produced:
    """Acknowledged, claimed at `at_ms` where given, sent at `NOW` and an offset's milliseconds."""
    sent = NOW + offset / 1000
    place = Place(kind, 0, offset, NOW_MS + offset)
    return Produced(kind, event, user, number, at_ms, sent, sent + 0.01, "acknowledged", place)


def sign_up(
    event: str, user: str, offset: int, number: int = 0, at_ms: int | None = None, partition: int = 0
) -> Produced:
    return produced("sign-up", event, user, offset, at_ms=at_ms, number=number)


def act(event: str, user: str, offset: int, at_ms: int | None = None) -> Produced:
    return produced("behaviour", event, user, offset, at_ms=NOW_MS + offset if at_ms is None else at_ms)


def announced(user: str, outcome: str = "readable", at: float = NOW + 1) -> Announced:
    return Announced(user, at, at, outcome)  # type: ignore[arg-type]  # a literal of the three


def letter(record: Produced) -> DeadLettered:
    assert record.place is not None
    return DeadLettered(record.place.topic, record.place.partition, record.place.offset, "invalid", NOW + 1)


def stored(user: str, number: int | None = 0, row: Sequence[tuple[str, int]] = (), *, readable: bool = True) -> Stored:
    return Stored(user, number, readable, list(row), NOW + 9)


def row(*events: tuple[str, int]) -> list[tuple[str, int]]:
    """Events and offsets as they lie in a row."""
    return [(event, NOW_MS + offset) for event, offset in events]


GOOD: tuple[Operation, ...] = (
    sign_up("s0", "ada", 0),
    sign_up("s1", "ada", 5, number=1),
    act("b0", "ada", 10),
    act("b1", "ada", 11),
    act("b1", "ada", 12, at_ms=NOW_MS + 11),  # sent again
    act("b2", "bob", 20),
    act("b3", "bob", 21, at_ms=NOW_MS + 5),  # late
    act("b4", "bob", 22),
    sign_up("s2", "bob", 30),
    produced("poison", "x0", "eve", 40),
    letter(produced("poison", "x0", "eve", 40)),
    announced("ada"),
    Ranked("ada", NOW, NOW + 1, 200, None, "r1"),
    Logged("r1"),
    stored("ada", 1, row(("b0", 10), ("b1", 11))),
    stored("bob", 0, row(("b3", 5), ("b2", 20), ("b4", 22))),
)


def faults_of(*operations: Operation, begun: Begun = BEGUN) -> dict[str, int]:
    """What the checker finds, of the kinds that are faults; each has said what it is."""
    verdict = judge([begun, *operations])
    found = {kind: count for kind in FAULTS if (count := getattr(verdict, kind))}
    assert {problem.partition(":")[0] for problem in verdict.problems} == set(found)
    return found


def changed(before: Operation, *after: Operation) -> list[Operation]:
    """The good history with one operation replaced."""
    assert before in GOOD
    return [new for each in GOOD for new in (after if each == before else (each,))]


def test_a_good_history_is_counted() -> None:
    verdict = judge([BEGUN, *GOOD])
    assert verdict == Verdict(sent=10, acknowledged=10, enriched=2, warm=1, applied=5, dead=1)


def test_a_history_begins_with_what_it_is_judged_by() -> None:
    with pytest.raises(ValueError, match="begins with Begun"):
        judge(GOOD)


ADA, BOB = GOOD[-2], GOOD[-1]


@pytest.mark.parametrize(
    ("found", "history"),
    [
        ({"lost": 2}, [*changed(ADA, stored("ada", None, row(("b0", 10), ("b1", 11)), readable=False))]),
        ({"lost": 1}, changed(ADA, stored("ada", 1, row(("b0", 10))))),
        ({"lost": 2}, changed(BOB)),
    ],
    ids=["sign-ups", "a behaviour", "a whole user"],
)
def test_what_is_lost_is_found(found: dict[str, int], history: list[Operation]) -> None:
    assert faults_of(*history)["lost"] >= found["lost"]


def test_a_sign_up_without_an_announcement_is_lost_unless_its_user_is_warm() -> None:
    assert faults_of(*changed(announced("ada"))) == {"lost": 2}
    cold = stored("bob", 0, row(("b3", 5), ("b2", 20)))
    assert faults_of(*changed(BOB, cold)) == {"lost": 2}, "the behaviour, and the sign-up that it leaves cold"


def test_poison_without_a_dead_letter_is_lost() -> None:
    assert faults_of(*changed(letter(produced("poison", "x0", "eve", 40)))) == {"lost": 1}


def test_a_behaviour_that_stands_twice_is_doubled() -> None:
    assert faults_of(*changed(ADA, stored("ada", 1, row(("b0", 10), ("b1", 11), ("b1", 11))))) == {"doubled": 1}


def test_two_ends_are_doubled() -> None:
    assert faults_of(*GOOD, letter(act("b0", "ada", 10))) == {"doubled": 1}
    assert faults_of(*GOOD, letter(sign_up("s1", "ada", 5))) == {"doubled": 1}


@pytest.mark.parametrize(
    "order",
    [
        row(("b1", 11), ("b0", 10)),
        row(("b0", 11), ("b1", 11)),
        row(("b0", 10), ("b1", 3_600_011)),
    ],
    ids=["falling", "as of a later time", "an hour ahead"],
)
def test_a_row_out_of_order_is_found(order: list[tuple[str, int]]) -> None:
    found = faults_of(*changed(ADA, stored("ada", 1, order)))
    assert found.keys() == {"disordered"}


def test_of_one_time_the_order_of_the_partition_holds() -> None:
    first, second = act("b8", "cid", 50, at_ms=NOW_MS), act("b9", "cid", 51, at_ms=NOW_MS)
    assert faults_of(*GOOD, first, second, stored("cid", None, row(("b8", 0), ("b9", 0)))) == {}
    assert faults_of(*GOOD, first, second, stored("cid", None, row(("b9", 0), ("b8", 0)))) == {"disordered": 1}
    elsewhere = replace(first, place=Place("behaviour", 1, 60, NOW_MS + 50))
    assert faults_of(*GOOD, elsewhere, second, stored("cid", None, row(("b9", 0), ("b8", 0)))) == {}


def test_older_attributes_in_the_place_of_later_ones_are_out_of_order() -> None:
    assert faults_of(*changed(ADA, stored("ada", 0, row(("b0", 10), ("b1", 11))))) == {"disordered": 1}


def test_the_later_of_two_sign_ups_is_told_by_time_and_then_by_place() -> None:
    late = sign_up("s9", "ada", 60, number=2, at_ms=NOW_MS - 1000)
    assert faults_of(*GOOD, late) == {}, "it claims an earlier time, so the other one stays"
    same = sign_up("s9", "ada", 60, number=2, at_ms=NOW_MS + 5)
    assert faults_of(*GOOD, same) == {"disordered": 1}, "of one time the later in the partition stays"
    keyless = replace(same, place=Place("sign-up", 1, 3, NOW_MS + 5))
    assert faults_of(*GOOD, keyless) == {}, "of one time and one timestamp in two partitions either stays"


def test_a_time_ahead_of_kafka_counts_as_kafkas() -> None:
    claims = act("b9", "cid", 50, at_ms=NOW_MS + 72_000_000)
    assert faults_of(*GOOD, claims, stored("cid", None, row(("b9", 50)))) == {}
    assert faults_of(*GOOD, claims, stored("cid", None, row(("b9", 72_000_000)))) == {"disordered": 1}


def test_a_record_whose_timestamp_is_ahead_counts_as_of_when_it_was_handled() -> None:
    hour = NOW_MS + 3_600_000
    ahead = replace(act("b9", "cid", 50, at_ms=hour), place=Place("behaviour", 0, 50, hour))
    assert faults_of(*GOOD, ahead, stored("cid", None, row(("b9", 2_000)))) == {}
    assert faults_of(*GOOD, ahead, stored("cid", None, row(("b9", 3_600_000)))) == {"disordered": 1}


def test_an_announcement_whose_user_cannot_be_read_is_found() -> None:
    assert faults_of(*changed(announced("ada"), announced("ada", "missing"))) == {"unreadable": 1}
    gone = stored("ada", 1, row(("b0", 10), ("b1", 11)), readable=False)
    assert faults_of(*changed(ADA, gone)) == {"unreadable": 1}


def test_a_store_that_may_lose_its_newest_writes_has_until_the_fault_is_over() -> None:
    missing = changed(announced("ada"), announced("ada", "missing", NOW + 3))
    during = [Hurt("begins", NOW + 2), Hurt("ends", NOW + 4), Hurt("recovered", NOW + 5)]
    allowed = replace(BEGUN, takes_back=True)
    assert faults_of(*missing, *during) == {"unreadable": 1}, "under a setting that promises more"
    assert faults_of(*missing, *during, begun=allowed) == {}
    assert judge([allowed, *missing, *during]).taken_back == 1
    before = [Hurt("begins", NOW + 3.5), *during[1:]]
    assert faults_of(*missing, *before, begun=allowed) == {"unreadable": 1}, "before the fault"


def test_effects_of_what_was_aborted_or_never_sent_are_phantoms() -> None:
    aborted = replace(act("b0", "ada", 10), outcome="aborted")
    assert faults_of(*changed(act("b0", "ada", 10), aborted)) == {"phantom": 1}
    assert faults_of(*changed(BOB, stored("bob", 0, row(("b3", 5), ("b2", 20), ("b4", 22), ("b7", 23))))) == {
        "phantom": 1
    }
    assert faults_of(*GOOD, announced("mallory"), stored("mallory", None)) == {"phantom": 1}


def test_what_was_not_acknowledged_may_have_its_effect_or_not() -> None:
    unknown = replace(act("b4", "bob", 22), outcome="unknown", place=None)
    more = act("b6", "bob", 23)
    history = changed(act("b4", "bob", 22), unknown, more)
    assert (
        faults_of(*[each for each in history if each != BOB], stored("bob", 0, row(("b3", 5), ("b2", 20), ("b6", 23))))
        == {}
    )
    later = replace(sign_up("s9", "ada", 60, number=2), outcome="unknown", place=None)
    assert faults_of(*GOOD, later) == {}
    with_it = changed(ADA, stored("ada", 2, row(("b0", 10), ("b1", 11))))
    assert faults_of(*with_it, later) == {}


def test_what_comes_again_is_counted_and_no_fault() -> None:
    again = judge([BEGUN, *GOOD, announced("ada"), letter(produced("poison", "x0", "eve", 40))])
    assert (again.repeated, again.problems) == (2, [])


def test_rankings_that_did_not_come_to_their_topic_are_counted() -> None:
    assert (
        judge([BEGUN, *GOOD, Ranked("bob", NOW, NOW, 200, "popularity", "r2"), Ranked("bob", NOW, NOW, 0)]).unlogged
        == 1
    )


def test_a_history_comes_back_from_its_file(tmp_path: Path) -> None:
    with (tmp_path / "history.jsonl").open("w", encoding="utf-8") as file:
        history = History(file)
        history.add(BEGUN)
        history.extend(GOOD)
    assert list(read_history(tmp_path / "history.jsonl")) == [BEGUN, *GOOD]
