"""What a new user's answers to questions about items tell of taste: from the prior to the posterior, in one step.

A question is whether the user likes an item. With a taste u ~ N(0, I) in T directions, and how much the user does
altogether a ~ N(0, `ACTIVITY`), the log-odds of a yes are b(q) + a + k(q) · u. One Newton step from the prior over a
user's answers x gives, with p = σ(b), the rows K of (k, 1) and D = diag(1, …, 1, 1 / `ACTIVITY`),

    (û, â) = (D + Kᵀ diag(p (1 - p)) K)⁻¹ Kᵀ (x - p).

û has its place among the numbers of virtual behaviour that attributes leave at zero, so that whatever reads that reads
the answers; â moves nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import ANSWERS, FloatArray, IndexArray
from models.runtime.acts import ActPosterior

ACTIVITY = 0.5
"""Variance of how much a user does, in log-odds."""


@dataclass(frozen=True, eq=False)
class AnswerPosterior:
    """The questions of a generation, in the order in which they are asked, and what answers to them tell.

    `items` (Q) are ids, `keys` (Q, T) are k, `log_odds` (Q,) are b, and `columns` (T,) the places of û among the M · D
    numbers of virtual behaviour.
    """

    items: tuple[str, ...]
    keys: FloatArray
    log_odds: FloatArray
    columns: IndexArray

    def added(self, virtual: FloatArray, behaviours: Sequence[Behaviour]) -> FloatArray:
        """Virtual behaviour (U, M, D), with what the answers among each user's behaviour tell in it."""
        flat = virtual.reshape(len(virtual), -1)
        if not self.items or flat.shape[1] <= self.columns.max():  # another shape than the generation's is refused
            return virtual
        answered = {row: own for row, behaviour in enumerate(behaviours) if (own := self.answers(behaviour))}
        if not answered:
            return virtual
        found = flat.copy()
        for row, own in answered.items():
            found[row, self.columns] += self.taste(own)
        return found.reshape(virtual.shape)

    def answers(self, behaviour: Behaviour) -> dict[int, bool]:
        """Whether it was a yes, by the place of the question; of several answers to one, the newest."""
        if ANSWERS.keys().isdisjoint(behaviour.actions):
            return {}
        given = zip(behaviour.items, behaviour.actions, strict=True)
        places = self._places
        return {places[item]: ANSWERS[action] for item, action in given if action in ANSWERS and item in places}

    def taste(self, answers: Mapping[int, bool]) -> FloatArray:
        """û (T,) of answers by the places of their questions."""
        asked = list(answers)
        keys = np.hstack([self.keys[asked], np.ones((len(asked), 1))]).astype(np.float64)
        rates = 1 / (1 + np.exp(-self.log_odds[asked].astype(np.float64)))
        prior = np.diag([*np.ones(keys.shape[1] - 1), 1 / ACTIVITY])
        precision = prior + (keys.T * (rates * (1 - rates))) @ keys
        found: FloatArray = np.linalg.solve(precision, keys.T @ (np.array(list(answers.values())) - rates))[:-1]
        return found.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """As a part of an encoding's JSON."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {name: list(value) if name == "items" else value.tolist() for name, value in values.items()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any] | None) -> "AnswerPosterior":
        """What `to_dict` gave; None is that of a generation that asks nothing."""
        if raw is None:
            return cls((), np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
        keys, log_odds = (np.array(raw[name], dtype=np.float32) for name in ("keys", "log_odds"))
        return cls(tuple(raw["items"]), keys, log_odds, np.array(raw["columns"], dtype=np.int64))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {item: place for place, item in enumerate(self.items)}


@dataclass(frozen=True, eq=False, slots=True)
class AskedItems:
    """What a generation asks, the keys of all items, (item_count, T), as the ranking tower reads them beside its own,
    and how acts move taste along them; None in a generation of an earlier version."""

    posterior: AnswerPosterior
    keys: FloatArray
    acts: ActPosterior | None

    def weighted(self, weight: float) -> "AskedItems":
        """With answers that count so much; acts count as before, or less where answers count less than 1."""
        acts = None if self.acts is None else self.acts.of_keys_times(weight)
        return AskedItems(self.posterior, weight * self.keys, acts)

    def grown(self, item_count: int, columns: IndexArray) -> "AskedItems":
        """For so many items, of those that came since nothing being known, and for virtual behaviour with other places
        for û, the first of `columns`."""
        posterior = replace(self.posterior, columns=columns[: self.keys.shape[1]])
        return replace(self, posterior=posterior, keys=np.pad(self.keys, ((0, item_count - len(self.keys)), (0, 0))))

    def write(self, path: Path) -> None:
        """All but the questions, which are in the encoding."""
        acts = {} if self.acts is None else self.acts._asdict()
        with path.open("wb") as file:
            np.savez(file, keys=self.keys, **acts)

    @classmethod
    def read(cls, path: Path, posterior: AnswerPosterior) -> "AskedItems":
        """What `write` wrote of these questions."""
        with np.load(path, allow_pickle=False) as stored:
            acts = ActPosterior(stored["steps"], stored["spread"]) if "steps" in stored else None
            return cls(posterior, stored["keys"], acts)
