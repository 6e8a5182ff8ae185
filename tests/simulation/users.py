"""What users do: sign-ups, behaviours, erasures and requests for rankings, as the seed decides it."""

import asyncio
import json
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import slot
from foretaste.kernel.ranking import Source
from foretaste.kernel.users import UserFeatures
from serving.requests import RankRequest, RankResponse
from streams.topics import TopicNames
from tests.simulation.parts.broker import Record
from tests.simulation.parts.towers import ITEMS, POISON
from tests.simulation.plan import ACTIVE
from tests.simulation.reference import SentAct, SentErasure, SentEvent, SentSignUp

if TYPE_CHECKING:
    from tests.simulation.actors import RankingService
    from tests.simulation.system import System

NAMES = TopicNames()


class Users:
    """All users of a simulation. What they send is durable once it is sent: who loses a connection sends it again."""

    def __init__(self, system: "System") -> None:
        self._system = system
        self._rng = system.world.rng
        self._numbers = 0
        self.answered: dict[str, RankResponse] = {}
        """By ranking id."""
        self.noted: dict[str, set[str]] = {}
        """By incarnation of the service, the rankings that it gave."""

    async def act(self) -> None:
        """Everything that users do, until they stop."""
        plan = self._system.plan
        signing = self._bursts(plan.sign_ups)
        behaving = self._bursts(plan.behaviours)
        asking = [self._rng.uniform(0.0, ACTIVE) for _ in range(plan.rankings)]
        todo: list[tuple[float, Any]] = [
            *((at, self._sign_up) for at in signing),
            *((at, self._behave) for at in behaving),
            *((at, self._ask) for at in asking),
            *((self._rng.uniform(1.0, ACTIVE * 0.8), self._erase) for _ in range(plan.erasures)),
        ]
        for at, what in sorted(todo, key=lambda each: each[0]):
            await asyncio.sleep(max(0.0, at - self._system.world.loop.time()))
            what()

    def _bursts(self, number: int) -> list[float]:
        times: list[float] = []
        while len(times) < number:
            at = self._rng.uniform(0.2, ACTIVE * 0.9)
            times += [at] * self._rng.choice((1, 1, 2, 4))
        return [*times[4:number], *[ACTIVE * 0.9] * min(4, number)]  # the last ones come together

    def _user(self) -> str:
        return f"u{self._rng.randrange(self._system.plan.users)}"

    def _erase(self) -> None:
        """Some sign up just before; most register anew, at once or later."""
        rng, user_id, call_later = self._rng, self._user(), self._system.world.loop.call_later
        if rng.random() < 0.4:
            self._sign_up(user_id)
            pause = rng.choice((0.0, 0.01, 0.05)) + rng.choice((0.0, self._system.plan.tower_seconds))
            call_later(pause, partial(self._send_erasure, user_id))
        else:
            self._send_erasure(user_id)
        if rng.random() < 0.8:
            call_later(rng.choice((0.0, 0.01, 0.3, 2.0)), partial(self._sign_up, user_id))

    def _send_erasure(self, user_id: str) -> None:
        """Now and then one that was sent before comes again behind it, or instead."""
        rng, number = self._rng, self._next()
        name = f"e{number}" if rng.random() < 0.6 else None
        claimed = rng.choice((None, None, self._now_ms(), self._now_ms() - rng.randrange(2000)))
        good, value = rng.random() < 0.95, {"user_id": user_id}
        sent = self._system.reference.erasures[user_id]
        before = [each for each in sent if each.claimed_ms is None and each.identity.startswith("e")]
        again = rng.random()
        if not before or again < 0.7:
            self._send(NAMES.erased, "occurred_at", user_id.encode(), value, claimed, name, good=good)
        if before and again > 0.4:
            self._send_again(before[0])

    def _send_again(self, erasure: SentErasure) -> None:
        key, raw = erasure.record.key, erasure.record.value
        value, name = {"user_id": erasure.user_id}, erasure.identity
        self._append(NAMES.erased, key, raw or b"", value, None, name, good=True, poison=False)

    def _sign_up(self, user_id: str | None = None) -> None:
        """Of anybody, or of one who is erased, before or since."""
        rng, number = self._rng, self._next()
        at_once = user_id is not None and rng.random() < 0.6
        user_id = user_id or self._user()
        poison = not self._system.plan.behaviours and rng.random() < 0.15  # a warm user needs no tower
        attributes = {"n": number, POISON: True} if poison else {"n": number}
        name = f"s{number}" if rng.random() < 0.5 else None
        claimed = None if at_once else self._claimed_ms()
        value: dict[str, Any] = {"user_id": user_id, "attributes": attributes}
        key = user_id.encode() if rng.random() >= self._system.plan.keyless else None
        good = rng.random() < 0.93
        self._send(NAMES.registered, "registered_at", key, value, claimed, name, good=good, poison=poison)

    def _behave(self) -> None:
        rng, user_id, number = self._rng, self._user(), self._next()
        exact = self._system.plan.exact_times
        name = f"b{number}" if not exact or rng.random() < 0.5 else None
        value = {"user_id": user_id, "item_id": f"a{number}", "action": "acted"}
        claimed = self._claimed_ms()
        at_ms = self._now_ms() if claimed is None else claimed
        self._send(NAMES.behaved, "at", user_id.encode(), value, at_ms, name, good=rng.random() < 0.95)

    def _send(
        self,
        topic: str,
        time_field: str,
        key: bytes | None,
        value: dict[str, Any],
        claimed_ms: int | None,
        name: str | None,
        *,
        good: bool,
        poison: bool = False,
    ) -> None:
        """Durable now; now and then its sender did not hear so, and sends it again a little later."""
        if claimed_ms is not None:
            value[time_field] = datetime.fromtimestamp(claimed_ms / 1000, UTC).isoformat()
        if name is not None:
            value["event_id"] = name
        raw = json.dumps(value).encode() if good else b"no event"
        self._append(topic, key, raw, value, claimed_ms, name, good=good, poison=poison)
        if self._rng.random() < self._system.plan.resent and (name is not None or topic == NAMES.behaved):
            again = partial(self._append, topic, key, raw, value, claimed_ms, name, good=good, poison=poison)
            self._system.world.loop.call_later(self._rng.expovariate(2.0), again)

    def _append(
        self,
        topic: str,
        key: bytes | None,
        raw: bytes,
        value: dict[str, Any],
        claimed_ms: int | None,
        name: str | None,
        *,
        good: bool,
        poison: bool,
    ) -> None:
        broker = self._system.broker
        record = broker.append(topic, key, raw)
        event = self._event(record, value, claimed_ms, name, good=good, poison=poison)
        self._system.reference.sent(event)
        self._system.erasures.sent(event)
        if not good:
            self._system.logged.ignored.add((record.topic, record.partition, record.offset))

    @staticmethod
    def _event(
        record: Record, value: dict[str, Any], claimed_ms: int | None, name: str | None, *, good: bool, poison: bool
    ) -> SentEvent:
        identity = name or f"{record.topic}/{record.partition}@{record.offset}"
        if record.topic == NAMES.erased:
            return SentErasure(record, value["user_id"], identity, claimed_ms, good)
        if record.topic == NAMES.registered:
            return SentSignUp(record, value["user_id"], identity, claimed_ms, good, value["attributes"], poison)
        item = value["item_id"]
        return SentAct(record, value["user_id"], identity, claimed_ms, good, item, value["action"], name is not None)

    def _claimed_ms(self) -> int | None:
        """What a sender claims: nothing, some time ago, one of few instants, or a time ahead."""
        now, rng = self._now_ms(), self._rng
        kind = rng.random()
        if rng.random() < self._system.plan.coarse:
            return now // self._system.plan.instant_ms * self._system.plan.instant_ms
        if kind < 0.25:
            return None
        if kind < 0.6:
            return now - rng.randrange(5000)
        if kind < 0.85:
            return now // self._system.plan.instant_ms * self._system.plan.instant_ms
        return now + rng.randrange(3_600_000)

    def _now_ms(self) -> int:
        return round(1000 * self._system.world.now())

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def _check_repair(self, answer: RankResponse) -> None:
        """What was made for an answer is stored, unless a generation in use has the slot, or others write meanwhile."""
        system, number = self._system, answer.ranking_generation
        if answer.served_by is not Source.READ_REPAIRED or number is None or not self._nothing_fails():
            return
        held = system.redis.online._virtual.get((answer.user_id, slot(number)))
        written = system.invariants.written_at.get(answer.user_id, 0.0)
        used = {number, *system.invariants.serving.in_use}
        stored = held is not None and held[1].generation in used
        fresh = system.world.loop.time() - written < 1.0
        system.world.expect(stored or fresh, "a repair was not written back", answer.user_id, number)

    def _nothing_fails(self) -> bool:
        return self._system.quiet_for(3.0) or all(each.kind == "rollback" for each in self._system.plan.faults)

    def _ask(self) -> None:
        self.ask(self._user())

    def ask(self, user_id: str) -> "asyncio.Task[RankResponse | None] | None":
        """Ask the service for a ranking, where it runs."""
        process = self._system.world.processes.get("service")
        if process is None or process.parts is None:
            return None
        return self._system.world.within(process, self._asked(process.parts, user_id))

    async def _asked(self, service: "RankingService", user_id: str) -> RankResponse | None:
        world = self._system.world
        try:
            answer = await service.rank(RankRequest(user_id=user_id, items=list(ITEMS)))
        except Unavailable as error:
            world.note("no ranking", user_id, error)
            excused = not self._system.quiet_for(8.0) or "none is active" in str(error)
            world.expect(excused, "a ranking failed though every part was there", str(error))
            return None
        world.note("ranked", user_id, answer.served_by, answer.ranking_generation)
        world.expect(answer.ranking_id not in self.answered, "two rankings have one number", answer.ranking_id)
        world.expect(answer.user_id == user_id, "somebody got the answer of another", user_id, answer.user_id)
        self._check_repair(answer)
        self.answered[answer.ranking_id] = answer
        self.noted.setdefault(answer.ranking_id.partition("-")[0], set()).add(answer.ranking_id)
        return answer


def lacks(system: "System", user_id: str) -> UserFeatures | None:
    """A user whose attributes stand and who lacks virtual behaviour of the active generation."""
    active = system.invariants.serving.active
    if active is None:
        return None
    user = system.invariants.features(user_id, active.number)
    return user if active.lacks(user) else None
