"""Planted faults of the ways of a user: behaviours, sign-ups, re-enrichment."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.event_order import DIGEST_BYTES, AppliedEvents, AttributesVersion, Place
from foretaste.kernel.events import Message, event_digest
from foretaste.kernel.ports import Coverage
from foretaste.kernel.users import Behaviour, ReenrichedUser, UserFeatures, VirtualBehaviour
from streams import behaviours
from streams.behaviours import Act, Behaviours, append
from streams.reenrich_worker import Pages
from streams.reenrichment import Reenrichment
from streams.sign_ups import SignUps, rows, way
from streams.sign_ups.rows import EnrichedSignUp, KnownSignUp
from streams.zero_shot import virtual_behaviour
from tests.simulation.planted.fault import planted

_write, _announce, _enrich, _appended = SignUps._write, SignUps._announce, SignUps._enrich, behaviours._appended
_replaces, _later, _new = AttributesVersion.replaces, behaviours._later, SignUps._new
_sign_ups_written, _outdoing = SignUps._read_and_written, AttributesVersion.outdoing
_read_and_written, _started = Behaviours._read_and_written, Reenrichment._started


async def _refusal_ignored(self: Any, of_user: Any) -> Any:
    _, without_effect = await _read_and_written(self, of_user)
    return [], without_effect


def _by_place(event_id: str | None, message: Message) -> bytes:
    return blake2b(f"{message.origin.place}".encode(), digest_size=DIGEST_BYTES).digest()


def _by_partition(event_id: str | None, message: Message) -> bytes:
    return blake2b(f"{message.origin.partition}".encode(), digest_size=DIGEST_BYTES).digest()


def _at_the_end(behaviour: Behaviour, item: str, action: str, at_ms: int, *, named: bool = False) -> Behaviour:
    return behaviour.then(item, action, at_ms)


def _no_late_ones(behaviour: Behaviour, item: str, action: str, at_ms: int, *, named: bool = False) -> Behaviour:
    if behaviour.times and at_ms < behaviour.times[-1]:
        return behaviour
    return append(behaviour, item, action, at_ms, named=named)


def _each_counts(behaviour: Behaviour, item: str, action: str, at_ms: int, *, named: bool = False) -> Behaviour:
    return append(behaviour, item, action, at_ms, named=True)


def _as_claimed(claimed_ms: int | None, origin: Any, now_ms: int) -> int:
    return now_ms if claimed_ms is None else claimed_ms


def _last_alone(user: UserFeatures, acts: Sequence[Any]) -> Any:
    return _appended(user, acts[-1:])


def _last_alone_unread(user_id: str, acts: Sequence[Any]) -> Any:
    return _later(user_id, acts[-1:])


def _later_time(self: AttributesVersion, stored: AttributesVersion) -> bool:
    if self.digests and self.digests[-1] in stored.digests:
        return False
    return self.at_ms > stored.at_ms


def _earlier_place(self: AttributesVersion, stored: AttributesVersion) -> bool:
    if self.at_ms != stored.at_ms:
        return self.at_ms > stored.at_ms
    return self.place is not None and (stored.place is None or stored.place.is_later(self.place))


def _without_digests(self: AttributesVersion, stored: AttributesVersion) -> bool:
    return _replaces(replace(self, digests=()), stored)


def _by_offset(self: Place, other: Place | None) -> bool:
    return other is None or self.offset > other.offset


def _first_of_batch(enriched: Sequence[EnrichedSignUp]) -> list[EnrichedSignUp]:
    first: dict[str, EnrichedSignUp] = {}
    for each in enriched:
        first.setdefault(each.user_id, each)
    return list(first.values())


async def _announce_then_write(self: Any, enriched: Sequence[EnrichedSignUp], filled: Any) -> set[str]:
    if enriched:
        await _announce(self, enriched, enriched[0].known.generation)
    return await _write(self, enriched, filled)


async def _announce_refused(self: Any, enriched: Sequence[EnrichedSignUp], filled: Any) -> set[str]:
    await _write(self, enriched, filled)
    return set()


async def _refused_given_up(self: Any, *arguments: Any) -> list[Any]:
    await _sign_ups_written(self, *arguments)
    return []


def _with_its_others(self: AttributesVersion, other: AttributesVersion) -> AttributesVersion:
    if other.digests[-1] not in self.digests or len(other.digests) == 1:
        return _outdoing(self, other)
    return _outdoing(self, replace(other, digests=other.digests[:-1]))


async def _announce_then_write_new(self: Any, sign_ups: Sequence[Any], generation: Any, store: Any) -> Any:
    nothing = [KnownSignUp(each, UserFeatures(each.event.user_id), generation) for each in sign_ups]
    await _announce(self, [EnrichedSignUp(each, None) for each in nothing], generation)
    return await _new(self, sign_ups, generation, store)


async def _announce_made(self: Any, enriched: Sequence[EnrichedSignUp], generation: Any) -> None:
    await _announce(self, [each for each in enriched if each.virtual is not None], generation)


async def _announce_once(self: Any, enriched: Sequence[EnrichedSignUp], generation: Any) -> None:
    with suppress(Unavailable):
        await _announce(self, enriched, generation)


async def _no_letters(self: Any, sign_ups: Any) -> list[Any]:
    await _enrich(self, sign_ups)
    return []


async def _made_by_active(
    self: Any, needing: Sequence[KnownSignUp], generation: Any, unknown: Any = None
) -> tuple[list[Any], list[Any]]:
    serving = await self._parts.generations.serving()
    vectors = await virtual_behaviour(
        self._parts.towers, [each.attributes for each in needing], serving.active or generation
    )
    made = zip(needing, vectors, strict=True)
    return [EnrichedSignUp(each, VirtualBehaviour(generation.number, virtual)) for each, virtual in made], []


async def _none_filled(self: Any, enriched: Any, filling: Any) -> list[Any]:
    return []


def _whichever(cls: Any, read: UserFeatures, virtual: VirtualBehaviour) -> ReenrichedUser:
    return ReenrichedUser(read.user_id, virtual, read.as_of_ms + 1)


def _not_later(cls: Any, read: UserFeatures, virtual: VirtualBehaviour) -> ReenrichedUser:
    return ReenrichedUser(read.user_id, virtual, read.as_of_ms, read.attributes_version)


async def _none_lacks(self: Any, users: Any, generation: Any) -> list[str]:
    return []


async def _started_without_filling(self: Any, number: int) -> Any:
    return await self._generations.get(number), True


async def _goes_on_anyway(self: Any, number: int) -> Any:
    generation, _ = await _started(self, number)
    return generation, True


async def _of_active_alone(self: Any, pages: Sequence[Any]) -> None:
    serving = await self._parts.generations.serving()
    active = serving.active
    for page in pages:
        if active is not None and page.generation == active.number:
            await self._fill_share(page.user_ids, active)


async def _first_page_alone(self: Any, generation: Any, state: Any, report: Any) -> Any:
    users, _ = await self._store.users(state.cursor or "", 2)
    wanted = users if state.round == 0 else await self._lacking(users, generation)
    await self._send(wanted, generation.number)
    missing = state.missing + (len(wanted) if state.round else 0)
    return replace(state, cursor=None, users=state.users + len(users), missing=missing)


async def _at_once_done(self: Any, number: int, report: Any = None) -> Coverage:
    await self._started(number)
    return Coverage(1, 0, 1)


DIGEST = "event_digest"
_DIGEST_OF_RECORD = property(lambda self: event_digest(self.event.event_id, self.message))
TIME = "event_time_ms"

BEHAVIOURS = (
    planted(
        "refusal_ignored",
        "a behaviour that the store refused is given up",
        (Behaviours, "_read_and_written", _refusal_ignored),
    ),
    planted(
        "nothing_remembered",
        "applied behaviours are not remembered",
        (AppliedEvents, "with_applied", lambda self, digest: self),
    ),
    planted(
        "event_id_ignored",
        "an event is told by its place alone",
        (behaviours, DIGEST, _by_place),
        (rows, DIGEST, _by_place),
    ),
    planted(
        "claim_ignored",
        "an unnamed behaviour from a clock ahead that is sent again counts again",
        (Act, "digest", _DIGEST_OF_RECORD),
    ),
    planted("offset_ignored", "events of a partition are told apart by nothing", (behaviours, DIGEST, _by_partition)),
    planted("appended_at_the_end", "a late behaviour is put last", (behaviours, "append", _at_the_end)),
    planted("late_ones_dropped", "a late behaviour is dropped", (behaviours, "append", _no_late_ones)),
    planted(
        "repeats_count",
        "an unnamed behaviour that is sent again counts again",
        (behaviours, "append", _each_counts),
        (Act, "digest", _DIGEST_OF_RECORD),
    ),
    planted("time_as_claimed", "a behaviour's time is what its sender claims", (behaviours, TIME, _as_claimed)),
    planted("sign_up_time_as_claimed", "a sign-up's time is what its sender claims", (way, TIME, _as_claimed)),
    planted(
        "last_of_batch_alone",
        "of a user's behaviours in a batch, the last is applied",
        (behaviours, "_appended", _last_alone),
        (behaviours, "_later", _last_alone_unread),
    ),
)
SIGN_UPS = (
    planted(
        "any_replaces",
        "any registration replaces any other",
        (AttributesVersion, "replaces", lambda self, stored: True),
    ),
    planted("equal_time_first", "of two of one time the first stays", (AttributesVersion, "replaces", _later_time)),
    planted(
        "equal_time_earlier",
        "of two of one time the earlier in the topic wins",
        (AttributesVersion, "replaces", _earlier_place),
    ),
    planted(
        "registrations_not_remembered",
        "a registration that comes again counts again",
        (AttributesVersion, "replaces", _without_digests),
    ),
    planted(
        "outdone_forgotten",
        "a registration that is outdone when it comes counts when it comes again",
        (AttributesVersion, "outdoing", lambda self, other: self),
    ),
    planted("sign_up_refusal_ignored", "a refused sign-up is announced", (SignUps, "_write", _announce_refused)),
    planted(
        "sign_ups_refused_lost",
        "of a user whose latest sign-up the store refused, the others are lost",
        (SignUps, "_read_and_written", _refused_given_up),
    ),
    planted(
        "outdone_with_a_copy",
        "what was chosen behind a copy that is known counts as known",
        (AttributesVersion, "outdoing", _with_its_others),
    ),
    planted("place_by_offset", "offsets of two partitions are compared", (Place, "is_later", _by_offset)),
    planted("first_of_batch", "of a user's sign-ups in a batch, the first wins", (way, "newest", _first_of_batch)),
    planted(
        "announce_first",
        "users are announced before they are written",
        (SignUps, "_write", _announce_then_write),
        (SignUps, "_new", _announce_then_write_new),
    ),
    planted("announce_made_alone", "who was written before is not announced", (SignUps, "_announce", _announce_made)),
    planted("announcement_lost", "an announcement that fails is given up", (SignUps, "_announce", _announce_once)),
    planted(
        "not_finite_stored", "what is not finite is stored", (way, "finite", lambda vectors: [True] * len(vectors))
    ),
    planted("not_finite_dropped", "what is not finite is no dead letter", (SignUps, "_enrich", _no_letters)),
    planted("filled_by_active", "the active tower fills the next slot", (SignUps, "_made", _made_by_active)),
    planted(
        "sign_ups_not_filled", "sign-ups get no virtual behaviour of what fills", (SignUps, "_filled", _none_filled)
    ),
    planted(
        "attributes_of_event",
        "virtual behaviour is made of an older registration",
        (KnownSignUp, "attributes", property(lambda self: self.sign_up.event.attributes)),
    ),
    planted(
        "old_virtual_kept",
        "a newer registration keeps the old virtual behaviour",
        (
            KnownSignUp,
            "needs_virtual",
            property(lambda self: self.generation.lacks(replace(self.stored, attributes={}))),
        ),
    ),
)
REENRICHMENT = (
    planted(
        "made_from_whichever",
        "a repair does not say what it was made from",
        (ReenrichedUser, "after", classmethod(_whichever)),
    ),
    planted("repair_no_later", "a repair is as of what was read", (ReenrichedUser, "after", classmethod(_not_later))),
    planted("none_lacks", "the second walk counts nobody", (Reenrichment, "_lacking", _none_lacks)),
    planted("nothing_fills", "the walk begins without filling", (Reenrichment, "_started", _started_without_filling)),
    planted(
        "walk_goes_on", "a walk goes on though filling ended meanwhile", (Reenrichment, "_started", _goes_on_anyway)
    ),
    planted("pages_of_active_alone", "pages of what fills are dropped", (Pages, "_fill", _of_active_alone)),
    planted("first_page_alone", "the walk ends behind its first page", (Reenrichment, "_walk", _first_page_alone)),
    planted("no_walk", "nobody is walked to", (Reenrichment, "run", _at_once_done)),
)
