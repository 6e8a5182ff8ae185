"""Raw values to indices, the same in training and in serving: who asks the towers encodes, the towers read indices."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import (
    MAX_BEHAVIOUR,
    MAX_PASSED_OVER,
    MISSING_ACTION,
    Attributes,
    FloatArray,
    IndexArray,
    canonical,
    is_missing,
)
from models.runtime.account_age import AgeBounds, bins_of_ages
from models.runtime.answers import AnswerPosterior
from models.runtime.fields import FieldEncoder, encoder_from_dict
from models.runtime.fields.base import FIELD_UNKNOWN
from models.runtime.new_items import NewItems, encoded_kinds, nearest_kinds

__all__ = ["FIELD_UNKNOWN", "FIRST_KNOWN", "PADDING", "UNKNOWN", "Encoding", "FieldEncoder", "IndexArray"]

PADDING, UNKNOWN = 0, 1
"""Of items and actions; known ones count from 2."""
FIRST_KNOWN = 2
NO_KINDS: IndexArray = np.zeros((0, 0), dtype=np.int64)
"""Of an encoding in training, and of generations of earlier versions."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """All vocabularies of a generation. The order of the mappings is the order of the columns, one or more a field.

    `items[i]` and `actions[i]` have the index i + 2. `item_features` (items + 2, F) holds the field indices of each
    item by its index; the rows of `PADDING` and `UNKNOWN` are `FIELD_UNKNOWN`.
    """

    attributes: Mapping[str, FieldEncoder]
    context: Mapping[str, FieldEncoder]
    item_attributes: Mapping[str, FieldEncoder]
    items: tuple[str, ...]
    actions: tuple[str, ...]
    item_features: IndexArray
    age_bounds: AgeBounds = ()
    """Of account ages (`models.runtime.account_age`); none where the towers read no age."""
    kinds: IndexArray = dataclasses.field(default_factory=lambda: NO_KINDS)
    """(K, F) the field indices of each kind of item; the kind `kinds[k]` has the index items + 2 + k. None while
    training: what a generation serves has rows of them (`models.training.item_kinds`)."""
    new_items: NewItems = dataclasses.field(default_factory=NewItems)
    """Items that were registered since, which `add_items` takes in."""
    questions: AnswerPosterior = dataclasses.field(default_factory=lambda: AnswerPosterior.from_dict(None))
    """What new users are asked (`models.training.questions`); nothing while training."""
    reads_passed_over: bool = False
    """Whether towers and index read what a user was shown and did not choose; never while training."""

    @property
    def item_count(self) -> int:
        """Rows of the item embedding table."""
        return self.first_kind + len(self.kinds)

    @property
    def first_kind(self) -> int:
        """The index of the first kind of item: that of any item is below it."""
        return len(self.items) + FIRST_KNOWN

    @property
    def features_by_index(self) -> IndexArray:
        """(item_count, F): `item_features`, and those of the kinds behind them."""
        return np.concatenate([self.item_features, self.kinds]) if len(self.kinds) else self.item_features

    def with_kinds(self, kinds: IndexArray) -> "Encoding":
        """With these kinds of items (K, F), and no new item yet; none of them is as training has it."""
        return replace(self, kinds=kinds, new_items=NewItems())

    def with_questions(self, questions: AnswerPosterior, *, reads_passed_over: bool = False) -> "Encoding":
        """With these questions to new users."""
        return replace(self, questions=questions, reads_passed_over=reads_passed_over)

    def as_training_has_it(self) -> "Encoding":
        """Without what a generation gets when it is exported: kinds of items, questions, and what was passed over."""
        return self.with_kinds(NO_KINDS).with_questions(AnswerPosterior.from_dict(None))

    def virtual_of(self, requests: Sequence[RankingInput | CandidateRequest]) -> FloatArray:
        """Virtual behaviour (U, M, D) of U users as towers and index read it: their answers to questions are in it."""
        virtual = np.stack([request.virtual for request in requests]).astype(np.float32, copy=False)
        return self.questions.added(virtual, [request.behaviour for request in requests])

    def add_items(self, items: Mapping[str, Attributes | None]) -> None:
        """Take in items that were registered, with their raw attributes: one that training did not know is read as the
        kind with most values in common; None takes one out. Nothing where there are no kinds, as of an earlier version.
        """
        self.new_items.remove(item for item, own in items.items() if own is None)
        known = self._item_index if len(self.kinds) else items
        rows = {item: own for item, own in items.items() if own is not None and item not in known}
        if rows:
            new, features = list(rows), _encode(columns_of(self.item_attributes), list(rows.values()))
            self.new_items.put(new, self.first_kind + nearest_kinds(features, self.kinds), features)

    @property
    def action_count(self) -> int:
        """Rows of the action embedding table."""
        return len(self.actions) + FIRST_KNOWN

    @cached_property
    def _attribute_columns(self) -> "list[FieldColumns]":
        return columns_of(self.attributes)

    @cached_property
    def _context_columns(self) -> "list[FieldColumns]":
        return columns_of(self.context)

    @cached_property
    def _item_index(self) -> dict[str, int]:
        return {item: position for position, item in enumerate(self.items, start=FIRST_KNOWN)}

    @cached_property
    def _action_index(self) -> dict[str, int]:
        """By the action as it was learned, and by its canonical text: 5, "5.0" and "5" are one action, as in data."""
        index = {action: position for position, action in enumerate(self.actions, start=FIRST_KNOWN)}
        for action, position in tuple(index.items()):
            index.setdefault(canonical(action) or action, position)
        return index

    def encode_attributes(self, rows: Sequence[Attributes]) -> IndexArray:
        """B users' raw attributes to (B, N). Names that training did not know are ignored, missing ones are unknown."""
        return _encode(self._attribute_columns, rows)

    def unknown_values(self, rows: Sequence[Attributes], encoded: IndexArray | None = None) -> dict[str, int]:
        """By attribute, how many of B users have a value that training did not know; a missing one is none.

        `encoded` is what `encode_attributes` made of them, where that is known.
        """
        indices = self.encode_attributes(rows) if encoded is None else encoded
        found: dict[str, int] = {}
        for name, field, columns in self._attribute_columns:
            places = np.flatnonzero(field.unknown(indices[:, columns])).tolist()
            count = sum(not is_missing(rows[place].get(name)) for place in places)
            if count:
                found[name] = count
        return found

    def encode_context(self, rows: Sequence[Attributes]) -> IndexArray:
        """B raw contexts to (B, C), possibly of no columns."""
        return _encode(self._context_columns, rows)

    def encode_items(self, ids: Sequence[str]) -> IndexArray:
        """(K,) item ids to indices; what training did not know is its kind where it was registered, else `UNKNOWN`."""
        find, new = self._item_index.get, self.new_items.get
        return np.array([find(item) or new(item, UNKNOWN) for item in ids], dtype=np.int64)

    def unknown_items(self, ids: Sequence[str]) -> list[str]:
        """Those that training did not know, and that were not registered since."""
        index, new = self._item_index, self.new_items
        return [item for item in ids if item not in index and item not in new]

    def encode_actions(self, actions: Sequence[str]) -> IndexArray:
        """(K,) actions to indices; what training did not know is `UNKNOWN`."""
        find = self._action_index.get
        found = [find(action) or find(canonical(action) or MISSING_ACTION, UNKNOWN) for action in actions]
        return np.array(found, dtype=np.int64)

    def encode_behaviour(self, items: Sequence[str], actions: Sequence[str]) -> tuple[IndexArray, IndexArray]:
        """One user's behaviour, newest last, to two (L,) arrays: the newest L, oldest first, then `PADDING`."""
        padded = np.full((2, MAX_BEHAVIOUR), PADDING, dtype=np.int64)
        newest = self.encode_items(items[-MAX_BEHAVIOUR:]), self.encode_actions(actions[-MAX_BEHAVIOUR:])
        padded[0, : len(newest[0])] = newest[0]
        padded[1, : len(newest[1])] = newest[1]
        return padded[0], padded[1]

    def encode_users(self, requests: Sequence[RankingInput]) -> IndexArray:
        """What the ranking tower reads of U users beside their virtual behaviour: (U, W).

        The columns are those of `encode_attributes` (N), of `encode_context` (C), of both halves of `encode_behaviour`
        (L each) of the acts, the bin of the account's age where the towers read it, and `encode_passed_over` (P).
        """
        of_attributes, of_context = _width(self._attribute_columns), _width(self._context_columns)
        start = of_attributes + of_context
        end = start + 2 * MAX_BEHAVIOUR
        passed_over = self.encode_passed_over([request.behaviour for request in requests])
        width = end + bool(self.age_bounds) + passed_over.shape[1]
        users = np.full((len(requests), width), PADDING, dtype=np.int64)
        if self.age_bounds:
            users[:, end] = self.encode_ages([request.age_ms for request in requests])
        users[:, :of_attributes] = self.encode_attributes([request.attributes for request in requests])
        users[:, of_attributes:start] = self.encode_context([request.context for request in requests])
        for row, request in zip(users, requests, strict=True):
            behaviour = request.behaviour.acts
            if behaviour.items:
                row[start : start + MAX_BEHAVIOUR], row[start + MAX_BEHAVIOUR : end] = self.encode_behaviour(
                    behaviour.items, behaviour.actions
                )
        users[:, width - passed_over.shape[1] :] = passed_over
        return users

    def encode_passed_over(self, behaviours: Sequence[Behaviour]) -> IndexArray:
        """(U, P) what each user passed over, then `PADDING`; P is 0 where that is not read, else `MAX_PASSED_OVER`."""
        found = np.full((len(behaviours), MAX_PASSED_OVER * self.reads_passed_over), PADDING, dtype=np.int64)
        if self.reads_passed_over:
            for row, behaviour in zip(found, behaviours, strict=True):
                if own := behaviour.passed_over:
                    row[: len(own)] = self.encode_items(own)
        return found

    def encode_ages(self, ages_ms: Sequence[int | None]) -> IndexArray:
        """(U,) the bins of account ages in milliseconds, None for one that is not known."""
        return bins_of_ages(ages_ms, self.age_bounds)

    def to_json(self) -> str:
        """Everything, as text; `from_json` gives the same encoding back, whose text is the same."""
        return json.dumps(
            {
                "attributes": {name: field.to_dict() for name, field in self.attributes.items()},
                "context": {name: field.to_dict() for name, field in self.context.items()},
                "item_attributes": {name: field.to_dict() for name, field in self.item_attributes.items()},
                "items": list(self.items),
                "actions": list(self.actions),
                "item_features": self.item_features.tolist(),
                **({"age_bounds": list(self.age_bounds)} if self.age_bounds else {}),
                **({"kinds": self.kinds.tolist()} if len(self.kinds) else {}),
                **({"questions": self.questions.to_dict()} if self.questions.items else {}),
                **({"reads_passed_over": True} if self.reads_passed_over else {}),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Encoding":
        """The encoding that `to_json` wrote."""
        raw = json.loads(text)
        item_attributes = _fields(raw["item_attributes"])
        shape = (len(raw["items"]) + FIRST_KNOWN, len(sizes_of(item_attributes)))
        return cls(
            attributes=_fields(raw["attributes"]),
            context=_fields(raw["context"]),
            item_attributes=item_attributes,
            items=tuple(raw["items"]),
            actions=tuple(raw["actions"]),
            item_features=np.array(raw["item_features"], dtype=np.int64).reshape(shape),
            age_bounds=tuple(raw.get("age_bounds", ())),
            kinds=encoded_kinds(raw, shape[1]),
            questions=AnswerPosterior.from_dict(raw.get("questions")),
            reads_passed_over=raw.get("reads_passed_over", False),
        )


def sizes_of(fields: Mapping[str, FieldEncoder]) -> tuple[int, ...]:
    """How many indices each column has, of all fields one after the other."""
    return tuple(size for field in fields.values() for size in field.sizes)


class FieldColumns(NamedTuple):
    """A field by its name, and which columns are its own."""

    name: str
    field: FieldEncoder
    columns: slice


def columns_of(fields: Mapping[str, FieldEncoder]) -> list[FieldColumns]:
    """The columns of each field, one after the other."""
    ends = np.cumsum([0, *(len(field.sizes) for field in fields.values())]).tolist()
    pairs = zip(fields.items(), pairwise(ends), strict=True)
    return [FieldColumns(name, field, slice(start, end)) for (name, field), (start, end) in pairs]


def _width(fields: Sequence[FieldColumns]) -> int:
    return fields[-1].columns.stop if fields else 0


def _encode(fields: Sequence[FieldColumns], rows: Sequence[Attributes]) -> IndexArray:
    encoded = np.empty((len(rows), _width(fields)), dtype=np.int64)
    for name, field, columns in fields:
        encoded[:, columns] = field.encode([row.get(name) for row in rows])
    return encoded


def _fields(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, FieldEncoder]:
    return {name: encoder_from_dict(field) for name, field in stored.items()}
