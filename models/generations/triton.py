"""The `Towers` port on Triton, through one gRPC connection."""

import json
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from foretaste.kernel.errors import BadTowerOutput, InvalidInput, Unavailable
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.values import Attributes, FloatArray, StoredAttributes
from models.generations.repository import RANKING_TOWER, ZERO_SHOT_TOWER

T = TypeVar("T")

_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC's own backoff grows to two minutes: a Triton that came back would stay unseen for as long
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
]


class TritonTowers:
    """Both towers as Triton serves them. The client is made at the first call, in the loop that runs then."""

    def __init__(self, address: str, *, timeout: float = 2.0, load_timeout: float = 120.0, ssl: bool = False) -> None:
        """`address` is `host:port` of Triton's gRPC; the timeouts are seconds a call."""
        self._address = address
        self._timeout = timeout
        self._load_timeout = load_timeout
        self._ssl = ssl
        self._made: InferenceServerClient | None = None

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        """Virtual behaviour (B, M, D) of at most 4096 users. No users make no call, and the answer is (0, 0, 0)."""
        if not attributes:
            return np.zeros((0, 0, 0), dtype=np.float32)
        rows = _texts("attributes", [[_json(row)] for row in attributes])
        answer = await self._infer(ZERO_SHOT_TOWER, generation, [rows], "virtual_behaviour")
        if answer.ndim != 3 or len(answer) != len(attributes):  # noqa: PLR2004  # B, M, D
            raise BadTowerOutput(f"{ZERO_SHOT_TOWER} {generation}: {answer.shape} for {len(attributes)} users")
        return answer

    async def score(self, request: RankingInput, generation: int) -> FloatArray:
        """Scores (K,); raises `InvalidInput` for virtual behaviour of another shape than the generation's.

        No candidates make no call.
        """
        if not request.items:
            return np.zeros(0, dtype=np.float32)
        behaviour = {"items": list(request.behaviour.items), "actions": list(request.behaviour.actions)}
        inputs = [
            _texts("attributes", [[_json(request.attributes)]]),
            _texts("context", [[json.dumps(dict(request.context))]]),
            _texts("behaviour", [[json.dumps(behaviour)]]),
            _tensor("virtual_behaviour", np.asarray(request.virtual, dtype=np.float32)[None], "FP32"),
            _texts("items", [list(request.items)]),
        ]
        answer = await self._infer(RANKING_TOWER, generation, inputs, "scores")
        if answer.shape != (1, len(request.items)):
            raise BadTowerOutput(f"{RANKING_TOWER} {generation}: {answer.shape} for {len(request.items)} candidates")
        scores: FloatArray = answer[0]
        return scores

    async def load(self, generation: int) -> None:
        """Load what is published, this generation among it, beside what is loaded already; that keeps answering.

        Raises `Unavailable` when Triton cannot load both towers of this generation.
        """
        for tower in (ZERO_SHOT_TOWER, RANKING_TOWER):
            await self._load(tower, generation)
        if not await self.ready(generation):
            raise Unavailable("triton", f"generation {generation} is not in the model repository that it reads")

    async def unload(self, generation: int) -> None:
        """Let go of a generation that was withdrawn from the repository; the others there answer throughout.

        Raises `Unavailable` when Triton cannot load what is left there, or goes on with this generation.
        """
        for tower in (ZERO_SHOT_TOWER, RANKING_TOWER):
            await self._load(tower, generation)
        if await self.ready(generation):
            raise Unavailable("triton", f"generation {generation} is still in the model repository that it reads")

    async def _load(self, tower: str, generation: int) -> None:
        try:
            await self._client.load_model(tower, client_timeout=self._load_timeout)
        except InferenceServerException as error:
            reason = error.message().partition("\n")[0]  # below it are lines of the server's own Python
            raise Unavailable("triton", f"generation {generation} of {tower} was not loaded: {reason}") from error

    async def ready(self, generation: int) -> bool:
        """Whether both towers of the generation can answer."""
        for tower in (ZERO_SHOT_TOWER, RANKING_TOWER):
            asked = self._client.is_model_ready(tower, str(generation), client_timeout=self._timeout)
            if not await _answered(asked):
                return False
        return True

    async def close(self) -> None:
        if self._made is not None:
            await self._made.close()
            self._made = None

    @property
    def _client(self) -> InferenceServerClient:
        if self._made is None:
            self._made = InferenceServerClient(self._address, ssl=self._ssl, channel_args=_CHANNEL)
        return self._made

    async def _infer(self, tower: str, generation: int, inputs: Sequence[InferInput], output: str) -> FloatArray:
        result = await _answered(
            self._client.infer(
                tower,
                inputs,
                model_version=str(generation),
                outputs=[InferRequestedOutput(output)],
                client_timeout=self._timeout,
            )
        )
        answer = result.as_numpy(output)
        if answer is None or answer.dtype != np.float32:
            raise BadTowerOutput(f"{tower} {generation}: no float32 output {output!r}")
        numbers: FloatArray = answer
        return numbers


def _json(attributes: Attributes) -> str:
    return attributes.text if isinstance(attributes, StoredAttributes) else json.dumps(dict(attributes))


def _texts(name: str, rows: Sequence[Sequence[str]]) -> InferInput:
    return _tensor(name, np.array([[text.encode() for text in row] for row in rows], dtype=np.object_), "BYTES")


def _tensor(name: str, values: npt.NDArray[Any], datatype: str) -> InferInput:
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor


async def _answered(call: Awaitable[T]) -> T:
    """Await a call of the client; its errors become those of the port."""
    try:
        return await call
    except InferenceServerException as error:
        detail = f"{error.status()}: {error.message()}"
        if error.status() == "StatusCode.INVALID_ARGUMENT" and "unknown model" not in error.message():
            raise InvalidInput("request", error.message(), "was refused by the tower") from error
        raise Unavailable("triton", detail) from error
