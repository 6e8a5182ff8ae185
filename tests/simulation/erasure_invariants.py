"""What must hold of who was erased, at every step and once everything has settled."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from foretaste.kernel.events import UserProfile, UserRanked
from foretaste.kernel.generations import SLOTS
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import UserFeatures
from streams.codec import EVENTS
from streams.profiles.profile import registered_user
from streams.topics import TopicNames
from tests.simulation.parts.world import at_once
from tests.simulation.reference import NEVER, Order, SentAct, SentErasure, SentEvent, order_of

if TYPE_CHECKING:
    from tests.simulation.system import System

NAMES = TopicNames()


class ErasureInvariants:
    """1. Of who was erased, nothing of before can be read, and nothing of it comes back.
    2. Who registered anew keeps that, and what was done since; an erasure that comes again takes nothing.
    3. What is committed of erasures had its effect, in the store and in the log.
    4. Once everything has settled, the last record of `user-profiles` is null for who is erased, and of a registration
       since for who is back; what the log reads tells of nothing before, and has what came after.
    """

    def __init__(self, system: "System") -> None:
        self._system = system
        self._redis = system.redis
        self._fences: dict[str, Order] = {}
        """By user, the latest erasure that the store as it is has carried out."""
        self.ever: dict[str, Order] = {}
        """Likewise of those that it lost."""
        self._admitted: dict[tuple[str, str], Order] = {}
        """By user and item, the registration that stood when an act was sent."""
        self._rows: dict[str, UserFeatures] = {}
        self._redis.erased = self.erased

    def sent(self, event: SentEvent) -> None:
        if not isinstance(event, SentAct) or not event.good:
            return
        if self._system.invariants.features(event.user_id, 1).attributes is not None:
            order = self._system.invariants.order(event.user_id)
            key = (event.user_id, event.item)
            self._admitted[key] = max(order, self._admitted.get(key, order))

    def restored(self) -> None:
        """The store lost something."""
        self._fences = {user: (at_ms, 0, "", 0) for user, at_ms in self._redis.online._erased.items()}
        self._rows.clear()
        for user_id in self._redis.online._attributes:
            self._note(user_id)

    def erased(self, user: ErasedUser) -> None:
        """The store was asked to erase a user."""
        place, user_id = user.version.place, user.user_id
        assert place is not None
        topic, _, partition = place.partition.rpartition("-")
        event = self._system.reference.by_origin[topic, int(partition), place.offset]
        assert isinstance(event, SentErasure)
        order, before = self._system.reference.first_copy(event), self._rows.get(user_id)
        self._fences[user_id] = max(order, self._fences.get(user_id, NEVER))
        self.ever[user_id] = max(order, self.ever.get(user_id, NEVER))
        if before is not None and before.attributes is not None:
            self._check_kept(event, before)
        self._system.invariants.erased(user_id)
        self.check(user_id)

    def check(self, user_id: str) -> None:
        """1, wherever a row was written."""
        self._note(user_id)
        user, fence = self._rows[user_id], self._fences.get(user_id, NEVER)
        if fence == NEVER:
            return
        expect, order = self._system.world.expect, self._system.invariants.order(user_id)
        back = user.attributes is not None
        expect(not back or order > fence, "attributes of before an erasure stand", user_id, order, fence)
        old = [each for each in user.behaviour.times if each <= fence[0]]
        expect(not old, "behaviour of before an erasure stands", user_id, list(user.behaviour.items), old, fence)
        expect(back or not len(user.behaviour), "somebody who was erased behaves", user_id, list(user.behaviour.items))
        first_ms = user.registered_ms
        expect(first_ms is None or first_ms >= fence[0], "an account is older than its erasure", user_id, first_ms)
        virtual = [self._redis.online._virtual.get((user_id, name)) for name in SLOTS]
        expect(back or not any(virtual), "virtual behaviour stands of who was erased", user_id)

    def _check_kept(self, event: SentErasure, before: UserFeatures) -> None:
        """2."""
        user_id, reference = event.user_id, self._system.reference
        is_known = reference.remembers(user_id) and not self._system.lost_something
        bound = reference.first_copy(event) if is_known else event.order
        order = self._order_of(before)
        if order <= bound:
            return
        after = self._system.invariants.features(user_id, 1)
        self._system.world.expect(
            self._order_of(after) == order, "an erasure took who registered anew", user_id, order, event.order
        )
        since = {
            item
            for item, at_ms in zip(before.behaviour.items, before.behaviour.times, strict=True)
            if at_ms > max(bound[0], self.ever[user_id][0])
        }
        gone = since - set(after.behaviour.items)
        self._system.world.expect(not gone, "an erasure took behaviour of after it", user_id, sorted(gone))

    def had_effect(self, event: SentErasure) -> bool:
        return self.ever.get(event.user_id, NEVER) >= self._system.reference.first_copy(event)

    def stands(self, event: SentErasure) -> bool:
        return self._redis.online._erased.get(event.user_id, -1) >= self._system.reference.first_copy(event)[0]

    def is_logged(self, event: SentErasure) -> bool:
        at_ms, _ = self._system.logged.erased.get(event.user_id, (-1, 0))
        return at_ms >= self._system.reference.first_copy(event)[0]

    def judge(self) -> None:
        """4, and what was done since."""
        for user_id in self._system.reference.erasures:
            if self._system.reference.erasures[user_id]:
                self._judge_behaviour(user_id)
                self._judge_profile(user_id)
        if self._system.plan.log:
            self._judge_log()

    def _judge_behaviour(self, user_id: str) -> None:
        world, reference = self._system.world, self._system.reference
        low, high = reference.erased(user_id, lost=self._system.lost_something)
        user = self._system.invariants.features(user_id, 1)
        items, times = list(user.behaviour.items), list(user.behaviour.times)
        sent = {(each.item, each.at_ms) for each in reference.acts[user_id] if each.good and each.at_ms > low[0]}
        found = set(zip(items, times, strict=True))
        world.expect(found <= sent, "behaviour of who was erased:", user_id, sorted(found - sent), low)
        world.expect(times == sorted(times) and len(set(items)) == len(items), "behaviour is out of order", user_id)
        if self._system.lost_something:
            return
        since = {
            each.item
            for each in reference.acts[user_id]
            if each.good and each.at_ms > high[0] and self._admitted.get((user_id, each.item), NEVER) > high
        }
        world.expect(
            since <= set(items), "behaviour since an erasure is not there", user_id, sorted(since - set(items))
        )

    def _judge_profile(self, user_id: str) -> None:
        low, _ = self._system.reference.erased(user_id, lost=self._system.lost_something)
        records = [each for each in self._system.broker.of(NAMES.profiles) if each.key == user_id.encode()]
        value = records[-1].value if records else None
        user, expect = self._system.invariants.features(user_id, 1), self._system.world.expect
        if user.attributes is None:
            if self._system.plan.log and not self._system.reference.remembers(user_id):
                return  # the log's way erased again by a copy that the users' way had still known
            expect(value is None, "the last profile of who was erased is not null", user_id, value)
            return
        expect(value is not None, "the last profile of who is back is null", user_id)
        if value is not None:
            told = self._order_of(registered_user(EVENTS.decode(value, UserProfile)))
            expect(told > low, "the last profile of who is back is of before the erasure", user_id, told, low)

    def _judge_log(self) -> None:
        logged = at_once(self._system.logged.held.read(0, 2**53))
        for row in logged.rankings.to_pylist():
            low, _ = self._system.reference.erased(row["user_id"], lost=self._system.lost_something)
            if low != NEVER:
                self._judge_ranking(row, low)
        for row in logged.behaviours.to_pylist():
            low, _ = self._system.reference.erased(row["user_id"], lost=self._system.lost_something)
            at_ms = round(1000 * row["at"].timestamp())
            self._system.world.expect(at_ms > low[0], "the log has a behaviour of before an erasure", row)
        found = set(logged.rankings["ranking_id"].to_pylist())
        for ranking in self._system.logged.held._rankings:
            read = ranking.ranking_id in found or not self._counts(ranking)
            self._system.world.expect(read, "the log lacks a ranking of after an erasure", ranking.user_id, ranking.at)

    def _judge_ranking(self, row: Mapping[str, Any], low: Order) -> None:
        """Of equal milliseconds the log does not know which was before."""
        attributes = json.loads(row["attributes"] or "null")
        registered = [each for each in self._system.reference.sign_ups[row["user_id"]] if each.attributes == attributes]
        is_since = (
            row["at"].timestamp() * 1000 > low[0]
            and row["registered_at"] is not None
            and row["registered_at"].timestamp() * 1000 >= low[0]
            and all(at_ms > low[0] for at_ms in row["behaviour_times"])
            and any(each.at_ms >= low[0] for each in registered)
        )
        self._system.world.expect(is_since, "the log has a ranking of before an erasure", low, row)

    def _counts(self, ranking: UserRanked) -> bool:
        """Whether a ranking was answered when the last erasure was long over, from what came after it."""
        user_id, registered = ranking.user_id, ranking.registered_at
        _, high = self._system.reference.erased(user_id, lost=self._system.lost_something)
        _, until_ms = self._system.logged.erased.get(user_id, (-1, -1))
        if high == NEVER:
            return True
        if registered is None or ranking.attributes is None or ranking.at.timestamp() * 1000 <= until_ms:
            return False
        times_ms = (round(registered.timestamp() * 1000), *ranking.behaviour_times)
        return all(at_ms > high[0] for at_ms in times_ms)

    def _note(self, user_id: str) -> None:
        self._rows[user_id] = self._system.invariants.features(user_id, 1)

    @staticmethod
    def _order_of(user: UserFeatures) -> Order:
        return order_of(user.attributes_version)
