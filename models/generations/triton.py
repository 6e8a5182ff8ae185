"""The `Towers` port on Triton."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from foretaste.kernel.errors import BadTowerOutput, InvalidInput, Unavailable
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.running.logs import about_nothing
from foretaste.kernel.running.supervision import cancel_and_wait
from foretaste.kernel.running.tls import TlsFiles
from foretaste.kernel.values import Attributes, FloatArray, IndexArray
from models.generations.repository import FILES, RANKING_TOWER, RETRIEVAL, VOCABULARY, ZERO_SHOT_TOWER
from models.generations.triton_http import TritonHttp
from models.runtime.candidates import Wished, encode_requests, items_of, matching
from models.runtime.digest import digest_of
from models.runtime.encoding import Encoding
from models.runtime.layout import MOST_USERS
from models.runtime.packing import unpacked

T = TypeVar("T")

KEPT = 4
"""Vocabularies held at once; the one brought first goes first."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownVocabulary:
    """The encoding of a generation, and the digest that tells Triton which one it is."""

    encoding: Encoding
    digest: int


class TritonTowers:
    """Both towers as Triton serves them. Connections are made by calls, in the loop that runs then.

    Raw values are encoded here, with the vocabulary that Triton holds beside the towers of a generation: it is brought
    once, and its digest goes with each request. A version that was made with another vocabulary refuses it, which is
    then brought anew: values are never read with the wrong one. That of a million items takes longer than a ranking
    may: it comes though whoever asked for it has given up, for those who ask next.
    """

    def __init__(
        self, address: str, *, timeout: float = 2.0, load_timeout: float = 120.0, tls: TlsFiles | None = None
    ) -> None:
        """`address` is `host:port` of Triton's HTTP; the timeouts are seconds a call; `tls` are the files of TLS."""
        self._triton = TritonHttp(address, tls=None if tls is None else tls.context())
        self._timeout = timeout
        self._load_timeout = load_timeout
        self._vocabularies: dict[int, KnownVocabulary] = {}
        self._registered: dict[str, Attributes | None] = {}
        self._adding = asyncio.Lock()
        self._bringing: dict[tuple[int, int], asyncio.Task[KnownVocabulary | None]] = {}
        """By generation and the digest that is known of it."""

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        """Virtual behaviour (B, M, D) of at most 4096 users. No users make no call, and the answer is (0, 0, 0)."""
        if not attributes:
            return np.zeros((0, 0, 0), dtype=np.float32)
        answer, _, _ = await self._virtual(attributes, generation)
        return answer

    async def counted_virtual_behaviour(
        self, attributes: Sequence[Attributes], generation: int
    ) -> tuple[FloatArray, dict[str, int]]:
        """The same of at least one user, and `unknown_values` of them; they are encoded once."""
        answer, encoding, rows = await self._virtual(attributes, generation)
        return answer, encoding.unknown_values(attributes, rows)

    async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        """Scores (K,) of each request; raises `InvalidInput` for virtual behaviour of another shape than the
        generation's.

        Requests with as many candidates make one call, all calls at once; no candidates make none.
        """
        scores = [np.zeros(0, dtype=np.float32)] * len(requests)
        alike: defaultdict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            if request.items:
                alike[len(request.items), request.virtual.shape].append(place)
        calls = [group[at : at + MOST_USERS] for group in alike.values() for at in range(0, len(group), MOST_USERS)]
        answers = await asyncio.gather(*(self._score([requests[each] for each in call], generation) for call in calls))
        for places, answer in zip(calls, answers, strict=True):
            for place, own in zip(places, answer, strict=True):
                scores[place] = own
        return scores

    async def candidates(self, requests: Sequence[CandidateRequest], generation: int) -> list[list[str]]:
        """The candidates of each request, as the port `Retrieval` says; one call for all of them."""
        if not requests:
            return []

        async def ask(vocabulary: KnownVocabulary) -> list[list[str]]:
            asked = encode_requests(vocabulary.encoding, requests)
            inputs: dict[str, IndexArray | FloatArray] = {
                "behaviour": asked.behaviour,
                "virtual_behaviour": asked.virtual,
                "wanted": asked.wanted,
                "filters": asked.filters,
                "vocabulary": np.array([vocabulary.digest]),
            }
            found = await self._triton.infer(RETRIEVAL, generation, inputs, "candidates", self._timeout)
            if found.dtype != np.int64 or found.ndim != 2 or len(found) != len(requests):  # noqa: PLR2004  # U, C
                raise BadTowerOutput(f"{RETRIEVAL} {generation}: {found.shape} for {len(requests)} users")
            return items_of(vocabulary.encoding, found, requests)

        return await self._asked(generation, ask)

    async def matching(self, items: Sequence[str], attributes: Wished, generation: int) -> list[str]:
        """Those of the items that have these attributes, as the port says."""
        return matching((await self._vocabulary(generation)).encoding, items, attributes)

    async def unknown(self, items: Sequence[str], generation: int) -> list[str]:
        """Those of the items that are not in the generation's vocabulary."""
        return (await self._vocabulary(generation)).encoding.unknown_items(items)

    async def questions(self, generation: int) -> Sequence[str]:
        """The items that the generation asks new users about, best first."""
        return (await self._vocabulary(generation)).encoding.questions.items

    async def unknown_values(self, attributes: Sequence[Attributes], generation: int) -> dict[str, int]:
        """By attribute, how many users have a value that is not in the generation's vocabulary."""
        return (await self._vocabulary(generation)).encoding.unknown_values(attributes)

    async def add_items(self, items: Mapping[str, Attributes | None]) -> None:
        """Take in items that were registered, as the port says: for each, the towers are asked for its kind."""
        async with self._adding:
            self._registered.update(items)
            for known in list(self._vocabularies.values()):
                await asyncio.to_thread(known.encoding.add_items, items)

    async def prepare(self, generation: int) -> None:
        """Bring the vocabulary of a generation."""
        await self._vocabulary(generation)

    async def load(self, generation: int) -> None:
        """Load what is published, this generation among it, beside what is loaded already; that keeps answering.

        Raises `Unavailable` when Triton cannot load all of this generation.
        """
        for model in FILES:
            await self._load(model, generation)
        if not await self.ready(generation):
            raise Unavailable("triton", f"generation {generation} is not in the model repository that it reads")

    async def unload(self, generation: int) -> None:
        """Let go of a generation that was withdrawn from the repository; the others there answer throughout.

        Raises `Unavailable` when Triton cannot load what is left there, or goes on with this generation.
        """
        self._vocabularies.pop(generation, None)
        for model in FILES:
            await self._load(model, generation)
        if await self.ready(generation):
            raise Unavailable("triton", f"generation {generation} is still in the model repository that it reads")

    async def ready(self, generation: int) -> bool:
        """Whether the vocabulary and both towers of the generation can answer."""
        for model in FILES:
            if not await self._triton.is_ready(model, generation, self._timeout):
                return False
        return True

    async def close(self) -> None:
        await cancel_and_wait(*self._bringing.values())
        self._triton.close()

    async def _load(self, model: str, generation: int) -> None:
        try:
            await self._triton.load(model, self._load_timeout)
        except Unavailable as error:
            raise Unavailable("triton", f"generation {generation} of {model} was not loaded: {error.detail}") from error

    async def _virtual(
        self, attributes: Sequence[Attributes], generation: int
    ) -> tuple[FloatArray, Encoding, IndexArray]:
        """The tower's answer, and how the users' attributes were encoded for it."""

        async def ask(vocabulary: KnownVocabulary) -> tuple[FloatArray, Encoding, IndexArray]:
            rows = vocabulary.encoding.encode_attributes(attributes)
            inputs = {"attributes": rows, "vocabulary": _digests(vocabulary, len(rows))}
            answer = await self._infer(ZERO_SHOT_TOWER, generation, inputs, "virtual_behaviour")
            return answer, vocabulary.encoding, rows

        answer, encoding, rows = await self._asked(generation, ask)
        if answer.ndim != 3 or len(answer) != len(attributes):  # noqa: PLR2004  # B, M, D
            raise BadTowerOutput(f"{ZERO_SHOT_TOWER} {generation}: {answer.shape} for {len(attributes)} users")
        return answer, encoding, rows

    async def _score(self, requests: Sequence[RankingInput], generation: int) -> FloatArray:
        """Scores (B, K) of B requests with K candidates each."""

        async def ask(vocabulary: KnownVocabulary) -> FloatArray:
            encoding = vocabulary.encoding
            inputs: dict[str, IndexArray | FloatArray] = {
                "users": encoding.encode_users(requests),
                "virtual_behaviour": encoding.virtual_of(requests),
                "candidates": np.stack([encoding.encode_items(each.items) for each in requests]),
                "vocabulary": _digests(vocabulary, len(requests)),
            }
            return await self._infer(RANKING_TOWER, generation, inputs, "scores")

        answer = await self._asked(generation, ask)
        expected = len(requests), len(requests[0].items)
        if answer.shape != expected:
            raise BadTowerOutput(f"{RANKING_TOWER} {generation}: {answer.shape} for {expected[1]} candidates")
        return answer

    async def _asked(self, generation: int, ask: Callable[[KnownVocabulary], Awaitable[T]]) -> T:
        """The answer of a tower, asked with the vocabulary that is known, and with Triton's own where that differs."""
        vocabulary = await self._vocabulary(generation)
        try:
            return await ask(vocabulary)
        except InvalidInput:
            brought = await self._brought(generation, vocabulary.digest)
            if brought is None:
                raise
            return await ask(brought)

    async def _vocabulary(self, generation: int) -> KnownVocabulary:
        known = self._vocabularies.get(generation) or await self._brought(generation, 0)
        if known is None:
            raise BadTowerOutput(f"{VOCABULARY} {generation}: nothing for one who has none")
        return known

    async def _brought(self, generation: int, known: int) -> KnownVocabulary | None:
        """What Triton holds of a generation, and from now on known; None where its digest is the `known` one.

        Raises `Unavailable` where it takes longer than a call may; it comes nevertheless.
        """
        place = generation, known
        task = self._bringing.get(place)
        if task is None:
            bringing = self._bring(generation, known)
            task = self._bringing[place] = asyncio.create_task(bringing, context=about_nothing())
            task.add_done_callback(lambda ended: self._ended(place, ended))
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(task)
        except TimeoutError as error:
            detail = f"no vocabulary of generation {generation} within {self._timeout:g} s"
            raise Unavailable("triton", detail) from error

    def _ended(self, place: tuple[int, int], task: "asyncio.Task[KnownVocabulary | None]") -> None:
        del self._bringing[place]
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may be left

    async def _bring(self, generation: int, known: int) -> KnownVocabulary | None:
        inputs = {"known": np.array([known])}
        answer = (await self._triton.infer(VOCABULARY, generation, inputs, "encoding", self._load_timeout)).tobytes()
        if not answer:
            return None
        vocabulary = await asyncio.to_thread(_read, answer)
        async with self._adding:
            await asyncio.to_thread(vocabulary.encoding.add_items, self._registered)
            self._vocabularies[generation] = vocabulary
        while len(self._vocabularies) > KEPT:
            del self._vocabularies[next(iter(self._vocabularies))]
        return vocabulary

    async def _infer(
        self, tower: str, generation: int, inputs: Mapping[str, IndexArray | FloatArray], output: str
    ) -> FloatArray:
        answer = await self._triton.infer(tower, generation, inputs, output, self._timeout)
        if answer.dtype != np.float32:
            raise BadTowerOutput(f"{tower} {generation}: no float32 output {output!r}")
        return answer


def _read(answer: bytes) -> KnownVocabulary:
    """Of a version that an earlier release published, the answer is its file: JSON."""
    if answer.startswith(b"{"):
        digest = digest_of(hashlib.sha256(answer).hexdigest())
        return KnownVocabulary(Encoding.from_json(answer.decode()), digest)
    found = unpacked(answer)
    without_items = Encoding.from_json(found.without_items)
    encoding = replace(without_items, items=found.items, item_features=found.item_features)
    encoding.encode_items(encoding.items[:1])  # what it looks items up in is made here, and not in the first answer
    return KnownVocabulary(encoding, found.digest)


def _digests(vocabulary: KnownVocabulary, users: int) -> IndexArray:
    return np.full((users, 1), vocabulary.digest, dtype=np.int64)
