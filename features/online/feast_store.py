"""The online store through Feast's public API alone: any store that `feature_store.yaml` can name."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

from features.feast_api import RepoConfig
from features.online.applied_view import COLUMNS as APPLIED_COLUMNS
from features.online.applied_view import VIEW as APPLIED_VIEW
from features.online.applied_view import AppliedRow, write_applied, write_erased
from features.online.damage import DamageLog
from features.online.directory import VIEW as DIRECTORY_VIEW
from features.online.directory import UserDirectory
from features.online.event_marks import behaved
from features.online.feast_client import USER_KEY, FeastClient, FeastSteps
from features.online.feast_erasing import StoredErasure
from features.online.layout import (
    ATTRIBUTES_VIEW,
    BEHAVIOUR_VIEW,
    Column,
    Raw,
    attributes_json,
    columns_of,
    features_of,
    is_damaged,
    read_columns,
    readable_nanos,
    version_stored,
)
from features.online.view_rows import (
    EMPTY_TEXT,
    ENRICHED_COLUMNS,
    FIRST_COLUMNS,
    FIRST_VIEW,
    ViewRow,
    behaviour_view_row,
    first_ms_of,
    first_row,
    has_text,
    stored_first_of,
)
from foretaste.kernel.event_order import AppliedEvents, AttributesVersion
from foretaste.kernel.generations import SLOTS, slot
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, EnrichedUser, Erasure, ReenrichedUser, UserFeatures, VirtualBehaviour

_TEXT: tuple[Column, ...] = ((ATTRIBUTES_VIEW, "attributes"),)


class _Due(NamedTuple):
    """A registration beside what is stored of its user."""

    user: EnrichedUser
    replaces: bool
    """It takes the place of the stored attributes, or these cannot be read."""
    known: bool
    """The user has attributes."""
    at_us: int
    """Event time of the stored attributes, microseconds since the epoch."""
    slots_us: tuple[int, int]
    """Of what both slots hold."""
    first_ms: int
    """When the user registered first, once this is written; epoch milliseconds."""
    stored_first: tuple[int, int]
    """What is stored of it, and its event time in microseconds."""

    @classmethod
    def of(cls, user: EnrichedUser, values: Sequence[Raw]) -> "_Due":
        """From the values of `ENRICHED_COLUMNS` and of `APPLIED_COLUMNS`."""
        text, at, _, even_at, _, odd_at, *first, first_at = values[: len(ENRICHED_COLUMNS)]
        marks = values[len(ENRICHED_COLUMNS) :]
        at_us, even_us, odd_us = (readable_nanos(each) // 1000 for each in (at, even_at, odd_at))
        damaged = is_damaged(ATTRIBUTES_VIEW, (text, at))
        known = not damaged and has_text(text)
        erased_ms = AppliedRow.of(marks, 0).erased_ms
        if erased_ms is not None and user.at_ms <= erased_ms:
            replaces = False
        else:
            is_gone = erased_ms is not None and not known
            replaces = damaged or is_gone or user.version.replaces(AttributesVersion(at_us // 1000))
        stored_ms = first_ms = stored_first_of(first)
        if replaces or known:  # what was before an erasure counts for none
            held_ms = stored_ms or (at_us // 1000 if known else 0)
            times_ms = (held_ms, user.first_ms or user.at_ms, user.at_ms if replaces else 0)
            first_ms = min((each for each in times_ms if each > (erased_ms or 0)), default=stored_ms)
        stored_first = stored_ms, readable_nanos(first_at) // 1000
        return cls(user, replaces, known, at_us, (even_us, odd_us), first_ms, stored_first)

    @property
    def first_row(self) -> ViewRow | None:
        """None where it is stored so."""
        stored_ms, stored_us = self.stored_first
        if self.first_ms == stored_ms:
            return None
        return first_row(self.user.user_id, self.first_ms, stored_us, self.user.at_ms * 1000)

    @property
    def attributes_row(self) -> ViewRow:
        """A little newer than the stored row, since some stores drop what is not."""
        at_us = max(self.user.at_ms * 1000, self.at_us + 1)
        return ViewRow(self.user.user_id, at_us, (attributes_json(self.user.attributes).decode(),))


class FeastStore:
    """Features of users in any online store of Feast's, several times as slow as `RedisStore` on Redis.

    Feast's API has no compare-and-set, no list of keys and no columns beside a view's, and some stores keep event times
    in whole seconds: the port says which promises are weaker for that. Each write reads first, drops what is no newer,
    and writes the rest (see `FeastSteps`). Users who get attributes for the first time are put into the directory just
    before, so that none has attributes and is missing from it. `timeout` (seconds) bounds a whole call. Belongs to the
    event loop of its first use.
    """

    def __init__(
        self, config: RepoConfig, *, timeout: float = 2.0, now: Clock = time.time, clock: Clock = time.monotonic
    ) -> None:
        self._client = FeastClient(config, DIRECTORY_VIEW, APPLIED_VIEW, FIRST_VIEW)
        self._directory = UserDirectory(self._client, now)
        self._timeout = timeout
        self._clock = clock
        self._damage = DamageLog()

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        async with self._client.answered_within(self._timeout):
            rows = await self._client.read((*read_columns(generation), *FIRST_COLUMNS), USER_KEY, user_ids)
        features = [_features_of(user, generation, values) for user, values in zip(user_ids, rows, strict=True)]
        self._damage.note(features)
        return features

    async def read_behaviour(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        columns = (*columns_of(BEHAVIOUR_VIEW), *APPLIED_COLUMNS)
        async with self._client.answered_within(self._timeout):
            rows = await self._client.read(columns, USER_KEY, user_ids)
        features = []
        for user_id, values in zip(user_ids, rows, strict=True):
            own, marks = values[: -len(APPLIED_COLUMNS)], values[-len(APPLIED_COLUMNS) :]
            read = behaved(user_id, own, None)
            row = AppliedRow.of(marks, read.behaviour_version)
            erasure = None if row.erased_ms is None else Erasure(row.erased_ms)
            applied = AppliedEvents() if read.damaged else row.applied
            features.append(replace(read, applied=applied, erasure=erasure))
        self._damage.note(features)
        return await self._registered_anew(features)

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
        """Attributes first: a reader in between repairs the virtual behaviour, and the write after it says the same."""
        newest: dict[str, EnrichedUser] = {}
        for user in users:
            held = newest.get(user.user_id)
            if held is None or user.version.replaces(held.version):
                newest[user.user_id] = user
        async with self._steps() as steps:
            stored = await steps.read((*ENRICHED_COLUMNS, *APPLIED_COLUMNS), list(newest))
            due = [_Due.of(user, values) for user, values in zip(newest.values(), stored, strict=True)]
            replacing = [each for each in due if each.replaces]
            async with steps.step():
                await self._directory.add([each.user.user_id for each in replacing if not each.known])
            await _write(steps, FIRST_VIEW, [each.first_row for each in due])
            await _write(steps, ATTRIBUTES_VIEW, [each.attributes_row for each in replacing])
            for place, view in enumerate(SLOTS):
                await _write(steps, view, [_slot_row(each.user, view, each.slots_us[place]) for each in replacing])
        return [each.user.user_id for each in due if not each.replaces]

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> list[str]:
        of_slot: defaultdict[str, list[ReenrichedUser]] = defaultdict(list)
        for user in users:
            of_slot[slot(user.virtual.generation)].append(user)
        refused: list[str] = []
        async with self._steps() as steps:
            for view, rows in of_slot.items():
                due = await _due(steps, view, rows)
                await _write(steps, view, due)
                taken = {row.user_id for row in due}
                refused += [user for user in dict.fromkeys(row.user_id for row in rows) if user not in taken]
        return refused

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        """As the port says, in two steps: one read of what is stored, and one write of those that are not refused."""
        first = {user.user_id: user for user in reversed(users)}
        columns = (*columns_of(BEHAVIOUR_VIEW), *APPLIED_COLUMNS)
        async with self._steps() as steps:
            stored = await steps.read(columns, list(first))
            current: dict[str, AppliedRow] = {}
            for user, (_, _, _, version, at, *marks) in zip(first.values(), stored, strict=True):
                if version_stored(version, at) == (user.read_version, user.read_us):
                    current[user.user_id] = AppliedRow.of(marks, user.read_version)
            taken = [user for user in users if user.user_id in current and user is first[user.user_id]]
            await write_applied(steps, [(user, current[user.user_id]) for user in taken])
            await _write(steps, BEHAVIOUR_VIEW, [behaviour_view_row(user) for user in taken])
        return [user.user_id for user in users if user.user_id not in current or user is not first[user.user_id]]

    async def erase(self, users: Sequence[ErasedUser]) -> list[str]:
        """As the port says: the fence is written first, then empty values in place of what is stored."""
        columns = (*ENRICHED_COLUMNS, *columns_of(BEHAVIOUR_VIEW), *APPLIED_COLUMNS)
        async with self._steps() as steps:
            stored = await steps.read(columns, [user.user_id for user in users])
            found = [StoredErasure.of(user, values) for user, values in zip(users, stored, strict=True)]
            await write_erased(steps, [(each.behaved, each.at_ms, each.marks) for each in found if not each.known])
            await _write(steps, FIRST_VIEW, [each.first_row for each in found])
            await _write(steps, BEHAVIOUR_VIEW, [each.behaviour_row for each in found])
            await _write(steps, ATTRIBUTES_VIEW, [each.attributes_row for each in found])
            for place, view in enumerate(SLOTS):
                await _write(steps, view, [each.slot_row(place) for each in found])
        return [each.user.user_id for each in found if each.anew]

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        """As the port says, page by page of the directory."""
        async with self._client.answered_within(self._timeout):
            users, after = await self._directory.walk(cursor, count)
            texts = await self._client.read(_TEXT, USER_KEY, users)
        # an erased user's id stays in the directory
        return [user for user, (text,) in zip(users, texts, strict=True) if text != EMPTY_TEXT], after

    async def close(self) -> None:
        await self._client.close()

    async def _registered_anew(self, features: Sequence[UserFeatures]) -> list[UserFeatures]:
        """The same, told of those who were erased whether they are back."""
        erased = [user.user_id for user in features if user.erasure is not None]
        if not erased:
            return list(features)
        async with self._client.answered_within(self._timeout):
            texts = await self._client.read(_TEXT, USER_KEY, erased)
        back = {user for user, (text,) in zip(erased, texts, strict=True) if has_text(text)}
        return [
            user if user.erasure is None else replace(user, erasure=replace(user.erasure, is_over=user.user_id in back))
            for user in features
        ]

    @asynccontextmanager
    async def _steps(self) -> AsyncIterator[FeastSteps]:
        """For one call that writes."""
        async with self._client.answered_within(self._timeout):
            yield FeastSteps(self._client, self._clock)


async def _due(steps: FeastSteps, view: str, users: Sequence[ReenrichedUser]) -> list[ViewRow]:
    """Rows of a slot that are newer than what is stored, and made from the attributes that are stored by now.

    What cannot be read counts as never written; the row that replaces it is a little newer, since some stores drop
    what is not.
    """
    newest: dict[str, ReenrichedUser] = {}
    for user in users:
        held = newest.get(user.user_id)
        if held is None or user.at_ms > held.at_ms:
            newest[user.user_id] = user
    columns = (*columns_of(ATTRIBUTES_VIEW), *columns_of(view))
    stored = await steps.read(columns, list(newest))
    due: list[ViewRow] = []
    for user, (text, attributes_time, *values) in zip(newest.values(), stored, strict=True):
        if text == EMPTY_TEXT:
            continue  # erased
        if user.made_from is not None and user.made_from.at_ms != readable_nanos(attributes_time) // 1_000_000:
            continue
        at_us, slot_us = user.at_ms * 1000, readable_nanos(values[-1]) // 1000
        if is_damaged(view, values):
            at_us = max(at_us, slot_us + 1)
        if at_us > slot_us:
            due.append(ViewRow(user.user_id, at_us, _virtual_values(user.virtual)))
    return due


async def _write(steps: FeastSteps, view: str, rows: Sequence[ViewRow | None]) -> None:
    """Those of the rows that are to be written."""
    written = [row for row in rows if row is not None]
    of_view = FIRST_COLUMNS if view == FIRST_VIEW else columns_of(view)
    names = [feature for _, feature in of_view if feature is not None]
    columns: dict[str, Sequence[object]] = {USER_KEY: [row.user_id for row in written]}
    columns |= {name: [row.values[place] for row in written] for place, name in enumerate(names)}
    await steps.write(view, columns, [row.at_us for row in written])


def _features_of(user_id: str, generation: int, values: Sequence[Raw]) -> UserFeatures:
    """From the values of `read_columns(generation)` and of `FIRST_COLUMNS`."""
    own, first = values[: -len(FIRST_COLUMNS)], values[-len(FIRST_COLUMNS) :]
    read = features_of(user_id, generation, own)
    first_ms = first_ms_of(first, read.attributes_ms)
    return replace(read, first_ms=first_ms) if first_ms else read


def _virtual_values(virtual: VirtualBehaviour) -> tuple[object, ...]:
    return virtual.vectors.ravel().tolist(), virtual.vectors.shape[1], virtual.generation


def _slot_row(user: EnrichedUser, view: str, stored_us: int) -> ViewRow | None:
    """What is written to a slot with the user's attributes: the virtual behaviour made from them, or an empty row in
    the place of one that would pass for it by its time; None where the slot stays as it is."""
    at_us = max(user.at_ms * 1000, stored_us + 1)
    if user.virtual is not None and slot(user.virtual.generation) == view:
        return ViewRow(user.user_id, at_us, _virtual_values(user.virtual))
    return ViewRow(user.user_id, at_us, ([], 0, 0)) if stored_us >= user.at_ms * 1000 else None
