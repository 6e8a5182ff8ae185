"""When a generation is suspected: a table of cases."""

from datetime import UTC, datetime
from typing import Any

import pytest

from foretaste.kernel.events import UserRanked
from foretaste.kernel.ranking import Cause, Fallback, Source
from streams.watch.rollback import RankingCounts, counts_of, evidence, faults, lost_coverage

GOOD = RankingCounts(rankings=1000, failures=10, non_finite=0, new=400, covered=390)


def after(**changed: float) -> RankingCounts:
    return RankingCounts(**({"rankings": 200, "failures": 0, "non_finite": 0, "new": 80, "covered": 78} | changed))


@pytest.mark.parametrize(
    ("tally", "before", "expected"),
    [
        pytest.param(after(), GOOD, None, id="all is well"),
        pytest.param(after(rankings=199, failures=199), GOOD, None, id="too few to tell"),
        pytest.param(after(failures=10), GOOD, None, id="5 % is not yet too many"),
        pytest.param(after(failures=11), GOOD, "failures 5.5%", id="above 5 % and twice as many as before"),
        pytest.param(after(failures=11), RankingCounts(1000, 30), None, id="not twice as many as before"),
        pytest.param(after(failures=200), RankingCounts(1000, 500), None, id="half failed before too"),
        pytest.param(after(failures=11), RankingCounts(), "failures 5.5%", id="nothing known of before"),
        pytest.param(after(non_finite=4), GOOD, None, id="four that are not finite"),
        pytest.param(after(non_finite=5), GOOD, "not finite 5", id="five"),
        pytest.param(after(rankings=5000, non_finite=50), GOOD, None, id="1 % not finite is not yet too many"),
        pytest.param(after(rankings=5000, non_finite=51), GOOD, "not finite 51", id="more than 1 %"),
        pytest.param(after(non_finite=5), RankingCounts(1000, 13, 13), None, id="as many not finite before"),
        pytest.param(after(), RankingCounts(), None, id="all is well, nothing known of before"),
    ],
)
def test_faults(tally: RankingCounts, before: RankingCounts, expected: str | None) -> None:
    assert faults(tally, before) == expected


@pytest.mark.parametrize(
    ("tally", "before", "expected"),
    [
        pytest.param(after(), GOOD, None, id="all is well"),
        pytest.param(after(rankings=199, covered=0), GOOD, None, id="too few to tell"),
        pytest.param(after(covered=39), GOOD, "coverage 48.8% of 80 new users' rankings", id="coverage lost"),
        pytest.param(after(covered=40), GOOD, None, id="half covered"),
        pytest.param(after(covered=0), RankingCounts(1000, 0, 0, 400, 320), None, id="coverage was not good before"),
        pytest.param(after(covered=0), RankingCounts(), None, id="coverage before not known"),
        pytest.param(after(covered=0), RankingCounts(1000, 0, 0, 49, 49), None, id="too few new users before"),
        pytest.param(after(new=49, covered=0), GOOD, None, id="too few new users"),
    ],
)
def test_lost_coverage(tally: RankingCounts, before: RankingCounts, expected: str | None) -> None:
    assert lost_coverage(tally, before) == expected


def test_faults_are_told_together_and_with_how_it_was_before() -> None:
    assert faults(after(failures=30, non_finite=30), GOOD) == "failures 15.0%; not finite 30"
    assert evidence(after(), GOOD) == (
        "of 200 rankings since the move, before it failures 1.0%, not finite 0 and coverage 97.5% of 1000"
    )
    assert evidence(after(), RankingCounts()).endswith("before it none were counted")


def ranked(**changed: Any) -> UserRanked:
    values = {
        "ranking_id": "r",
        "user_id": "u",
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "items": ("i",),
        "scores": (0.5,),
        "attributes": {"age": 1},
        "served_by": Source.VIRTUAL,
        "zero_shot_generation": 2,
        "ranking_generation": 2,
    }
    return UserRanked.model_validate(values | changed)


POPULARITY = {"served_by": Source.FALLBACK, "fallback": Fallback.POPULARITY, "zero_shot_generation": None}
MEAN = {"served_by": Source.FALLBACK, "fallback": Fallback.MEAN_BEHAVIOUR, "zero_shot_generation": None}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, RankingCounts(1, 0, 0, 1, 1), id="cold and covered"),
        pytest.param(
            {"served_by": Source.BLENDED, "behaviour_items": ("a", "b")}, RankingCounts(1, 0, 0, 1, 1), id="warming"
        ),
        pytest.param(
            {"served_by": Source.REAL, "behaviour_items": ("a",) * 3}, RankingCounts(1, 0, 0, 0, 0), id="warm"
        ),
        pytest.param({"served_by": Source.READ_REPAIRED}, RankingCounts(1, 0, 0, 1, 0), id="repaired is not covered"),
        pytest.param({"zero_shot_generation": 1}, RankingCounts(1, 0, 0, 1, 0), id="of another generation"),
        pytest.param(POPULARITY | {"ranking_generation": None}, RankingCounts(1, 1, 0, 1, 0), id="by popularity"),
        pytest.param(
            POPULARITY | {"attributes": None}, RankingCounts(1, 1, 0, 0, 0), id="by popularity, nothing known"
        ),
        pytest.param(MEAN, RankingCounts(1, 1, 0, 1, 0), id="mean although attributes are known"),
        pytest.param(MEAN | {"attributes": None}, RankingCounts(1, 0, 0, 0, 0), id="mean of who is not known"),
        pytest.param(POPULARITY | {"cause": Cause.RANKING_NOT_FINITE}, RankingCounts(1, 1, 1, 1, 0), id="not finite"),
    ],
)
def test_what_a_ranking_counts_as(changed: dict[str, object], expected: RankingCounts) -> None:
    assert counts_of(ranked(**changed), 3) == expected


def test_tallies_add_up() -> None:
    assert RankingCounts(1, 2, 3, 4, 5) + RankingCounts(1, 1, 1, 1, 1) == RankingCounts(2, 3, 4, 5, 6)
    assert RankingCounts().coverage is RankingCounts().failure_share is RankingCounts().non_finite_share is None
