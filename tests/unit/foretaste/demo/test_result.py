"""What the demo says of what it found: the figures of each generation, and what is not as it should be."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from foretaste.demo.background_traffic import TrafficResult
from foretaste.demo.evaluation import LiveEvaluation
from foretaste.demo.first_session import CLICKS, FirstSessions, SessionStep
from foretaste.demo.interactions import InteractionResult
from foretaste.demo.refresh import DemoRefresh
from foretaste.demo.report import show
from foretaste.demo.result import DemoResult, FirstUsersResult, as_json, problems
from foretaste.demo.sign_ups import SignUpResult
from foretaste.kernel.ranking import Source
from models.evaluation.verdict import Figure, GroupVerdict, Verdict
from models.refresh.records import LearningRecord, RefreshOutcome, RefreshRecord
from serving.requests import RankResponse, ScoredItem
from tests.serving_parts import generation

USERS = 30
FIRST, NEXT = 1, 2


def evaluation(skill: float, by: int = FIRST) -> LiveEvaluation:
    """Users with two of six items acted on, scored at random but for `skill` in favour of those."""
    rng = np.random.default_rng(3)
    labels = np.tile([1, 1, 0, 0, 0, 0], USERS)
    scores = (rng.random(len(labels)) + skill * labels).tolist()
    return LiveEvaluation(
        users=np.repeat(np.arange(USERS), 6).tolist(),
        labels=labels.tolist(),
        scores={"virtual": scores, "none": scores, "popularity": rng.random(len(labels)).tolist()},
        served_by=Counter({Source.VIRTUAL.value: USERS}),
        by_generation=Counter({by: USERS}),
    )


def answer() -> RankResponse:
    return RankResponse(user_id="a", served_by=Source.VIRTUAL, ranked=[ScoredItem(item_id="x", score=0.5)])


def record(outcome: RefreshOutcome = RefreshOutcome.SWAPPED, number: int | None = NEXT) -> RefreshRecord:
    return RefreshRecord(
        id="20260101T000000.0",
        outcome=outcome,
        detail="detail",
        base=FIRST,
        number=number,
        since_ms=1,
        until_ms=2,
        started_at="2026-01-01T00:00:00+00:00",
        seconds=3.0,
        steps={"learn": 2.0, "gate": 1.0},
        learning=LearningRecord(rankings=7, impressions=70),
    )


def verdict() -> Verdict:
    figure = Figure(value=0.6, low=0.5, high=0.7)
    cold = GroupVerdict(
        group="cold",
        users=USERS,
        impressions=180,
        candidate=figure,
        active=figure,
        difference=figure,
        decision="no_worse",
    )
    groups = (cold, GroupVerdict(group="warm", users=0, impressions=0))
    return Verdict(decision="pass", reasons=("no group is worse",), groups=groups)


def refresh() -> DemoRefresh:
    during = TrafficResult(
        ["m0", "m1"], rankings=9, latencies_ms=[1.0, 3.0], by_generation=Counter({FIRST: 4, NEXT: 5})
    )
    return DemoRefresh(RefreshOutcome.SWAPPED, "detail", record(), verdict(), during, generation(NEXT), enriched=2)


def found() -> DemoResult:
    signed = SignUpResult(USERS, USERS, [4.0, 6.0], 1.5)
    first_users = FirstUsersResult(SignUpResult(1, 1, [9.0], 1.0), signed, evaluation(0.1), answer(), answer(), ["x"])
    acted = InteractionResult(USERS, 90, 900, 10.0, 20.0)
    before, after = evaluation(0.0), evaluation(0.4, NEXT)
    return DemoResult(FIRST, first_users, acted, signed, before, refresh(), after, sessions(), 0, seed=0)


def sessions() -> FirstSessions:
    """Of two users; the shown one's next item climbs with each click."""
    places = [[20 - clicks, 40 - 4 * clicks] for clicks in range(CLICKS + 1)]
    shown = [SessionStep(f"i{at}" if at else None, ["a", "b"], f"i{at + 1}", 20 - at) for at in range(CLICKS + 1)]
    return FirstSessions(places, waits=[0.004] * 19 + [0.05], shown=shown)


def unlike(**changes: Any) -> Callable[[DemoResult], DemoResult]:
    """With other fields of the refresh."""
    return lambda whole: replace(whole, refresh=replace(whole.refresh, **changes))


def with_during(**changes: Any) -> Callable[[DemoResult], DemoResult]:
    return lambda whole: unlike(during=replace(whole.refresh.during, **changes))(whole)


def refused(whole: DemoResult) -> DemoResult:
    """The gate did not admit the candidate: the first generation serves on."""
    changed = unlike(outcome=RefreshOutcome.REFUSED, record=record(RefreshOutcome.REFUSED), active=generation(FIRST))(
        whole
    )
    return replace(changed, after=None)


