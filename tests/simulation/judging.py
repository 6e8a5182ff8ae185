"""The verdict once everything has settled: the rows, the dead letters, the announcements, the log."""

from typing import TYPE_CHECKING

from foretaste.kernel.events import UserRanked
from foretaste.kernel.ranking import Source
from foretaste.kernel.users import Stage, UserFeatures
from streams.codec import EVENTS
from streams.topics import TopicNames
from tests.simulation.parts.towers import POISON
from tests.simulation.plan import LOSSES
from tests.simulation.reference import SentSignUp
from tests.simulation.users import lacks

if TYPE_CHECKING:
    from tests.simulation.system import System

NAMES = TopicNames()
UNWATCHED = ("kill", "leave", "freeze", "freeze at work", "kill at work", "lost commits", *LOSSES)
"""Faults after which a watch may have missed what it needs to judge by."""


def judge(system: "System") -> None:
    """Everything that was sent has had its effect once, and nothing else is there."""
    for number in range(system.plan.users):
        _judge_user(system, f"u{number}")
    system.erasures.judge()
    _judge_letters(system)
    _judge_rankings(system)


def _judge_user(system: "System", user_id: str) -> None:
    world, reference, plan = system.world, system.reference, system.plan
    user = system.invariants.features(user_id, 1)
    wrong = reference.wrong_attributes(user, exact=plan.exact_times, lost=system.lost_something)
    world.expect(wrong is None, f"attributes of {user_id}:", wrong)
    if plan.exact_times and not system.lost_something:
        late = reference.wrong_first(user)
        world.expect(late is None, f"the first registration of {user_id}:", late)
    if not reference.erasures[user_id]:
        _judge_behaviour(system, user)
    lacking = lacks(system, user_id)
    if lacking is not None and POISON not in (lacking.attributes or {}):
        excused = not plan.rankings and (not plan.calm or system.refreshes)
        world.expect(bool(excused), f"{user_id} lacks virtual behaviour")
    _judge_announced(system, user_id)


def _judge_behaviour(system: "System", user: UserFeatures) -> None:
    """Of a user whom nobody erased: everything that was done stands, once and in order."""
    plan, user_id = system.plan, user.user_id
    expected = system.reference.behaviour(user_id)
    found = list(zip(user.behaviour.items, user.behaviour.actions, user.behaviour.times, strict=True))
    if not plan.exact_times:
        expected = sorted((each[0], each[1], 0) for each in expected)
        found = sorted((each[0], each[1], 0) for each in found)
    if system.lost_something:  # of such a one, any copy may have been read first since
        moved = system.reference.moved(user_id)
        items, owed = (sorted(each[0] for each in row) for row in (found, expected))
        system.world.expect(items == owed, f"behaviour of {user_id}:", items, "expected", owed)
        expected, found = ([each for each in row if each[0] not in moved] for row in (expected, found))
    system.world.expect(found == expected, f"behaviour of {user_id}:", found, "expected", expected)


def _judge_announced(system: "System", user_id: str) -> None:
    """Whoever signed up was announced, unless warm by then, or a dead letter, or erased."""
    invariants = system.invariants
    if system.reference.erasures[user_id]:
        return
    good = [each for each in system.reference.sign_ups[user_id] if each.good and not each.poison]
    announced = any(user == user_id for user, _ in invariants.announced)
    behaviours = len(system.reference.behaviour(user_id))
    could_be_warm = behaviours >= (2 if system.plan.refreshers else 3)
    system.world.expect(not good or announced or could_be_warm, f"{user_id} was never announced")


def _judge_letters(system: "System") -> None:
    """What nobody can decode is a dead letter; what no tower answers for may be one."""
    letters = system.invariants.letters
    for origin, event in system.reference.by_origin.items():
        excused = isinstance(event, SentSignUp) and event.poison
        if not event.good:
            system.world.expect(origin in letters, "an event that cannot be decoded is no dead letter", origin)
        elif not excused:
            system.world.expect(origin not in letters, "a good event is a dead letter", origin)


def _judge_rankings(system: "System") -> None:
    """Every ranking that a service gave and that it did not lose by dying is on its topic, and in the log."""
    world = system.world
    shown = [EVENTS.decode(record.value, UserRanked) for record in system.broker.of(NAMES.ranked)]
    ids = {each.ranking_id for each in shown}
    service = world.processes.get("service")
    if service is not None and not system.plan.has("kill", "leave", "kill at work"):
        for given in system.users.noted.values():
            world.expect(given <= ids, "rankings that were shown are not on their topic", sorted(given - ids))
    if system.plan.log:
        world.expect(ids <= system.logged.rankings, "rankings are not in the log", sorted(ids - system.logged.rankings))
    _judge_last(system)


def _judge_last(system: "System") -> None:
    """The last answer to each user is of the active generation, with what stands for the user's behaviour."""
    active = system.invariants.serving.active
    if active is None:
        system.world.violated("no generation is active")
        return
    last = {answer.user_id: answer for answer in system.users.answered.values()}
    if "service" not in system.world.processes:
        return
    for user_id, answer in last.items():
        user = system.invariants.features(user_id, active.number)
        known = user.attributes is not None and POISON not in user.attributes
        if system.triton.is_bad(active.number):
            earlier = [move.number for move in system.redis.generations._moves[1:]]
            better = bool(earlier) and not any(map(system.triton.is_bad, earlier)) and max(earlier) < active.number
            watched = better and system.plan.watch and not system.plan.has(*UNWATCHED)
            system.world.expect(not watched, "a bad generation is active, and the watch did nothing")
            continue
        system.world.expect(
            answer.ranking_generation == active.number, "not ranked by the active generation", user_id, answer.reason
        )
        fine = answer.served_by is not Source.FALLBACK or not known
        system.world.expect(fine, "a known user was answered by a fallback", user_id, answer.reason)
        if active.stage(len(user.behaviour)) is Stage.WARM:
            system.world.expect(answer.served_by is Source.REAL, "a warm user was not answered as one", user_id)
