"""The swap benchmark: the load's bookkeeping, the figures, and that answers of mixed generations are found out."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import torch

from benchmarks.own_stack import own_settings
from benchmarks.swap.figures import AnswerCheck, Swap, SwapRun, figures, is_mixed, met, seen_within
from benchmarks.swap.generations import TOLERANCE, LoadUser, attributes_of, check_answers, shaken
from benchmarks.swap.load import (
    AGE_MS,
    NO_ANSWER,
    NOT_SENT,
    Answer,
    LoadGenerator,
    LoadPlan,
    LoadRecord,
    SampledAnswer,
    SentSignUp,
)
from benchmarks.swap.processor_use import ProcessorReading
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import UserRegistered
from foretaste.kernel.ports import Headers
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import Behaviour
from foretaste.settings import Settings
from models.runtime.local import LocalTowers
from tests.towers_factory import artifacts, dataset, trained

PLAN = LoadPlan(
    api="",
    rank_rate=10.0,
    sign_up_rate=0.0,
    seconds=1.0,
    users={"cold": ["c"], "warming": ["w"], "warm": ["h"]},
    shares={"cold": 1.0},
    attributes=[{"age": 1}, {"age": 2}],
    items=["1", "2", "3", "4"],
    candidates=3,
    sample_every=4,
    seed=0,
)


@dataclass
class Clock:
    """Time passes by sleeping alone."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Service:
    """Answers from generation 3; raises where it is told to, and holds answers back until it is let go."""

    status: int = 200
    problem: Exception | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    hold_until: int = 0
    _enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, body: bytes) -> tuple[int, bytes]:
        request = json.loads(body)
        self.asked.append(request)
        if len(self.asked) >= self.hold_until:
            self.let_go()
        await self._enough.wait()
        if self.problem is not None:
            raise self.problem
        ranked = [{"item_id": item, "score": 0.5} for item in request["items"]]
        said = {"served_by": "virtual", "fallback": None, "zero_shot_generation": 3, "ranking_generation": 3}
        return self.status, json.dumps({**said, "ranked": ranked}).encode()

    def let_go(self) -> None:
        self._enough.set()


