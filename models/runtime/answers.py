"""What a new user's answers to questions about items tell of taste: from the prior to the posterior, in one step.

A question is whether the user likes an item. With a taste u ~ N(0, I) in T directions, and how much the user does
altogether a ~ N(0, `ACTIVITY`), the log-odds of a yes are b(q) + a + k(q) · u. One Newton step from the prior over the
answers x of a user gives, with p = σ(b) and V = diag(1 / (p (1 - p))) of what was asked,

    û = Kᵀ (K Kᵀ + `ACTIVITY` 1 1ᵀ + V)⁻¹ V (x - p)

for the rows K of k. Its place is among the numbers of the virtual behaviour that attributes leave at zero, so that
whoever reads that reads the answers. Copied into Triton's environment: NumPy and the standard library alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foretaste.kernel.values import ANSWERED, Attributes, FloatArray, IndexArray, Value, canonical, is_several

ANSWERS = 16
"""A, answers of a user that are read, those that were given last."""
ACTIVITY = 0.5
"""Variance of how much a user does, in log-odds."""


@dataclass(frozen=True, eq=False, slots=True)
class AnswerPosterior:
    """Questions of a generation, in the order in which they are asked.

    `keys` (Q, T) are k, `log_odds` (Q,) b, `columns` (T,) the places of û among the M · D numbers of virtual behaviour.
    """

    keys: FloatArray
    log_odds: FloatArray
    columns: IndexArray

    @property
    def asks(self) -> bool:
        """Whether there is any question."""
        return len(self.keys) > 0

    def knows(self, answers: IndexArray) -> bool:
        """Whether all answers (B, A) are to questions that are asked."""
        return bool(((answers >= 0) & (answers <= 2 * len(self.keys))).all())

    def added(self, virtual: FloatArray, answers: IndexArray) -> FloatArray:
        """Virtual behaviour (B, M, D), with what `encode_answers` (B, A) tell in it."""
        asked = np.flatnonzero(answers.any(axis=1))
        if not len(asked):
            return virtual
        found = virtual.reshape(len(virtual), -1).copy()
        found[asked[:, None], self.columns] += self.taste(answers[asked])
        return found.reshape(virtual.shape)

    def taste(self, answers: IndexArray) -> FloatArray:
        """û (B, T) of answers (B, A)."""
        given = answers > 0
        place = np.where(given, (answers - 1) // 2, 0)
        rates = 1 / (1 + np.exp(-self.log_odds[place].astype(np.float64)))
        variances = np.where(given, 1 / (rates * (1 - rates)), 1.0)
        residuals = np.where(given, ((answers - 1) % 2 - rates) * variances, 0.0)
        keys = self.keys[place] * given[:, :, None]
        noise = ACTIVITY * (given[:, :, None] & given[:, None, :]) + variances[:, :, None] * np.eye(answers.shape[1])
        weights = np.linalg.solve(keys @ keys.transpose(0, 2, 1) + noise, residuals[:, :, None])
        found: FloatArray = (weights * keys).sum(axis=1).astype(np.float32)
        return found

    @classmethod
    def nothing(cls) -> "AnswerPosterior":
        """Of a generation that asks nothing."""
        return cls(np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @classmethod
    def read(cls, path: Path) -> "AnswerPosterior":
        """Of `questions.npz`; where there is no such file, that of a generation that asks nothing."""
        if not path.is_file():
            return cls.nothing()
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["keys"], arrays["log_odds"], arrays["columns"])


def encode_answers(questions: Mapping[str, int], rows: Sequence[Attributes]) -> IndexArray:
    """The answers among B users' raw attributes, (B, A): 0 for none, 1 + 2 × the question's place for no, one more for
    yes. What is no question of the generation is left out; of an item in both lists, yes counts."""
    encoded = np.zeros((len(rows), ANSWERS), dtype=np.int64)
    for row, attributes in zip(encoded, rows, strict=True):
        found: dict[int, int] = {}
        for is_yes, name in enumerate(ANSWERED):
            for place in _places(questions, attributes.get(name)):
                found.pop(place, None)
                found[place] = 1 + 2 * place + is_yes
        newest = list(found.values())[-ANSWERS:]
        row[: len(newest)] = newest
    return encoded


def _places(questions: Mapping[str, int], named: Value) -> list[int]:
    items = named if is_several(named) else [named]
    texts = [item if isinstance(item, str) else canonical(item) for item in items]
    return [questions[text] for text in texts if text is not None and text in questions]
