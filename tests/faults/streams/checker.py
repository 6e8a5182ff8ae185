"""Judges a history: what was acknowledged has one end, once, in order, and what was announced can be read.

Nothing of Foretaste is imported here: the rules are told a second time, from the documentation.

1. Every acknowledged sign-up is announced, belongs to a user who is warm already, or is a dead letter: one of them.
2. Every acknowledged behaviour stands in its user's row once, or is a dead letter.
3. A row is in order of time, and where times are equal in order of the partition; the later of two sign-ups stays.
   Time is the sender's, but not after Kafka's timestamp, nor after the moment at which it was handled.
4. Whoever was announced can be read, straight after and in the end. A store that may lose its newest writes by its
   setting may miss some until the fault is over; those are counted apart.
5. What was not acknowledged may have its effect or not; what was aborted, or never sent, has none.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.faults.streams.history import (
    Announced,
    Begun,
    DeadLettered,
    Hurt,
    Logged,
    Operation,
    Place,
    Produced,
    Ranked,
    Stored,
)

SLACK_MS = 1000
"""By which a record's timestamp may lie after its answer before its sender's clock counts as one that is ahead."""
EXAMPLES = 5
"""Problems of each kind that a verdict names."""
OK = 200


@dataclass
class Verdict:
    """What became of all that was sent, in records; the figures from `lost` on are faults, unless stated."""

    sent: int = 0
    acknowledged: int = 0
    enriched: int = 0
    """Sign-ups whose user was announced."""
    warm: int = 0
    """Sign-ups of users that need no announcement."""
    applied: int = 0
    """Behaviours that stand in a row."""
    dead: int = 0
    lost: int = 0
    doubled: int = 0
    """Behaviours that stand there twice, and records with two ends."""
    disordered: int = 0
    """Rows out of order, and users with older attributes than were acknowledged."""
    unreadable: int = 0
    """Announcements whose user could not be read."""
    phantom: int = 0
    """Effects of what was aborted or never sent."""
    unlogged: int = 0
    """Rankings that were answered and did not come to their topic: no fault unless the case says so."""
    taken_back: int = 0
    """Announcements whose user the store lost and got back, where its setting allows that; no fault."""
    repeated: int = 0
    """Announcements and dead letters that came again, as they may; no fault."""
    problems: list[str] = field(default_factory=list)
    """The first of each kind."""

    def found(self, kind: str, detail: str) -> None:
        """Count one problem of a kind, and keep its detail where it is one of the first."""
        before: int = getattr(self, kind)
        setattr(self, kind, before + 1)
        if before < EXAMPLES:
            self.problems.append(f"{kind}: {detail}")


@dataclass(frozen=True, slots=True)
class _When:
    """Between which times (epoch milliseconds) an event may count as having happened."""

    first: int
    last: int

    def is_before(self, other: "_When") -> bool:
        return self.last < other.first


def judge(history: Iterable[Operation]) -> Verdict:
    """The verdict over a whole history, which begins with `Begun`. Raises `ValueError` for one that does not."""
    facts = _Facts(list(history))
    verdict = Verdict(sent=len(facts.produced), acknowledged=sum(map(_acknowledged, facts.produced)))
    verdict.dead = sum(facts.is_dead(each) for each in facts.produced if _acknowledged(each))
    for records in _grouped(facts.of_kind("poison")).values():
        _judge_poison(facts, records, verdict)
    for user, records in _by_user(facts.of_kind("sign-up")).items():
        _judge_sign_ups(facts, user, records, verdict)
    behaviours = _by_user(facts.of_kind("behaviour"))
    for user in sorted({*behaviours, *facts.stored}):
        _judge_behaviours(facts, user, behaviours.get(user, []), verdict)
    _judge_announcements(facts, verdict)
    verdict.unlogged = len(facts.answered - facts.logged)
    return verdict


class _Facts:
    """A history, by what is looked up in it."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        if not operations or not isinstance(operations[0], Begun):
            raise ValueError(f"a history begins with Begun (got {operations[:1]})")
        self.begun = operations[0]
        self.produced = [each for each in operations if isinstance(each, Produced)]
        self.announced = [each for each in operations if isinstance(each, Announced)]
        self.letters = Counter(_letter_place(each) for each in operations if isinstance(each, DeadLettered))
        self.stored = {each.user: each for each in operations if isinstance(each, Stored)}
        self.hurt = {each.what: each.at for each in operations if isinstance(each, Hurt)}
        self.answered = {
            each.ranking_id for each in operations if isinstance(each, Ranked) and each.status == OK and each.ranking_id
        }
        self.logged = {each.ranking_id for each in operations if isinstance(each, Logged)}
        self.users_announced = {each.user for each in self.announced}
        self.finish_ms = round(1000 * max((each.at for each in self.stored.values()), default=0.0))

    def of_kind(self, kind: str) -> list[Produced]:
        return [each for each in self.produced if each.kind == kind]

    def is_dead(self, record: Produced) -> bool:
        return record.place is not None and _record_place(record.place) in self.letters

    def when(self, record: Produced) -> _When:
        """When it happened, by rule 3."""
        start_ms = int(1000 * record.start)
        if record.place is None:
            latest = self.finish_ms if record.claimed_ms is None else min(record.claimed_ms, self.finish_ms)
            return _When(min(start_ms, latest), latest)
        stamp_ms = record.place.stamp_ms
        claimed_ms = stamp_ms if record.claimed_ms is None else record.claimed_ms
        if stamp_ms <= 1000 * record.end + SLACK_MS:
            at_ms = min(claimed_ms, stamp_ms)
            return _When(at_ms, at_ms)
        return _When(min(claimed_ms, start_ms), min(claimed_ms, self.finish_ms))

    def may_be_missing(self, announced: Announced) -> bool:
        """By rule 4."""
        begins, recovered = self.hurt.get("begins"), self.hurt.get("recovered")
        if not self.begun.takes_back or begins is None:
            return False
        return announced.end >= begins and (recovered is None or announced.start <= recovered)