@dataclass
class Topic:
    """What was produced; every event after the first `takes` is refused."""

    takes: int = 1000
    events: list[tuple[bytes | None, bytes | None]] = field(default_factory=list)

    async def send(self, _topic: str, key: bytes | None, value: bytes | None, _headers: Headers = ()) -> None:
        if len(self.events) >= self.takes:
            raise Unavailable("kafka", "away")
        self.events.append((key, value))

    async def send_all(self, topic: str, events: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        for key, value in events:
            await self.send(topic, key, value)

    async def close(self) -> None: ...


def loaded(
    plan: LoadPlan = PLAN,
    service: Service | None = None,
    topic: Topic | None = None,
    *,
    most: int = 100,
    ended: Callable[[], bool] = lambda: False,
) -> LoadRecord:
    clock = Clock()
    load = LoadGenerator(
        plan,
        service or Service(),
        topic or Topic(),
        "user-registered",
        clock,
        now=lambda: 1e9 + clock(),
        sleep=clock.sleep,
        most_in_flight=most,
    )
    return asyncio.run(load.run(ended))


def test_requests_are_due_by_the_clock_however_long_answers_take() -> None:
    """Nobody is answered before the last one was sent: an open loop sends on."""
    record = loaded(service=Service(hold_until=11))
    due = sorted(answer.due for answer in record.answers)
    assert due == pytest.approx([100 + number / 10 for number in range(11)])
    assert min(answer.ended for answer in record.answers) >= max(due), "all were waited for"


def test_answers_keep_both_generations_and_one_in_so_many_is_kept_whole() -> None:
    service = Service()
    record = loaded(service=service)
    assert {(answer.zero_shot, answer.ranking, answer.served_by) for answer in record.answers} == {(3, 3, "virtual")}
    assert len(record.samples) == 3
    sample, scores = record.samples[0], dict.fromkeys(service.asked[0]["items"], 0.5)
    assert sample == SampledAnswer("c", record.answers[0], scores, sample.sent_ms)
    assert {len(set(request["items"])) for request in service.asked} == {3}, "candidates are distinct"


@pytest.mark.parametrize(
    ("service", "status", "problem"),
    [
        (Service(status=503), 503, "ranked"),
        (Service(problem=aiohttp.ServerDisconnectedError()), NO_ANSWER, "disconnected"),
        (Service(problem=TimeoutError()), NO_ANSWER, "TimeoutError"),
    ],
    ids=["a status", "a broken connection", "no answer in time"],
)
def test_what_is_no_list_has_failed_and_says_how(service: Service, status: int, problem: str) -> None:
    record = loaded(replace(PLAN, seconds=0.3), service)
    assert [answer.status for answer in record.answers] == [status] * 4
    assert sum(record.problems.values()) == 4
    assert all(problem in told for told in record.problems)
    assert record.samples == []


def test_requests_beyond_those_in_flight_fail_unsent() -> None:
    service, looks = Service(hold_until=99), iter(range(6))

    def ended() -> bool:
        """At the sixth look, which lets the first request go."""
        if next(looks) < 5:
            return False
        service.let_go()
        return True

    record = loaded(service=service, most=1, ended=ended)
    assert sorted(answer.status for answer in record.answers) == [NOT_SENT] * 4 + [200]
    assert len(service.asked) == 1
    assert record.problems == {"1 requests were in flight": 4}


def test_sign_ups_take_attributes_in_turn_and_ask_for_rankings() -> None:
    topic, service = Topic(), Service()
    plan = replace(PLAN, sign_up_rate=10.0, shares={"new": 1.0})
    record = loaded(plan, service, topic)
    events = [UserRegistered.model_validate_json(value or b"") for _, value in topic.events]
    assert [(event.user_id, event.attributes) for event in events[:3]] == [plan.sign_up(number) for number in range(3)]
    assert [each.user_id for each in record.sign_ups] == [event.user_id for event in events]
    assert {each.sent_at - each.sent for each in record.sign_ups} == {1e9}
    assert {request["user_id"] for request in service.asked[3:]} <= {event.user_id for event in events}


def test_a_sign_up_that_kafka_refused_is_told_and_asks_for_nothing() -> None:
    service = Service()
    record = loaded(replace(PLAN, sign_up_rate=10.0, shares={"new": 1.0}), service, Topic(takes=0))
    assert not any(each.durable for each in record.sign_ups)
    assert sum(record.problems.values()) == len(record.sign_ups)
    assert {request["user_id"] for request in service.asked} == {"c"}


def answer(due: float, ms: float = 10.0, ranking: int | None = 1, **changes: Any) -> Answer:
    return replace(Answer(due, due, due + ms / 1000, 200, "virtual", None, ranking, ranking), **changes)


SWAP = Swap(number=2, began=10.0, loaded=12.0, filled=14.0, moved=14.5, retired=14.6)


def a_run(*answers: Answer, sign_ups: Sequence[SentSignUp] = (), **changes: Any) -> SwapRun:
    base = SwapRun(
        steady=5.0, ended=20.0, swaps=[SWAP], record=LoadRecord(list(answers), [], list(sign_ups)), enriched_at={}
    )
    return replace(base, **changes)


def test_latencies_before_and_during_are_told_apart() -> None:
    """Before counting begins, and once the swap is over, belongs to neither."""
    run = a_run(
        answer(4.9, 900), answer(5.0, 10), answer(9.9, 10), answer(10.0, 30), answer(15.4, 30), answer(15.6, 900)
    )
    latency = figures(run)["latency_ms"]
    assert latency["before"] == {"requests": 2, "p50": 10.0, "p99": 10.0}
    assert latency["during"] == {"requests": 2, "p50": 30.0, "p99": 30.0}
    assert latency["p99_ratio"] == 3.0


def test_latency_counts_from_when_a_request_was_due() -> None:
    late = Answer(due=6.0, sent=6.5, ended=6.6, status=200)
    found = figures(a_run(late))
    assert found["latency_ms"]["before"]["p99"] == pytest.approx(600)
    assert found["client_late_ms"]["before"] == pytest.approx(500)


def test_the_phases_of_a_swap_have_latencies_of_their_own() -> None:
    answers = answer(11.0, 20), answer(13.0, 40), answer(14.2, 60), answer(15.0, 80, ranking=2)
    run = a_run(*answers, sign_ups=[SentSignUp("a", 13.0, 1013.0, durable=True)], enriched_at={"a": 1013.5})
    (swap,) = figures(run)["swaps"]
    assert {name: swap[name] for name in ("load", "fill", "move", "after")} == {
        "load": {"seconds": 2.0, "p99_ms": 20.0, "sign_ups_p99_ms": None},
        "fill": {"seconds": 2.0, "p99_ms": 40.0, "sign_ups_p99_ms": 500.0},
        "move": {"seconds": 0.5, "p99_ms": 60.0, "sign_ups_p99_ms": None},
        "after": {"seconds": 1.0, "p99_ms": 80.0, "sign_ups_p99_ms": None},
    }


def test_failed_requests_are_counted_by_status_and_have_no_latency() -> None:
    found = figures(a_run(answer(6.0), answer(7.0, 9000, status=503), answer(8.0, 9000, status=NO_ANSWER)))
    assert (found["requests"], found["failed"], found["failures"]) == (3, 2, {"503": 1, "0": 1})
    assert found["latency_ms"]["before"]["p99"] == 10.0
    assert found["rates"]["answered"] == round(1 / 15, 1)


@pytest.mark.parametrize(
    ("zero_shot", "ranking", "mixed"),
    [(1, 1, False), (None, 1, False), (None, None, False), (1, 2, True), (2, 1, True), (1, None, True)],
)
def test_mixed_is_virtual_behaviour_in_a_tower_of_another_generation(
    zero_shot: int | None, ranking: int | None, *, mixed: bool
) -> None:
    one = answer(6.0, zero_shot=zero_shot, ranking=ranking)
    assert is_mixed(one) is mixed
    assert figures(a_run(one))["mixed"] == mixed


def test_the_last_request_that_the_old_generation_answered_tells_when_the_move_was_seen() -> None:
    answers = [answer(14.0), answer(14.7, ranking=1), answer(14.9, ranking=2), answer(15.1, ranking=1)]
    assert seen_within(answers, SWAP, before=1) == pytest.approx(0.6)
    assert seen_within(answers, SWAP, before=7) == 0.0
    assert figures(a_run(*answers))["seen_within_seconds"] == pytest.approx(0.6)


def test_sign_ups_are_followed_to_when_they_could_be_read() -> None:
    sent = [SentSignUp("a", 6.0, 1006.0, durable=True), SentSignUp("b", 11.0, 1011.0, durable=True)]
    sent += [SentSignUp("c", 12.0, 1012.0, durable=True), SentSignUp("d", 12.0, 1012.0, durable=False)]
    found = figures(a_run(sign_ups=sent, enriched_at={"a": 1006.02, "b": 1011.05}, unfilled=1))["sign_ups"]
    assert found == {
        "sent": 4,
        "failed": 1,
        "missing": 1,
        "without_the_last_generation": 1,
        "latency_ms": {"before": {"p50": 20.0, "p99": 20.0}, "during": {"p50": 50.0, "p99": 50.0}},
    }


def test_without_a_request_there_is_no_figure_and_no_goal_is_met_by_it() -> None:
    found = figures(a_run())
    assert found["latency_ms"]["p99_ratio"] is None
    assert not met(found)["p99 at most twice that before"]
    json.dumps(found, allow_nan=False)


GOOD = (answer(6.0, 10), answer(11.0, 20), answer(15.0, 20, ranking=2))


@pytest.mark.parametrize(
    ("run", "missed"),
    [
        (a_run(*GOOD), None),
        (a_run(*GOOD, answer(7.0, status=503)), "no failed request"),
        (a_run(*GOOD, answer(7.0, zero_shot=2)), "no mixed generations"),
        (a_run(*GOOD, checked=AnswerCheck(answers=1, wrong=1)), "no mixed generations"),
        (a_run(*GOOD, answer(12.0, 40)), "p99 at most twice that before"),
        (a_run(*GOOD, answer(15.51)), "seen within a second"),
        (a_run(*GOOD, sign_ups=[SentSignUp("a", 6.0, 1006.0, durable=True)]), "every sign-up enriched"),
        (a_run(*GOOD, unfilled=1), "every sign-up enriched"),
    ],
)
def test_each_goal_is_missed_by_what_it_forbids_alone(run: SwapRun, missed: str | None) -> None:
    assert {goal for goal, reached in met(figures(run)).items() if not reached} == ({missed} if missed else set())


def test_cores_are_processor_time_over_time_and_the_rest_is_others() -> None:
    earlier, later = ProcessorReading(10.0, {"api": 1.0}, 20.0), ProcessorReading(14.0, {"api": 3.0, "load": 0.4}, 26.0)
    assert later.since(earlier) == {"api": 0.5, "load": 0.1, "others": 0.9}


SENT_MS = 1_800_000_000_000


def served(folder: Path, person: LoadUser, of: int, by: int | None = None, age_ms: int = AGE_MS) -> SampledAnswer:
    """What generation `by` answers with virtual behaviour of generation `of`, or to the real one where `by` is None."""
    number = of if by is None else by
    virtual = LocalTowers.of(folder / str(of)).virtual_behaviour([person.attributes])[0]
    if by is None:
        virtual = np.zeros_like(virtual)
    items = list(trained().encoding.items[:5])
    request = RankingInput(person.attributes, {}, person.behaviour, virtual, items, age_ms)
    (scores,) = LocalTowers.of(folder / str(number)).score([request])
    said = answer(0.0, ranking=number, zero_shot=None if by is None else number)
    return SampledAnswer("someone", said, dict(zip(items, scores.tolist(), strict=True)), SENT_MS)


def cold() -> LoadUser:
    return LoadUser(attributes_of(dataset()[0])[0], Behaviour())


def test_an_answer_of_one_generation_is_right_and_would_have_told() -> None:
    folder = artifacts()[0].parent
    checked = check_answers([served(folder, cold(), of, of) for of in (1, 2)], {"someone": cold()}, folder)
    assert (checked.answers, checked.wrong, checked.telling) == (2, 0, 2)
    assert checked.greatest_difference <= TOLERANCE


def test_an_answer_that_mixed_generations_inside_is_found_out_though_it_says_otherwise() -> None:
    folder = artifacts()[0].parent
    mixed = served(folder, cold(), of=1, by=2)
    assert not is_mixed(mixed.answer)
    assert check_answers([mixed], {"someone": cold()}, folder).wrong == 1


@pytest.mark.parametrize(("age_ms", "wrong"), [(30_000, 0), (59_995, 0), (60_050, 0), (3_600_000, 1)])
def test_whoever_signed_up_during_the_load_is_compared_as_of_that(age_ms: int, wrong: int) -> None:
    """A bin of ages ends after a minute: close to it the service may have seen either."""
    folder = artifacts()[0].parent
    answered = served(folder, cold(), of=1, by=1, age_ms=age_ms)
    registered = replace(cold(), registered_ms=SENT_MS - min(age_ms, 60_000))
    assert check_answers([answered], {"someone": registered}, folder).wrong == wrong


def test_a_warm_user_is_compared_too_and_cannot_tell() -> None:
    folder, items = artifacts()[0].parent, trained().encoding.items[:6]
    warm = LoadUser(cold().attributes, Behaviour(items, ["clicked"] * 6, range(6)))
    checked = check_answers([served(folder, warm, of=2)], {"someone": warm}, folder)
    assert (checked.answers, checked.wrong, checked.telling) == (1, 0, 0)


def test_fallbacks_are_not_compared() -> None:
    said = answer(0.0, zero_shot=None, fallback="mean_behaviour")
    assert check_answers([SampledAnswer("nobody", said, {"1": 0.5}, SENT_MS)], {}, Path("nowhere")) == AnswerCheck()


def test_shaken_towers_answer_differently_and_leave_the_others_as_they_were() -> None:
    first = trained()
    weights = {name: value.clone() for name, value in first.model.state_dict().items()}
    attributes = torch.from_numpy(first.encoding.encode_attributes(attributes_of(dataset()[0])))
    other = shaken(first, attributes, seed=1)
    with torch.no_grad():
        difference = (other.zero_shot(attributes) - first.zero_shot(attributes)).abs().max()
        mean = other.zero_shot(attributes).mean(dim=0)
    assert difference > 100 * TOLERANCE
    assert other.mean_virtual == pytest.approx(mean.numpy(), abs=1e-6)
    assert all(torch.equal(value, weights[name]) for name, value in first.model.state_dict().items())


@pytest.mark.parametrize("part", ["redis", "triton", "registry", "log"])
def test_a_part_of_the_users_own_is_left_alone(part: str) -> None:
    with pytest.raises(InvalidInput, match=part):
        own_settings(Settings().model_copy(update={part: "theirs"}))
