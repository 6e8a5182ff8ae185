"""The towers' client: the vocabulary of a generation, against a server that answers when the test says."""

import asyncio
import json
from collections.abc import AsyncIterator

import numpy as np
import pytest

from foretaste.kernel.errors import Unavailable
from models.generations.triton import TritonTowers
from models.runtime.encoding import Encoding
from models.runtime.packing import packed
from tests.unit.models.generations.test_triton_http import Server, http

ENCODING = Encoding({}, {}, {}, ("a", "b"), ("clicked",), np.zeros((4, 0), dtype=np.int64))


def vocabulary(content: bytes) -> bytes:
    output = {"name": "encoding", "datatype": "UINT8", "shape": [len(content)]}
    head = json.dumps({"outputs": [output | {"parameters": {"binary_data_size": len(content)}}]}).encode()
    return http(head + content, head_length=len(head))


class Opened:
    """Triton as the test has it: it answers once `gate` is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.content = packed(ENCODING.to_json(), 7)
        self.server = Server(self._answer)
        self.address = ""

    async def _answer(self, _: Server, __: bytes) -> bytes:
        await self.gate.wait()
        return vocabulary(self.content)


@pytest.fixture
async def triton() -> AsyncIterator[Opened]:
    opened = Opened()
    listening = await asyncio.start_server(opened.server.serve, "127.0.0.1", 0)
    opened.address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield opened
    listening.close()


async def test_a_vocabulary_comes_though_whoever_asked_gave_up(triton: Opened) -> None:
    opened, towers = triton, TritonTowers(triton.address, timeout=5.0)
    hurried = asyncio.create_task(towers.unknown(["a"], 1))
    while not opened.server.bodies:  # noqa: ASYNC110  # the request, which comes on the same loop
        await asyncio.sleep(0)
    hurried.cancel()
    await asyncio.wait({hurried})
    patient = asyncio.create_task(towers.unknown(["a", "c"], 1))
    await asyncio.sleep(0)
    opened.gate.set()
    assert await patient == ["c"]
    assert await towers.unknown(["b"], 1) == []
    assert len(opened.server.bodies) == 1
    await towers.close()


async def test_who_may_not_wait_so_long_is_told_and_the_next_one_is_answered(triton: Opened) -> None:
    opened, towers = triton, TritonTowers(triton.address, timeout=0.001)
    with pytest.raises(Unavailable, match=r"no vocabulary of generation 1 within 0\.001 s"):
        await towers.prepare(1)
    opened.gate.set()
    while True:
        try:
            await towers.prepare(1)
            break
        except Unavailable:
            await asyncio.sleep(0)
    assert len(opened.server.bodies) == 1
    await towers.close()


async def test_the_vocabulary_of_an_earlier_release_is_read_as_its_file_says(triton: Opened) -> None:
    opened, towers = triton, TritonTowers(triton.address, timeout=5.0)
    opened.content = ENCODING.to_json().encode()
    opened.gate.set()
    assert await towers.unknown(["a", "c"], 1) == ["c"]
    await towers.close()
