"""One kill -9 in the middle of a refresh under load, and the row that tells what became of it."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext

from benchmarks.swap.generations import attributes_of, check_answers
from benchmarks.swap.load import Answer, LoadRecord
from models.refresh.parts import RefreshRequest
from models.refresh.prepare import RefreshPlan
from models.refresh.records import RefreshOutcome
from tests.faults.swaps.cases import Case
from tests.faults.swaps.load import Loading, NamedLoad, loading
from tests.faults.swaps.refreshing import Ended, refreshing
from tests.faults.swaps.system import System, pause

RANK_RATE, SIGN_UP_RATE = 20.0, 5.0
"""A second."""
AFTERWARDS = 1.0
"""Seconds of load after the end: within them every reader has seen the pointer."""
LONGEST = 300.0
OK = 200
ORDER = RefreshRequest(RefreshPlan(device="cpu"), window_days=300 / 86_400, force=True)
"""Of the last minutes, so that there is always something to learn; forced, since tastes that change are not to pass."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a case. All of it is counted from the kill to a second after the end of the run that completed."""

    step: str
    killed: str
    served_during: int
    failed: int
    """Rankings without an answer, or with another status than 200."""
    mixed: int
    """Answers that name two generations, and those of a sample whose scores are not their generation's own."""
    recovered: bool
    generation: int
    """The one that served when the part was killed."""
    then: int
    """The one that serves in the end."""
    completed_by: str
    """The run that was hurt, or the next one."""
    hurt_run: str
    """How it ended."""
    by_generation: dict[str, int]
    """Answers by the generation of the ranking tower, or by popularity."""
    by_source: dict[str, int]
    scores_compared: int
    scores_telling: int
    """Of them, those that virtual behaviour of the generation before would have changed."""
    sign_ups: int
    sign_ups_refused: int
    """By Kafka, while it was away: the sender knows, and sends again."""
    not_enriched: int
    """Sign-ups, and users of the store, without current virtual behaviour in the end."""
    seconds: float
    problems: list[str]


def hurt(system: System, context: ForkServerContext, case: Case) -> Row:
    """1. Users act, the load begins, and then a refresh.
    2. At the case's point its victim is killed; the refresh goes on if it can.
    3. What died has been started again, and the refresh has ended.
    4. Unless it completed and left no old version behind, the next one is run, and has to complete.
    5. The load ends; what it saw is counted, and the system looked at.
    """
    system.act()  # 1
    before = system.active()
    with _load(system, context, case) as load:
        with refreshing(context, system.settings, ORDER, case.point) as run:
            run.reached()
            generation, incidents = system.active(), len(system.incidents)
            if case.point.later:
                pause(case.point.later)
            killed = time.monotonic()
            if case.victim == "trainer":  # 2
                run.kill()
                first = Ended(None, "killed")
            else:
                system.kill(case.victim)
                if not case.point.later:
                    run.go_on()
                system.well_again(case.victim, incidents)  # 3
                first = run.end()
        last = first
        if first.outcome is not RefreshOutcome.SWAPPED or system.state().left:  # 4
            with refreshing(context, system.settings, ORDER, None) as run:
                last = run.end()
        ended = time.monotonic()
        pause(AFTERWARDS)
        record = load.end()  # 5
    return _row(system, case, _Course(before, generation, first, last, killed, ended), record)


@dataclass(frozen=True, slots=True)
class _Course:
    """What happened, by the monotonic clock."""

    before: int
    """The generation that served when the refresh began."""
    generation: int
    first: Ended
    last: Ended
    killed: float
    ended: float


def _load(system: System, context: ForkServerContext, case: Case) -> AbstractContextManager[Loading]:
    plan = NamedLoad(
        api=system.api,
        rank_rate=RANK_RATE,
        sign_up_rate=SIGN_UP_RATE,
        seconds=LONGEST,
        users={"cold": system.cold, "warming": system.acted},
        shares={"cold": 0.6, "warming": 0.2, "new": 0.2},
        attributes=attributes_of(system.dataset),
        items=system.items,
        candidates=20,
        sample_every=4,
        seed=0,
        name=str(case).replace(" ", "-"),
    )
    return loading(context, plan, system.settings)


def _row(system: System, case: Case, course: _Course, record: LoadRecord) -> Row:
    served = [answer for answer in _during(record, course) if answer.status == OK]
    samples = [sample for sample in record.samples if sample.answer.due >= course.killed]
    people = system.people(sorted({sample.user_id for sample in samples}))
    checked = check_answers(samples, people, system.settings.generations)
    durable = [each.user_id for each in record.sign_ups if each.durable]
    missing = system.missing(durable)
    state = system.state()
    return Row(
        step=str(case.point),
        killed=case.victim,
        served_during=len(served),
        failed=len(_during(record, course)) - len(served),
        mixed=sum(answer.zero_shot not in {None, answer.ranking} for answer in served) + checked.wrong,
        recovered=(
            course.last.outcome is RefreshOutcome.SWAPPED
            and state.active.number > course.before
            and not (missing or state.lacking or state.left or state.filling)
        ),
        generation=course.generation,
        then=state.active.number,
        completed_by="the same run" if course.last is course.first else "the next run",
        hurt_run=course.first.outcome or course.first.said,
        by_generation=dict(sorted(Counter(str(answer.ranking or "popularity") for answer in served).items())),
        by_source=dict(sorted(Counter(answer.fallback or answer.served_by for answer in served).items())),
        scores_compared=checked.answers,
        scores_telling=checked.telling,
        sign_ups=len(record.sign_ups),
        sign_ups_refused=len(record.sign_ups) - len(durable),
        not_enriched=missing + state.lacking,
        seconds=round(course.ended - course.killed, 1),
        problems=[*record.problems, *([] if course.last.outcome else [course.last.said]), *map(str, state.left)],
    )


def _during(record: LoadRecord, course: _Course) -> Sequence[Answer]:
    return [answer for answer in record.answers if course.killed <= answer.due <= course.ended + AFTERWARDS]