def failed(whole: DemoResult) -> DemoResult:
    changed = unlike(
        outcome=RefreshOutcome.FAILED, detail="no disk", record=None, verdict=None, active=generation(FIRST)
    )
    return replace(changed(whole), after=None)


def repaired(whole: DemoResult) -> DemoResult:
    later = evaluation(0.4, NEXT)
    later.served_by = Counter({Source.VIRTUAL.value: USERS - 2, Source.READ_REPAIRED.value: 2})
    return replace(whole, after=later)


def mixed(whole: DemoResult) -> DemoResult:
    later = evaluation(0.0)
    later.mixed = 3
    return replace(whole, before=later)


def test_nothing_is_wrong_where_all_went_as_it_should() -> None:
    assert list(problems(found())) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda whole: replace(whole, later=SignUpResult(USERS, USERS - 4, [], 1.0)), ["4 sign-ups were not enriched"]),
        (lambda whole: replace(whole, dead_letters=5), ["5 events became dead letters"]),
        (unlike(enriched=1), ["1 users who signed up during the refresh lack virtual behaviour"]),
        (with_during(failed=2, first_failure="503"), ["2 requests failed during the refresh, the first by 503"]),
        (with_during(mixed=1), ["1 answers mixed generations"]),
        (mixed, ["3 answers mixed generations"]),
        (repaired, ["2 users were not ranked by their virtual behaviour"]),
        (
            lambda whole: replace(whole, after=evaluation(0.4, FIRST)),
            [f"{USERS} later users were ranked by another generation than requested"],
        ),
        (refused, ["generation 1 is active: refused, detail"]),
        (failed, ["generation 1 is active: failed, no disk"]),
        (unlike(active=generation(FIRST)), [f"{USERS} later users", "generation 1 is active: swapped"]),
    ],
)
def test_every_problem_is_a_sentence(change: Callable[[DemoResult], DemoResult], expected: list[str]) -> None:
    sentences = list(problems(change(found())))
    assert len(sentences) == len(expected)
    assert all(one.startswith(start) for one, start in zip(sentences, expected, strict=True))


def test_both_generations_are_compared_on_the_same_draws_of_users() -> None:
    worth = as_json(found(), "ml-1m", {})["generations"]
    before, after, difference = worth["gauc"]["1"], worth["gauc"]["2"], worth["difference"]
    assert worth["users"] == USERS
    assert before["low"] < before["value"] < before["high"]
    assert difference["value"] == pytest.approx(after["value"] - before["value"], abs=2e-4)
    assert difference["low"] > 0
    same = as_json(replace(found(), after=evaluation(0.0, NEXT)), "ml-1m", {})["generations"]["difference"]
    assert (same["low"], same["value"], same["high"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda whole: whole, "the new one is better"),
        (lambda whole: replace(whole, after=evaluation(0.0, NEXT)), "neither is shown to be better"),
        (lambda whole: replace(whole, before=evaluation(0.4), after=evaluation(0.0, NEXT)), "the new one is worse"),
        (refused, "refused"),
        (failed, "no disk"),
    ],
)
def test_the_tables_show_every_outcome(change: Callable[[DemoResult], DemoResult], shown: str) -> None:
    console = Console(record=True, width=200)
    show(json.loads(json.dumps(as_json(change(found()), "ml-1m", {"stack": 1.0}))), console)
    text = console.export_text()
    assert shown in text
    assert "mixed generations" in text


def test_a_first_session_is_told_by_clicks_and_of_one_user() -> None:
    whole = found()
    told = as_json(whole, "ml-100k", {})["first_session"]
    assert told["users"] == 2
    assert told["mean_place"][0] == 30.0
    assert told["mean_place"][CLICKS] == 5.0
    assert (told["among_first_ten"][0], told["among_first_ten"][CLICKS]) == (0.0, 1.0)
    assert told["click_to_ranking_ms"]["p50"] == 4.0
    assert told["one_user"][1] == {"clicked": "i1", "first": ["a", "b"], "next": "i2", "place": 19}
    assert json.loads(json.dumps(told)) == told


def test_clicks_that_were_not_read_are_a_problem() -> None:
    whole = replace(found(), sessions=replace(sessions(), unread=3))
    assert "3 clicks of a first session were not read in time" in list(problems(whole))


def test_nobody_with_enough_clicks_is_no_session() -> None:
    whole = replace(found(), sessions=FirstSessions())
    told = as_json(whole, "ml-100k", {})["first_session"]
    assert told["users"] == 0
    assert told["mean_place"] == [None] * (CLICKS + 1)
    console = Console(record=True, width=200)
    show(as_json(whole, "ml-100k", {}), console)
