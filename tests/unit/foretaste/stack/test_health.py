"""How the stack's own processes are told."""

import os

from foretaste.stack.health import process


async def test_a_process_that_lives_is_well_unless_something_keeps_it_from_its_work() -> None:
    assert (await process("worker", os.getpid())).ok
    assert (await process("worker", os.getpid(), {})).ok
    found = await process("worker", os.getpid(), {"kafka": "nobody answers", "user-registered": "nothing was handled"})
    assert not found.ok
    assert found.detail == (
        f"pid {os.getpid()} is not ready: kafka: nobody answers; user-registered: nothing was handled"
    )


async def test_a_process_that_is_gone_is_not_well() -> None:
    assert not (await process("worker", 2**22 + 1)).ok
