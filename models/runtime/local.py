"""Both towers of a generation in this process: raw values in, vectors or scores out."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.values import Attributes, FloatArray
from models.runtime import layout
from models.runtime.candidates import encode_requests, items_of
from models.runtime.encoding import Encoding
from models.runtime.layout import MOST_USERS
from models.runtime.retrieval import ServedRetrieval
from models.runtime.towers import ServedRanking, ServedZeroShot


class LocalTowers:
    """The vocabulary, the index and both towers of a generation from the folders that hold them.

    On the CPU, one thread a call.
    """

    def __init__(self, vocabulary: Path, retrieval: Path, zero_shot: Path, ranking: Path) -> None:
        self._folder = retrieval
        self.encoding = Encoding.from_json((vocabulary / layout.ENCODING).read_text(encoding="utf-8"))
        self._zero_shot = ServedZeroShot(zero_shot)
        self._ranking = ServedRanking(ranking)

    @classmethod
    def of(cls, folder: Path) -> "LocalTowers":
        """All of them from the folder of a generation's artifact."""
        return cls(folder, folder, folder, folder)

    def unknown(self, items: Sequence[str]) -> list[str]:
        """Those of the items that training did not know."""
        return self.encoding.unknown_items(items)

    def virtual_behaviour(self, rows: Sequence[Attributes]) -> FloatArray:
        """Virtual behaviour (B, M, D) of the raw attributes of B users, which may be none."""
        return self._zero_shot.run(self.encoding.encode_attributes(rows))

    def counted_virtual_behaviour(self, rows: Sequence[Attributes]) -> tuple[FloatArray, dict[str, int]]:
        """The same, and by attribute how many of the users have a value that training did not know."""
        encoded = self.encoding.encode_attributes(rows)
        return self._zero_shot.run(encoded), self.encoding.unknown_values(rows, encoded)

    def score(self, requests: Sequence[RankingInput]) -> list[FloatArray]:
        """Probabilities (K,) of each request; K may differ, and be 0.

        Raises `BadRequest` for virtual behaviour of another shape than the generation's.
        """
        runs = [requests[at : at + MOST_USERS] for at in range(0, len(requests), MOST_USERS)]
        return [scores for run in runs for scores in self._score(run)]

    def _score(self, requests: Sequence[RankingInput]) -> list[FloatArray]:
        """The same of at most `MOST_USERS` requests, all in one pass."""
        users = self.encoding.encode_users(requests)
        for request in requests:
            self._ranking.checked(users, request.virtual[None])
        counts = [len(request.items) for request in requests]
        scores = self._ranking.run(
            users,
            self.encoding.virtual_of(requests),
            self.encoding.encode_items([item for request in requests for item in request.items]),
            np.repeat(np.arange(len(requests)), counts),
        )
        return np.split(scores, np.cumsum(counts)[:-1])

    def candidates(self, requests: Sequence[CandidateRequest]) -> list[list[str]]:
        """The candidates of each request, as the port `Retrieval` says. Raises `BadRequest` as `score` does."""
        if not requests:
            return []
        asked = encode_requests(self.encoding, requests)
        self.retrieval.check(*asked)
        return items_of(self.encoding, self.retrieval.run(*asked), requests)

    @cached_property
    def retrieval(self) -> ServedRetrieval:
        """The index, read when it is first asked."""
        return ServedRetrieval(self._folder)
