"""What every `TrainingLog` does: the in-memory form, and Feast's offline store on the disk and on a real S3 server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from features.log.feast_log import FeastTrainingLog
from features.log.rows import BEHAVIOURS, RANKINGS
from foretaste.kernel.events import UserBehaved
from foretaste.kernel.ports import Logged, LogUpkeep, TrainingLog
from foretaste.kernel.ranking import Cause, Fallback, Source
from foretaste.kernel.running.erasing import LogErasure, user_digest
from foretaste.kernel.values import DAY_MS
from foretaste.testing import InMemoryTrainingLog
from tests.log_factory import AT_MS, at, behaved, log_config, ranked
from tests.s3_server import S3Server, s3_server

Log: TypeAlias = InMemoryTrainingLog | FeastTrainingLog


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture(params=["memory", "disk", "s3"])
def log(request: pytest.FixtureRequest, tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Log:
    if request.param == "memory":
        return InMemoryTrainingLog()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return FeastTrainingLog(log_config(tmp_path, server.address() if request.param == "s3" else None))


def test_every_form_has_both_ports(log: Log) -> None:
    training_log: TrainingLog = log
    upkeep: LogUpkeep = log
    assert callable(training_log.read)
    assert callable(upkeep.compact)


async def everything(log: Log) -> Logged:
    return await log.read(0, 2 * AT_MS)


def ids(logged: Logged) -> list[str]:
    return [str(each) for each in logged.rankings["ranking_id"].to_pylist()]


def items(logged: Logged) -> list[str]:
    return [str(each) for each in logged.behaviours["item_id"].to_pylist()]


async def test_an_empty_log_has_all_columns_and_no_rows(log: Log) -> None:
    await log.write_rankings([])
    await log.write_behaviours([])
    logged = await everything(log)
    assert (logged.rankings.schema, logged.rankings.num_rows) == (RANKINGS, 0)
    assert (logged.behaviours.schema, logged.behaviours.num_rows) == (BEHAVIOURS, 0)
    assert list(logged.skipped) == []


async def test_a_ranking_is_read_back_field_by_field(log: Log) -> None:
    event = ranked(
        "r1",
        at(ms=7),
        fallback=Fallback.MEAN_BEHAVIOUR,
        served_by=Source.FALLBACK,
        cause=Cause.ATTRIBUTES_UNKNOWN,
        reason="ünknown",
        probabilities=(0.75, 1.0),
    )
    await log.write_rankings([event])
    table = (await everything(log)).rankings
    assert table.schema == RANKINGS
    (row,) = table.to_pylist()
    assert json.loads(row.pop("attributes")) == event.attributes
    assert json.loads(row.pop("context")) == event.context
    lists = {name: tuple(row.pop(name)) for name in list(row) if isinstance(row[name], list)}
    assert row | lists == event.model_dump(exclude={"attributes", "context"})


async def test_what_was_not_known_is_null(log: Log) -> None:
    bare: dict[str, Any] = {"attributes": None, "context": {}, "zero_shot_generation": None, "ranking_generation": None}
    nothing: dict[str, Any] = dict.fromkeys(("behaviour_items", "behaviour_actions", "behaviour_times"), ())
    await log.write_rankings([ranked("r1", **bare, **nothing, items=(), scores=(), warm_after=None)])
    (row,) = (await everything(log)).rankings.to_pylist()
    absent = ("attributes", "fallback", "cause", "reason", "zero_shot_generation", "ranking_generation", "warm_after")
    assert [row[name] for name in absent] == [None] * len(absent)
    assert row["context"] == "{}"
    assert [row[name] for name in nothing] == [[]] * len(nothing)


async def test_a_behaviour_is_read_back_field_by_field(log: Log) -> None:
    named = behaved("i2", at(ms=2), ranking_id="r1", event_id="e2")
    events = [behaved("i1", at(ms=1)), named.model_copy(update={"passed_over": ("i3", "i4")})]
    await log.write_behaviours(events)
    table = (await everything(log)).behaviours
    assert table.schema == BEHAVIOURS
    assert table.to_pylist() == [as_row(event) for event in events]


def as_row(event: UserBehaved) -> dict[str, Any]:
    return event.model_dump() | {"passed_over": list(event.passed_over)}


async def test_rows_come_in_the_order_of_time(log: Log) -> None:
    await log.write_rankings([ranked("late", at(2)), ranked("early", at(0))])
    await log.write_rankings([ranked("between", at(1))])
    await log.write_behaviours([behaved("late", at(2)), behaved("early", at(0))])
    await log.write_behaviours([behaved("between", at(1))])
    logged = await everything(log)
    assert ids(logged) == ["early", "between", "late"]
    assert items(logged) == ["early", "between", "late"]


async def test_written_again_each_row_is_read_once(log: Log) -> None:
    rankings = [ranked(f"r{n}", at(n / 2)) for n in range(6)]
    behaviours = [behaved(f"i{n}", at(n / 2)) for n in range(6)]
    for part in (slice(0, 4), slice(0, 4), slice(2, 6)):
        await log.write_rankings(rankings[part])
        await log.write_behaviours([*behaviours[part], *behaviours[part]])
    logged = await everything(log)
    assert ids(logged) == [each.ranking_id for each in rankings]
    assert items(logged) == [each.item_id for each in behaviours]


async def test_behaviours_differ_by_user_item_action_and_time(log: Log) -> None:
    same = behaved("i1", ranking_id="r1")
    others = [
        behaved("i2"),
        behaved("i1", user_id="u2"),
        behaved("i1", at(ms=1)),
        behaved("i1").model_copy(update={"action": "bought"}),
    ]
    await log.write_behaviours([behaved("i1"), same, *others])
    rows = (await everything(log)).behaviours.to_pylist()
    assert len(rows) == 5
    assert as_row(same) in rows, "of the same behaviour, the one that names its ranking is kept"


async def test_behaviours_with_an_identity_differ_by_it_alone(log: Log) -> None:
    """Two acts of one item, action and time are two; one that was written twice, though it says otherwise, is one."""
    first, second = behaved("i1", event_id="topic/0@1 5"), behaved("i1", event_id="topic/0@2 5")
    again = behaved("i9", at(ms=3), event_id="topic/0@1 5")
    others = behaved("i1", user_id="u2", event_id="topic/0@1 5")
    for part in ([first, second], [second, again], [others, first]):
        await log.write_behaviours(part)
    found = [(row["user_id"], row["item_id"], row["event_id"]) for row in await behaviour_rows(log)]
    assert found == [("u1", "i1", "topic/0@1 5"), ("u1", "i1", "topic/0@2 5"), ("u2", "i1", "topic/0@1 5")]


async def test_a_row_of_an_earlier_version_and_the_same_with_its_identity_are_one(log: Log) -> None:
    """An act that was logged just before an update is read from Kafka again after it."""
    await log.write_behaviours([behaved("i1"), behaved("i1"), behaved("i2")])
    await log.write_behaviours([behaved("i1", event_id="e1"), behaved("i1", event_id="e2")])
    assert [(row["item_id"], row["event_id"]) for row in await behaviour_rows(log)] == [
        ("i1", "e1"),
        ("i1", "e2"),
        ("i2", None),
    ]


async def behaviour_rows(log: Log) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await everything(log)).behaviours.to_pylist()
    return rows


@pytest.mark.parametrize(
    ("since_ms", "until_ms", "found"),
    [
        (AT_MS, AT_MS + 1, ["r0"]),
        (AT_MS + 1, AT_MS + DAY_MS, []),
        (AT_MS, AT_MS + DAY_MS, ["r0"]),
        (AT_MS, AT_MS + DAY_MS + 1, ["r0", "r1"]),
        (AT_MS + DAY_MS, AT_MS + 3 * DAY_MS, ["r1", "r2"]),
        (0, 2**62, ["r0", "r1", "r2"]),
        (AT_MS + 3 * DAY_MS, AT_MS, []),
    ],
)
async def test_a_window_holds_its_start_and_not_its_end(
    log: Log, since_ms: int, until_ms: int, found: list[str]
) -> None:
    await log.write_rankings([ranked(f"r{n}", at(n)) for n in range(3)])
    await log.write_behaviours([behaved(f"r{n}", at(n)) for n in range(3)])
    logged = await log.read(since_ms, until_ms)
    assert ids(logged) == items(logged) == found


async def test_what_is_expired_is_not_read_and_what_is_compacted_is_as_before(log: Log) -> None:
    for day in range(3):
        for each in ("x", "y", "x"):
            await log.write_rankings([ranked(f"{each}{day}", at(day))])
            await log.write_behaviours([behaved(f"{each}{day}", at(day))])
    before = await everything(log)
    days = [at(day).date() for day in range(3)]
    assert list((await log.compact(days[2], lambda: True)).days) == []
    compacted = await log.compact(days[2])
    assert (list(compacted.days), list(compacted.skipped)) == (days[:2], [])
    after = await everything(log)
    assert after.rankings.equals(before.rankings)
    assert after.behaviours.equals(before.behaviours)
    assert list(await log.expire(days[1])) == days[:1]
    assert list(await log.expire(days[1])) == []
    assert ids(await everything(log)) == items(await everything(log)) == ["x1", "y1", "x2", "y2"]


async def test_behaviours_are_read_without_the_rankings(tmp_path: Path) -> None:
    log = FeastTrainingLog(log_config(tmp_path))
    await log.write_rankings([ranked("r1")])
    await log.write_behaviours([behaved("a"), behaved("b", at(days=1))])
    assert (await log.read_behaviours(0, 2 * AT_MS)).equals((await everything(log)).behaviours)
    assert (await log.read_behaviours(AT_MS, AT_MS + DAY_MS))["item_id"].to_pylist() == ["a"]
    await log.erase([LogErasure("u1", AT_MS, AT_MS)])
    assert (await log.read_behaviours(0, 2 * AT_MS))["item_id"].to_pylist() == ["b"]


async def test_an_erased_user_is_left_out_until_a_ranking_shows_that_the_user_registered_anew(log: Log) -> None:
    await log.write_rankings([ranked("r1"), ranked("r2", at(1)), ranked("other", user_id="u2")])
    await log.write_behaviours([behaved("i1"), behaved("i2", at(1)), behaved("other", user_id="u2")])
    await log.erase([LogErasure("u1", AT_MS + DAY_MS, AT_MS + DAY_MS)])
    logged = await everything(log)
    assert (ids(logged), items(logged)) == (["other"], ["other"])
    await log.write_behaviours([behaved("i3", at(2))])
    nothing: dict[str, Any] = dict.fromkeys(("behaviour_items", "behaviour_actions", "behaviour_times"), ())
    await log.write_rankings([ranked("unknown", at(2), attributes=None, **nothing)])
    await log.write_rankings([ranked("vouched", at(2), attributes={}, **nothing)])
    logged = await everything(log)
    assert (ids(logged), items(logged)) == (["other"], ["other"]), "nobody knows who that is"
    await log.write_rankings([ranked("r4", at(3), registered_at=at(2.5), behaviour_times=acted(2.6, 2.7, 2.8))])
    logged = await everything(log)
    assert (ids(logged), items(logged)) == (["other", "r4"], ["other", "i3"])
    await log.compact(at(9).date())
    logged = await everything(log)
    assert (ids(logged), items(logged)) == (["other", "r4"], ["other", "i3"])
    assert await log.erased() == {user_digest("u1"): AT_MS + DAY_MS}


async def test_of_who_registered_anew_rankings_that_were_answered_from_what_was_before_are_left_out(log: Log) -> None:
    """The erasure was handled when the registration stood there already, or an answer was in flight then."""
    at_ms, anew = AT_MS + DAY_MS, at(1, ms=5)
    since = acted(1.1, 1.2, 1.3)
    await log.erase([LogErasure("u1", at_ms, at_ms + 5)])
    rankings = [
        ranked("with an older behaviour", at(2), registered_at=anew, behaviour_times=(at_ms, *since[1:])),
        ranked("with the age of before", at(3), registered_at=at(0), behaviour_times=since),
        ranked("with an age that is not known", at(4), behaviour_times=since),
        ranked("with all of before", at(5), registered_at=at(0)),
        ranked("of somebody else", at(5), user_id="u2", registered_at=at(0)),
        ranked("cold", at(6), registered_at=anew, behaviour_items=(), behaviour_actions=(), behaviour_times=()),
        ranked("warm", at(7), registered_at=anew, behaviour_times=(at_ms + 1, *since[1:])),
        ranked("of an account that is as old as the erasure", at(8), registered_at=at(1), behaviour_times=since),
    ]
    await log.write_rankings(rankings)
    left = ["of somebody else", "cold", "warm", "of an account that is as old as the erasure"]
    assert ids(await everything(log)) == left
    await log.compact(at(9).date())
    assert ids(await everything(log)) == left


def acted(*days: float) -> tuple[int, ...]:
    return tuple(round(1000 * at(each).timestamp()) for each in days)
