"""What must hold at every step: each is checked where it could be broken, at the effect itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from aiokafka import TopicPartition

from foretaste.kernel.events import UserEnriched, UserProfile
from foretaste.kernel.generations import SLOTS, Generation, Serving, slot
from foretaste.kernel.users import BehavedUser, EnrichedUser, LaterBehaviour, ReenrichedUser, Stage, UserFeatures
from foretaste.kernel.values import Partition
from streams.codec import EVENTS
from streams.profiles.profile import registered_user
from streams.topics import TopicNames
from streams.worker.dead_letters import OFFSET, PARTITION, TOPIC
from tests.simulation.parts.broker import Group, Record
from tests.simulation.parts.store import SEEN, Row
from tests.simulation.parts.towers import POISON, made_of
from tests.simulation.parts.world import at_once
from tests.simulation.pointer_invariants import SETTLED, UNAWARE, PointerInvariants
from tests.simulation.reference import Order, SentAct, SentErasure, SentSignUp, order_of

if TYPE_CHECKING:
    from tests.simulation.system import System

NAMES = TopicNames()
NOTHING: Order = (0, 0, "", 0)


class Invariants:
    """1. A user's current virtual behaviour is made from the user's attributes, by the generation that it names.
    2. A registration never gives way to an earlier one.
    3. A behaviour that was applied stays, stands once, and in order of time.
    4. What a generation in use made current is not written over by another one.
    5. The pointer moves from where it stood, to a generation that answers and is recorded; nothing in use is let go of,
       and what fills has a slot of its own.
    6. A generation that took over as filled has everybody.
    7. One process refreshes at a time.
    8. What is committed had its effect; what no worker would read again has it in the store as it is.
    9. What is announced is what whoever announces it has stored, or read. A good event is no dead letter.
    What must hold of who was erased: `ErasureInvariants`.
    """

    def __init__(self, system: "System") -> None:
        self._system = system
        self._redis, self._broker, self._world = system.redis, system.broker, system.world
        self._orders: dict[str, Order] = {}
        self._behaviours: dict[str, BehavedUser] = {}
        self._current: dict[tuple[str, str], int] = {}
        self._checked: dict[TopicPartition, int] = {}
        """Before which offset all effects were seen in the store as it is."""
        self.letters: set[tuple[str, int, int]] = set()
        self.announced: set[tuple[str, int]] = set()
        self.ever_applied: set[tuple[str, str]] = set()
        """User and item."""
        self.ever_registered: dict[str, Order] = {}
        self.written_at: dict[str, float] = {}
        """When the attributes of a user changed last."""
        self._stamps: dict[tuple[str, str], int] = {}
        """By user and slot, as of when its virtual behaviour was."""
        self._holds: dict[tuple[str, str], object] = {}
        self._redis.wrote, self._redis.restored = self.wrote, self.restored
        self._redis.advanced = self.advanced
        self._pointer = PointerInvariants(system, self)
        self._broker.appended, self._broker.committing = self.appended, self.committing

    @property
    def serving(self) -> Serving:
        return at_once(self._redis.generations.serving())

    def features(self, user_id: str, generation: int) -> UserFeatures:
        return self._redis.online._features(user_id, generation)

    def wrote(self, row: Row) -> None:
        if isinstance(row, BehavedUser | LaterBehaviour):
            self._check_behaviour(row.user_id)
        else:
            self._check_row(row)
        self._system.erasures.check(row.user_id)

    def erased(self, user_id: str) -> None:
        """What stands of a user who was erased is where to go on from."""
        order = self._orders[user_id] = self.order(user_id)
        self.ever_registered[user_id] = max(order, self.ever_registered.get(user_id, order))
        self.written_at[user_id] = self._world.loop.time()
        self._behaviours.pop(user_id, None)
        held = self._redis.online._behaviour.get(user_id)
        if held is not None:
            self._behaviours[user_id] = held
        self._note_current(user_id)
        for name in SLOTS:
            virtual = self._redis.online._virtual.get((user_id, name))
            self._stamps[user_id, name] = 0 if virtual is None else virtual[0]
            self._holds[user_id, name] = virtual

    def restored(self) -> None:
        """The store lost something: what stands now is where to go on from."""
        self._checked.clear()
        online = self._redis.online
        self._behaviours = dict(online._behaviour)
        self._orders = {user: self.order(user) for user in online._attributes}
        self._current.clear()
        for user_id in online._attributes:
            self._note_current(user_id)
        self._holds = dict(online._virtual)
        self._stamps = {key: at_ms for key, (at_ms, _) in online._virtual.items()}
        self._pointer.restored()
        self._system.erasures.restored()

    def appended(self, record: Record) -> None:
        if record.topic == NAMES.dead_letters:
            headers = dict(record.headers)
            origin = (headers[TOPIC].decode(), int(headers[PARTITION]), int(headers[OFFSET]))
            self.letters.add(origin)
            event = self._system.reference.by_origin.get(origin)
            excused = isinstance(event, SentSignUp) and event.poison
            self._world.expect(event is None or not event.good or excused, "a good event became a dead letter", origin)
        elif record.topic == NAMES.enriched:
            self._check_announced(EVENTS.decode(record.value, UserEnriched))
        elif record.topic == NAMES.profiles and record.value is not None:
            self._check_profile(EVENTS.decode(record.value, UserProfile))

    def committing(self, group: Group, partition: TopicPartition, offset: int) -> None:
        before = group.committed.get(partition, 0)
        self._world.expect(offset <= len(self._broker.logs[partition]), "committed beyond the end", partition, offset)
        if group.name not in (NAMES.group, NAMES.log_group):
            return
        for record in self._broker.logs[partition][before:offset]:
            done = self._is_logged(record) if group.name == NAMES.log_group else self._had_effect(record)
            self._world.expect(done, f"committed by {group.name} without its effect:", record.topic, record.offset)
        if group.name == NAMES.group:
            self._check_word(partition, offset)

    def advanced(self, moves: Mapping[Partition, tuple[int, int]]) -> None:
        for topic, number in moves:
            self._check_word(TopicPartition(topic, number), self._committed(TopicPartition(topic, number)))

    def _committed(self, partition: TopicPartition) -> int:
        return self._broker.group(NAMES.group).committed.get(partition, 0)

    def _check_word(self, partition: TopicPartition, committed: int) -> None:
        """A reader starts at the store's word, or where its group stands, if that is earlier: what lies before is done.

        Once the store has lost something that is so again as soon as somebody has seen it: the verdict tells.
        """
        if self._system.lost_something:
            return
        start = min(self._redis.offsets.held.get((partition.topic, partition.partition), 0), committed)
        for record in self._broker.logs[partition][self._checked.get(partition, 0) : start]:
            self._world.expect(self._stands(record), "nobody will read what the store lacks:", partition, record.offset)
        self._checked[partition] = max(start, self._checked.get(partition, 0))

    def _check_row(self, row: EnrichedUser | ReenrichedUser) -> None:
        user_id, serving = row.user_id, self.serving
        order = self.order(user_id)
        before = self._orders.get(user_id)
        if before is not None and order != before and self._exact:
            self._world.expect(order > before, "a registration gave way to an earlier one", user_id, before, order)
        if order != before:
            self.written_at[user_id] = self._world.loop.time()
        self._orders[user_id] = order
        self.ever_registered[user_id] = max(order, self.ever_registered.get(user_id, order))
        self._check_stamps(row)
        for number, generation in serving.in_use.items():
            self._check_current(user_id, generation)
            key = (user_id, slot(number))
            known = self._world.loop.time() - self._pointer.in_use_since.get(number, 0.0) > UNAWARE
            known = known and self._system.quiet_for(UNAWARE)  # else a read repair mends what is written over
            if isinstance(row, ReenrichedUser) and order == before and known and self._current.get(key) == number:
                held = generation.virtual_of(self.features(user_id, number))
                self._world.expect(held is not None, "what a generation in use made was written over", row)
        self._note_current(user_id)

    def _check_stamps(self, row: EnrichedUser | ReenrichedUser) -> None:
        """Virtual behaviour gives way to a newer one alone, and one made anew says so."""
        for name in SLOTS:
            key, held = (row.user_id, name), self._redis.online._virtual.get((row.user_id, name))
            at_ms = 0 if held is None else held[0]
            before = self._stamps.get(key, 0)
            if isinstance(row, ReenrichedUser) and slot(row.virtual.generation) == name and at_ms == row.at_ms:
                replaced = held is not None and np.array_equal(held[1].vectors, row.virtual.vectors)
                changed = held is not None and self._holds.get(key) is not held
                newer = not (replaced and changed) or at_ms > before
                self._world.expect(newer, "virtual behaviour was written over one that is as new", row.user_id, before)
            self._stamps[key], self._holds[key] = at_ms, held

    def _note_current(self, user_id: str) -> None:
        for name in SLOTS:
            held_here = self._redis.online._virtual.get((user_id, name))
            if held_here is not None and held_here[0] >= self._redis.online._version(user_id).at_ms:
                self._current[user_id, name] = held_here[1].generation
            else:
                self._current.pop((user_id, name), None)

    def _check_current(self, user_id: str, generation: Generation) -> None:
        user = self.features(user_id, generation.number)
        virtual = generation.virtual_of(user)
        if virtual is None:
            return
        expected = made_of(user.attributes or {}, generation.number)
        self._world.expect(
            np.array_equal(virtual.vectors, expected),
            "virtual behaviour passes for current and is of other attributes, or of another generation",
            user_id,
            virtual.vectors.tolist(),
            user.attributes,
        )

    def _check_behaviour(self, user_id: str) -> None:
        after, before = self._redis.online._behaviour.get(user_id), self._behaviours.get(user_id)
        if after is None or after is before:
            return
        behaviour = after.behaviour
        rows = list(zip(behaviour.items, behaviour.actions, behaviour.times, strict=True))
        self._world.expect(len(set(behaviour.items)) == len(rows), "a behaviour stands twice", user_id, behaviour.items)
        self._world.expect(list(behaviour.times) == sorted(behaviour.times), "behaviours are out of order", user_id)
        if before is not None:
            gone = set(before.behaviour.items) - set(behaviour.items)
            self._world.expect(not gone, "a behaviour that was applied is gone", user_id, sorted(gone))
        self._behaviours[user_id] = after
        self.ever_applied.update((user_id, item) for item in behaviour.items)

    def _check_announced(self, event: UserEnriched) -> None:
        self.announced.add((event.user_id, event.generation))
        serving, reference = self.serving, self._system.reference
        self._world.expect(bool(reference.sign_ups[event.user_id]), "somebody was announced who never signed up", event)
        self._check_readable(event)
        if serving.active is None or serving.active.number != event.generation or self._system.lost_something:
            return
        several = len(reference.sign_ups[event.user_id]) > 1  # another one may be on its way, of a user warm by now
        filling = serving.filling
        if filling is not None and not several and self._knows_filling() and event.user_id in self.written_at:
            filled = self.features(event.user_id, filling.number)
            made = self.written_at[event.user_id] - self._pointer.filling_since > UNAWARE
            lacks = made and filling.lacks(filled) and POISON not in (filled.attributes or {})
            self._world.expect(not lacks, "a sign-up got no virtual behaviour of what fills", event.user_id)

    def _check_readable(self, event: UserEnriched) -> None:
        """Others may have written since: whoever announces has read the user, or written, with what is announced."""
        seen, generation = SEEN.get(), self._redis.generations._records.get(event.generation)
        if seen is None or generation is None:  # it was sent while the broker hung; the generation is retired
            return
        held = seen[event.user_id]
        readable = any(generation.virtual_of(each[1 - event.generation % 2]) is not None for each in held)
        warm = any(generation.stage(len(each[0].behaviour)) is Stage.WARM for each in held)
        self._world.expect(readable or warm, "announced, and not readable", event.user_id)

    def _check_profile(self, profile: UserProfile) -> None:
        seen = SEEN.get()
        held = None if seen is None else seen.get(profile.user_id)
        if not held:
            self._world.expect(seen is None, "a profile of a user who was not read", profile.user_id)
            return
        told, stored = registered_user(profile).attributes_version, [each[0].attributes_version for each in held]
        is_stored = any(told.is_same(each) for each in stored)
        self._world.expect(is_stored, "a profile tells another registration", profile.user_id, told, stored)

    def _knows_filling(self) -> bool:
        """Nothing held a sign-up's call up since it began."""
        return (
            self._system.quiet_for(SETTLED)
            and self._system.plan.latency < 0.02
            and self._system.plan.tower_seconds < 0.3
        )

    def order(self, user_id: str) -> Order:
        return order_of(self._redis.online._version(user_id))

    def _had_effect(self, record: Record) -> bool:
        """Whether an event had its effect at some time."""
        event = self._system.reference.by_origin.get((record.topic, record.partition, record.offset))
        if event is None:
            return True
        if event.origin in self.letters:
            return True
        if isinstance(event, SentSignUp) and event.good:
            return not self._exact or self.ever_registered.get(event.user_id, NOTHING) >= self._least(event)
        if isinstance(event, SentAct) and event.good:
            return (event.user_id, event.item) in self.ever_applied or event.user_id in self._system.erasures.ever
        return isinstance(event, SentErasure) and self._system.erasures.had_effect(event)

    def _stands(self, record: Record) -> bool:
        """Whether the effect of an event is in the store now."""
        event = self._system.reference.by_origin.get((record.topic, record.partition, record.offset))
        if event is None or event.origin in self.letters or not event.good:
            return True
        if isinstance(event, SentAct):
            held = self._redis.online._behaviour.get(event.user_id)
            stands = held is not None and event.item in held.behaviour.items
            return stands or event.user_id in self._redis.online._erased
        if isinstance(event, SentErasure):
            return self._system.erasures.stands(event)
        if isinstance(event, SentSignUp) and self._exact:
            return event.user_id in self._redis.online._attributes and self.order(event.user_id) >= self._least(event)
        return True

    def _least(self, event: SentSignUp) -> Order:
        """The order of the earliest copy of a registration: a later copy has no effect."""
        copies = self._system.reference.sign_ups[event.user_id]
        return min(each.order for each in copies if each.identity == event.identity)

    def _is_logged(self, record: Record) -> bool:
        if record.topic != NAMES.erased:
            return self._system.logged.has(record)
        event = self._system.reference.by_origin[record.topic, record.partition, record.offset]
        return not isinstance(event, SentErasure) or not event.good or self._system.erasures.is_logged(event)

    @property
    def _exact(self) -> bool:
        return self._system.plan.exact_times