def _judge_poison(facts: _Facts, records: Sequence[Produced], verdict: Verdict) -> None:
    for each in records:
        if _acknowledged(each) and each.place is not None and not facts.is_dead(each):
            verdict.found("lost", f"{each.event} of {each.user} is no dead letter, at {each.place}")


def _judge_sign_ups(facts: _Facts, user: str, records: Sequence[Produced], verdict: Verdict) -> None:
    good = [each for each in records if _acknowledged(each) and not facts.is_dead(each)]
    possible = [each for each in records if each.outcome == "unknown"]
    stored = facts.stored.get(user)
    number = None if stored is None else stored.number
    if number is None or stored is None:
        for each in good:
            verdict.found("lost", f"{each.event}: {user} has no attributes in the end")
        return
    held = [each for each in (*good, *possible) if each.number == number]
    if not held:
        dead = any(each.number == number and facts.is_dead(each) for each in records)
        kind = "doubled" if dead else "phantom"
        verdict.found(
            kind, f"{user} has the attributes of sign-up {number}, which is {'dead' if dead else 'of nobody'}"
        )
        return
    later = [each for each in good if all(_is_later(facts, each, other) for other in held)]
    if later:
        names = ", ".join(each.event for each in later)
        verdict.found("disordered", f"{user} has the attributes of {held[0].event}, but later came {names}")
    is_warm = len(stored.behaviours) >= facts.begun.warm_after
    for each in good:
        if user in facts.users_announced:
            verdict.enriched += 1
        elif is_warm:
            verdict.warm += 1
        else:
            verdict.found("lost", f"{each.event}: {user} was never announced, and is not warm")


