"""The load of the fault suite: the same for the same plan, and with all that is odd in it."""

import json
from collections import Counter

from foretaste.kernel.values import MAX_BEHAVIOUR
from tests.faults.streams.load import BAD_EVERY, FIRST_AGE, LoadPlan, Planned, planned

PLAN = LoadPlan("a fault", attributes=[{"segment": "cook"}, {"segment": "runner"}], items=["i1", "i2"], events=2000)
NOW_MS = 1_700_000_000_123
PARTITIONS = 4


def records(**odd: object) -> list[Planned]:
    plan = LoadPlan("a fault", PLAN.attributes, PLAN.items, 2000, **odd)  # type: ignore[arg-type]  # fields of the plan
    return list(planned(plan, PARTITIONS))


def test_a_plan_has_its_events_of_each_kind() -> None:
    found = records()
    assert found == records()
    kinds = Counter(each.kind for each in found)
    assert kinds == {"sign-up": 1100, "behaviour": 880, "poison": 2000 // BAD_EVERY}
    assert PLAN.seconds == 4.0


def test_a_sign_up_is_told_by_its_users_age() -> None:
    of_user: dict[str, list[int]] = {}
    for each in records():
        if each.kind == "sign-up":
            assert each.body["attributes"]["age"] == FIRST_AGE + each.number
            of_user.setdefault(each.user, []).append(each.number)
    assert all(numbers == list(range(len(numbers))) for numbers in of_user.values())
    assert any(len(numbers) > 1 for numbers in of_user.values())


def test_users_who_act_have_room_for_all_that_they_do_and_are_told_by_it() -> None:
    acts = [each for each in records() if each.kind == "behaviour"]
    events = Counter(each.event for each in acts)
    assert max(events.values()) == 2, "some are sent again under their id"
    assert all(each.body["action"] == each.event for each in acts)
    assert max(Counter(each.user for each in acts).values()) < MAX_BEHAVIOUR / 2


def test_times_are_late_and_equal_for_some() -> None:
    acts = [each for each in records() if each.kind == "behaviour"]
    backs = Counter(each.back_ms for each in acts)
    assert 0 < backs[30_000] < backs[0]
    coarse = next(each for each in acts if each.step_ms == 2000 and not each.back_ms)
    assert coarse.claimed_ms(NOW_MS) == 1_700_000_000_000
    assert json.loads(coarse.value(1_700_000_000_000))["at"] == 1_700_000_000_000


def test_half_of_what_a_fast_clock_sends_claims_a_later_time() -> None:
    acts = [each for each in records(claims_ahead_ms=1000) if each.kind == "behaviour" and not each.back_ms]
    assert {(each.claimed_ms(NOW_MS) or 0) - NOW_MS for each in acts if each.step_ms == 1} == {0, 1000}


def test_poison_lies_in_each_partition_of_both_topics_besides() -> None:
    added = [each for each in records(poison=True) if each.partition is not None]
    assert {(each.partition, each.is_sign_up) for each in added} == {
        (number, topic) for number in range(PARTITIONS) for topic in (True, False)
    }
    assert len({each.value(None) for each in added}) == 6
    assert len(records(poison=True)) == 2000 + len(added)
