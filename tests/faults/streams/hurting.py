"""One fault under load: its history, the checker's verdict, and the row that tells both."""

import asyncio
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.online.redis_store import RedisStore
from foretaste import compose
from tests.faults.streams.cases import StreamFault
from tests.faults.streams.checker import Verdict, judge
from tests.faults.streams.drive import Drive
from tests.faults.streams.history import Begun, History, Hurt, Ranked
from tests.faults.streams.load import LoadPlan, planned
from tests.faults.streams.part_faults import rotten_rows
from tests.faults.streams.system import PARTITIONS, WARM_AFTER, System

FAULT_AFTER = 0.25
"""So far into the load the fault begins."""
PATIENCE = 180.0
"""Seconds until all is handled, and no longer: what is missing then is lost."""
ROTTEN_EVERY = 40
OK = 200


@dataclass(frozen=True, slots=True)
class StreamRow:
    """What became of a load during a fault, in records; see `Verdict`."""

    fault: str
    setting: str
    sent: int
    acknowledged: int
    enriched: int
    warm: int
    applied: int
    dead: int
    lost: int
    doubled: int
    disordered: int
    unreadable: int
    phantom: int
    unlogged: int
    taken_back: int
    repeated: int
    recover_s: float | None
    """From the end of the fault until all was handled that was sent by then; None where it never was."""
    rankings: int
    rankings_failed: int
    rankings_fallen_back: int
    slowest_ranking_ms: int
    log_lines: int
    """Of both workers and the service."""
    seconds: float
    settled: bool
    """All was handled and heard of in the end."""
    problems: list[str]


def hurt(system: System, fault: StreamFault, events: int, folder: Path) -> StreamRow:
    """1. Workers and the service run under the fault's setting. 2. The load begins, and a quarter into it the fault.
    3. When it is over, all is waited for that was sent by then. 4. The load has ended, all of it is handled, and the
    store is read. 5. The checker judges. The history lies in `folder`.
    """
    system.processes.run_under(fault.setting)  # 1
    name = f"{fault.name}-{time.time_ns():x}".replace(" ", "-").replace("'", "").replace(",", "").replace(":", "")
    plan = system.plan(name, events=events, **fault.load)
    if fault.rotten:
        rotten_rows(system, _users(plan)[::ROTTEN_EVERY])
    lines, began = system.processes.log_lines(), time.monotonic()
    with (folder / "history.jsonl").open("w", encoding="utf-8") as file:
        history = History(file)
        history.add(Begun(fault.name, fault.setting, WARM_AFTER, fault.takes_back))
        settled = asyncio.run(_carried_out(system, fault, plan, history))
    row = _row(fault, history, judge(history.operations))  # 5
    row.update(
        log_lines=system.processes.log_lines() - lines, seconds=round(time.monotonic() - began, 1), settled=settled
    )
    return StreamRow(**row)


async def _carried_out(system: System, fault: StreamFault, plan: LoadPlan, history: History) -> bool:
    store = compose.store(system.settings)
    assert isinstance(store, RedisStore)
    drive = Drive(system.reached(), store, plan, history)
    loop = asyncio.get_running_loop()
    try:
        async with drive.running():
            sending = asyncio.create_task(drive.send())  # 2
            try:
                await asyncio.sleep(FAULT_AFTER * plan.seconds)
                history.add(Hurt("begins", time.time()))
                await loop.run_in_executor(system.hands, fault.hurt, system)
                history.add(Hurt("ends", time.time()))
                if await drive.until_handled(PATIENCE):  # 3
                    history.add(Hurt("recovered", time.time()))
                await sending  # 4
            finally:
                sending.cancel()
            return await drive.settle(PATIENCE)
    finally:
        await store.close()


def _row(fault: StreamFault, history: History, verdict: Verdict) -> dict[str, Any]:
    at = {each.what: each.at for each in history.operations if isinstance(each, Hurt)}
    asked = [each for each in history.operations if isinstance(each, Ranked)]
    return {
        "fault": fault.name,
        "setting": fault.setting,
        **asdict(verdict),
        "recover_s": round(at["recovered"] - at["ends"], 1) if "recovered" in at else None,
        "rankings": len(asked),
        "rankings_failed": sum(each.status != OK for each in asked),
        "rankings_fallen_back": sum(each.fallback is not None for each in asked),
        "slowest_ranking_ms": round(1000 * max((each.end - each.start for each in asked), default=0.0)),
    }


def _users(plan: LoadPlan) -> list[str]:
    return sorted({each.user for each in planned(plan, PARTITIONS) if each.kind != "poison"})