def _judge_behaviours(facts: _Facts, user: str, records: Sequence[Produced], verdict: Verdict) -> None:
    row = facts.stored[user].behaviours if user in facts.stored else []
    times = Counter(event for event, _ in row)
    events = _grouped(records)
    for event, same in events.items():
        owed = any(_acknowledged(each) and not facts.is_dead(each) for each in same)
        count = times[event]
        verdict.applied += count > 0
        if owed and not count:
            verdict.found("lost", f"{event} of {user} is not in the row, at {same[0].place}")
        if count > 1:
            verdict.found("doubled", f"{event} stands {count} times in the row of {user}")
        if count and all(each.outcome == "aborted" for each in same):
            verdict.found("phantom", f"{event} of {user} was aborted, and stands in the row")
        elif count and not owed and all(_acknowledged(each) for each in same):
            verdict.found("doubled", f"{event} of {user} is a dead letter, and stands in the row")
    for event in times.keys() - events.keys():
        verdict.found("phantom", f"{event} stands in the row of {user}, who never sent it")
    _judge_order(facts, user, [(events[event], at_ms) for event, at_ms in row if event in events], verdict)


def _judge_order(facts: _Facts, user: str, row: Sequence[tuple[Sequence[Produced], int]], verdict: Verdict) -> None:
    for records, at_ms in row:
        when = [facts.when(each) for each in records]
        if not any(each.first <= at_ms <= each.last for each in when):
            problem = f"{records[0].event} of {user} is stored as of {at_ms}, but happened between {when}"
            verdict.found("disordered", problem)
    for (before, before_ms), (after, after_ms) in pairwise(row):
        falling = after_ms < before_ms or (after_ms == before_ms and _is_behind(before, after))
        if falling:
            verdict.found("disordered", f"{after[0].event} follows {before[0].event} in the row of {user}")


def _judge_announcements(facts: _Facts, verdict: Verdict) -> None:
    unreadable = set()
    for each in facts.announced:
        if each.outcome == "missing":
            if facts.may_be_missing(each):
                verdict.taken_back += 1
            else:
                unreadable.add(each.user)
                verdict.found("unreadable", f"{each.user} was announced, and could not be read at {each.end:.3f}")
    for user in sorted(facts.users_announced - unreadable):
        if user not in facts.stored or not facts.stored[user].readable:
            verdict.found("unreadable", f"{user} was announced, and cannot be read in the end")
    owed = {each.user for each in facts.of_kind("sign-up") if each.outcome != "aborted"}
    for user in sorted(facts.users_announced - owed):
        verdict.found("phantom", f"{user} was announced, and never signed up")
    verdict.repeated = len(facts.announced) - len(facts.users_announced) + facts.letters.total() - len(facts.letters)


def _is_later(facts: _Facts, one: Produced, other: Produced) -> bool:
    """Whether one sign-up is the later of two for sure."""
    if one.event == other.event:
        return False
    ours, theirs = facts.when(one), facts.when(other)
    if theirs.is_before(ours):
        return True
    if ours != theirs or ours.first != ours.last or one.place is None or other.place is None:
        return False
    if (one.place.topic, one.place.partition) == (other.place.topic, other.place.partition):
        return one.place.offset > other.place.offset
    return one.place.stamp_ms > other.place.stamp_ms


def _is_behind(before: Sequence[Produced], after: Sequence[Produced]) -> bool:
    """Whether two events of one time stand in the wrong order: those of one partition have one, sent once each."""
    if len(before) > 1 or len(after) > 1:
        return False
    one, other = before[0].place, after[0].place
    if one is None or other is None or (one.topic, one.partition) != (other.topic, other.partition):
        return False
    return one.offset > other.offset


def _acknowledged(record: Produced) -> bool:
    return record.outcome == "acknowledged"


def _letter_place(letter: DeadLettered) -> tuple[str, int, int]:
    return letter.topic, letter.partition, letter.offset


def _record_place(place: Place) -> tuple[str, int, int]:
    return place.topic, place.partition, place.offset


def _grouped(records: Iterable[Produced]) -> dict[str, list[Produced]]:
    """By event."""
    found: defaultdict[str, list[Produced]] = defaultdict(list)
    for each in records:
        found[each.event].append(each)
    return found


def _by_user(records: Iterable[Produced]) -> dict[str, list[Produced]]:
    found: defaultdict[str, list[Produced]] = defaultdict(list)
    for each in records:
        found[each.user].append(each)
    return found
