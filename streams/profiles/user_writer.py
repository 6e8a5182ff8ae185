"""Users written to the online store as they once stood there: many at a time, and into an emptied one above all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.event_order import first_registration
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.running.durability import WholeUserStore
from foretaste.kernel.users import (
    BehavedUser,
    Behaviour,
    EnrichedUser,
    ReenrichedUser,
    Stage,
    UserFeatures,
    VirtualBehaviour,
)
from foretaste.kernel.values import MAX_BEHAVIOUR, PASSED_OVER, Attributes
from streams.behaviours import ROUNDS, append, with_passed_over
from streams.parts import SignUpParts
from streams.zero_shot import finite, virtual_behaviour

ANY_SLOT = 1
"""Read where no generation is active: nothing in it is looked at."""


@dataclass
class WrittenCounts:
    """How many users of a write came to what."""

    new: int = 0
    """Users of whom nothing was stored."""
    changed: int = 0
    """Users whose stored attributes gave way to newer ones."""
    kept: int = 0
    """Users whose stored attributes are as new, or newer."""
    non_finite: int = 0
    """Users without virtual behaviour, since what the tower made of their attributes is not finite."""

    def add(self, other: "WrittenCounts") -> None:
        """Count those of another write too."""
        self.new += other.new
        self.changed += other.changed
        self.kept += other.kept
        self.non_finite += other.non_finite


@dataclass
class WrittenUsers(WrittenCounts):
    """What a write came to."""

    standing: list[UserFeatures] = field(default_factory=list)
    """The users, each with the registration that stands now, new ones first; without attributes, who was erased."""


class UserWriter:
    """Writes users with their attributes and their registration, maybe with behaviour, and makes virtual behaviour.

    1. One call of the zero-shot tower makes virtual behaviour for those who are cold or warming for `generation`; with
       None, for nobody. What is not finite is left to a sign-up or a read repair.
    2. Those of whom nothing is stored are written whole, in one step that looks whether it is so (`WholeUserStore`).
    3. The others, and all of them on another store, are read. Newer attributes are written with the virtual behaviour
       made from them, by the store's own rule; for stored ones without virtual behaviour it is made and written. Of
       others the store hears what came before the stored ones.
    4. Behaviour is appended to what is stored, as `streams.behaviours` does with what has no `event_id`.

    Who was erased comes back by a later registration alone, as everywhere.

    Done again, it changes nothing. Raises `Unavailable` when a part is away.
    """

    def __init__(self, parts: SignUpParts) -> None:
        self._store = parts.store
        self._towers = parts.towers
        self._whole = parts.store if isinstance(parts.store, WholeUserStore) else None

    async def write(self, users: Sequence[UserFeatures], generation: Generation | None) -> WrittenUsers:
        """Steps 1 to 4 for users with attributes, each once."""
        made, non_finite = await self._enriched(users, generation)  # 1
        there = {user.user_id for user in made}
        if self._whole is not None:
            there = set(await self._whole.write_whole(made))  # 2
        new = [user for user in made if user.user_id not in there]
        found = WrittenUsers(len(new), non_finite=non_finite, standing=new)
        if there:
            await self._merge([user for user in made if user.user_id in there], generation, found)  # 3, 4
        return found

    async def _enriched(
        self, users: Sequence[UserFeatures], generation: Generation | None
    ) -> tuple[list[UserFeatures], int]:
        """The users with virtual behaviour, where they need it; and for how many it is not finite."""
        if generation is None:
            return list(users), 0
        needing = [user for user in users if generation.stage(len(user.behaviour.acts)) is not Stage.WARM]
        virtual = await self._virtual([user.attributes or {} for user in needing], generation)
        of_user = {user.user_id: found for user, found in zip(needing, virtual, strict=True) if found is not None}
        made = [user if (found := of_user.get(user.user_id)) is None else _with_virtual(user, found) for user in users]
        return made, len(needing) - len(of_user)

    async def _virtual(self, attributes: Sequence[Attributes], generation: Generation) -> list[VirtualBehaviour | None]:
        vectors = await virtual_behaviour(self._towers, attributes, generation)
        return [
            VirtualBehaviour(generation.number, each) if good else None
            for each, good in zip(vectors, finite(vectors), strict=True)
        ]

    async def _merge(self, users: Sequence[UserFeatures], generation: Generation | None, found: WrittenUsers) -> None:
        number = ANY_SLOT if generation is None else generation.number
        stored = await self._store.read([user.user_id for user in users], number)
        rows: list[EnrichedUser] = []
        earlier: list[str] = []
        replaced: dict[str, UserFeatures] = {}
        kept: list[UserFeatures] = []
        for user, there in zip(users, stored, strict=True):
            version = user.attributes_version
            if version.replaces(there.attributes_version) and not _is_stored(user, there):
                warm = generation is not None and generation.stage(len(there.behaviour.acts)) is Stage.WARM
                first_ms = first_registration(version.at_ms, user.first_ms, there.registered_ms)
                virtual = None if warm else user.virtual
                place, digests = version.place, version.digests
                rows.append(
                    EnrichedUser(user.user_id, user.attributes or {}, virtual, version.at_ms, place, digests, first_ms)
                )
                after = version.after(there.attributes_version)
                replaced[user.user_id] = replace(user, registrations=after.digests, first_ms=first_ms)
            elif (row := _earlier_row(user, there)) is not None:
                rows.append(row)
                earlier.append(user.user_id)
            else:
                kept.append(there)
        refused = set(await self._store.write_enriched(rows) if rows else ())
        if again := [*earlier, *(replaced.keys() & refused)]:  # of the latter others wrote since the read
            kept += await self._store.read(again, number)
        found.standing += [*(user for user_id, user in replaced.items() if user_id not in refused), *kept]
        await self._complete(kept, generation)
        await append_all(self._store, {user.user_id: user.behaviour for user in users if len(user.behaviour)})
        found.changed, found.kept = len(users) - len(kept), len(kept)

    async def _complete(self, stored: Sequence[UserFeatures], generation: Generation | None) -> None:
        """Virtual behaviour for stored users who lack it, made from the attributes that are stored."""
        lacking = [user for user in stored if generation is not None and generation.lacks(user)]
        if generation is None or not lacking:
            return
        virtual = await self._virtual([user.attributes or {} for user in lacking], generation)
        made = [
            ReenrichedUser.after(user, each) for user, each in zip(lacking, virtual, strict=True) if each is not None
        ]
        if made:
            await self._store.write_virtual(made)


async def append_all(store: OnlineStore, behaviours: Mapping[str, Behaviour]) -> int:
    """Append behaviours to what is stored of their users, but for those that are there, told by item, action and time;
    how many users had not all of them.

    Raises `Unavailable`, also for users whom others write for each time.
    """
    left, changed_users = list(behaviours), 0
    for _ in range(ROUNDS):
        stored = await store.read_behaviour(left)
        changed = [row for user in stored if (row := _appended(user, behaviours[user.user_id])) is not None]
        left = await store.write_behaviour(changed) if changed else []
        changed_users += len(changed) - len(left)
        if not left:
            return changed_users
    raise Unavailable("behaviours", f"others write for {len(left)} users at the same time")


def _appended(user: UserFeatures, more: Behaviour) -> BehavedUser | None:
    """The user's row with what is not there yet; None where nothing is, or all is older than a full behaviour or than
    the erasure of the user."""
    if user.erasure is not None:
        more = user.erasure.since(more) if user.erasure.is_over else Behaviour()
    acts = [row for row in more.rows if row[1] != PASSED_OVER]
    if not len(user.behaviour) and len(set(acts)) == len(acts) == len(more) <= MAX_BEHAVIOUR:
        return BehavedUser.after(user, more) if acts else None
    behaviour = user.behaviour
    for item, action, at_ms in acts:
        behaviour = append(behaviour, item, action, at_ms)
    passed_over = [(item, at_ms) for item, action, at_ms in more.rows if action == PASSED_OVER]
    behaviour = with_passed_over(behaviour, passed_over) if passed_over else behaviour
    return None if behaviour is user.behaviour else BehavedUser.after(user, behaviour)


def _earlier_row(user: UserFeatures, there: UserFeatures) -> EnrichedUser | None:
    """What the store is to refuse and to remember of a registration that does not replace the stored one: that the user
    registered before, and which registrations came before the same one. None where it knows."""
    is_known = bool(user.registrations) and user.registrations[-1] in there.registrations
    missing = tuple(digest for digest in user.registrations if digest not in there.registrations)
    first_ms = first_registration(there.registered_ms or 0, user.first_ms if is_known else user.registered_ms)
    if there.registered_ms is None or not (first_ms or (is_known and missing)):
        return None
    version = there.attributes_version if is_known else user.attributes_version
    place = None if there.attributes_place is None else version.place
    return EnrichedUser(user.user_id, user.attributes or {}, None, version.at_ms, place, missing, first_ms)


def _is_stored(user: UserFeatures, there: UserFeatures) -> bool:
    """Whether a store that keeps times alone (`FeastStore`) holds this registration: any place is later than none."""
    placeless = there.attributes_place is None and not there.registrations
    return placeless and there.attributes_ms == user.attributes_ms and there.attributes == user.attributes


def _with_virtual(user: UserFeatures, virtual: VirtualBehaviour) -> UserFeatures:
    """As a sign-up writes it: of the same time as the attributes. `dataclasses.replace` takes twice as long."""
    return UserFeatures(
        user.user_id,
        user.attributes,
        user.behaviour,
        virtual=virtual,
        attributes_ms=user.attributes_ms,
        virtual_ms=user.attributes_ms,
        attributes_place=user.attributes_place,
        first_ms=user.first_ms,
        registrations=user.registrations,
        applied=user.applied,
    )
