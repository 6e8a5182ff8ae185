"""The learning of a refresh: from a window of the training log to a candidate generation and its verdict."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.files import naming_a_full_disk
from foretaste.kernel.ports import Generations, Report, no_report, reported
from foretaste.kernel.running.erasing import ErasingLog
from foretaste.kernel.running.registered_items import ItemRegistry, RegisteredItem, every_item
from models.evaluation.curves import by_step, draw_losses
from models.evaluation.gate import GateConfig, judge
from models.evaluation.profile import profile_of
from models.evaluation.verdict import Verdict, read_verdict, verdict_path, write_verdict
from models.generations.counted import CountedUsers
from models.generations.export import export
from models.generations.load import restore
from models.generations.manifest import read_manifest
from models.generations.publish import free_number
from models.log.join import joined
from models.log.window import LogWindow
from models.refresh.parts import Learned, RefreshRequest
from models.refresh.prepare import Prepared, held_out, nothing_to_learn, prepare, refreshed
from models.refresh.records import CountsBasis, CountsFrom, LearningRecord, RefreshRecords, UnfinishedRefresh
from models.refresh.recount import basis_of, counted_with, with_counts
from models.training.checkpoint import Checkpoints, fingerprint
from models.training.config import Device
from models.training.item_kinds import as_served
from models.training.loop import Step
from models.training.processes import Execution, ProcessGroup, SingleProcess, is_one_of_several
from models.training.trained import Trained

POINTS = 200
"""Of a loss curve in a refresh's record."""


@dataclass(frozen=True, slots=True)
class LearnConfig:
    """How a candidate is learned and judged."""

    outcome_window: float = 1800.0
    """Seconds after a ranking in which what the user does counts as its outcome."""
    held_out: float = 0.2
    """Share of the newest rankings, which judge the candidate and are not learned from."""
    gate: GateConfig = field(default_factory=GateConfig)
    checkpoint_every: float = 30.0
    """Seconds."""


class Stopped(ForetasteError):
    """The refresh was told to stop."""

    retriable = True


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Trained towers that are not exported yet."""

    prepared: Prepared
    trained: Trained
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogLearner:
    """The `Learner` of a running system: it reads the training log and writes into the folder of generations.

    1. The log of the window is read and joined with what users did about each ranking.
    2. The newest rankings are held out.
    3. The towers learn from the others, from the active generation's weights on.
    4. The candidate is exported, with a parity check, under the next free number.

    A candidate that was exported before the refresh was killed is not trained again. With several processes the first
    one does all that, and the others `accompany` it.
    """

    log: ErasingLog
    generations: Generations
    home: Path
    """The folder of generations, verdicts and records of refreshes."""
    config: LearnConfig = field(default_factory=LearnConfig)
    items: ItemRegistry | None = None
    """Tells the attributes of items that were registered."""

    async def learn(
        self, request: RefreshRequest, run: UnfinishedRefresh, stop: threading.Event, report: Report
    ) -> Learned:
        """As the protocol says; raises what training and export raise."""
        window = await self._window(run, report)  # 1
        learned_from, judging = await asyncio.to_thread(self._split, run, window)  # 2
        record = LearningRecord(
            rankings=len(learned_from), impressions=len(learned_from.labels), skipped=tuple(window.skipped)
        )
        registered = await self._registered(run)
        candidate = await asyncio.to_thread(self._train, request, run, learned_from, registered, stop, report)  # 3
        if isinstance(candidate, str):
            return Learned(run.number if self._is_exported(run) else None, candidate, judging, run.learning or record)
        lowest, _ = await free_number(self.generations)
        with reported(report, "export"):
            number = await asyncio.to_thread(self._export, request, run, candidate, lowest)  # 4
        losses = candidate.trained.losses
        drawn = await asyncio.to_thread(self._draw, candidate.trained, run)  # the lease is renewed meanwhile
        learned = {"notices": (*candidate.notices, *drawn), "steps": len(losses), "losses": _thinned(losses)}
        return Learned(number, "", judging, record.model_copy(update=learned))

    async def accompany(self, request: RefreshRequest) -> None:
        """In a process that torchrun started beside the first one: train along, and leave all else to the first."""
        with joined_process_group(request.plan.device) as peers:
            run, needless, registered = peers.from_first(_not_on_first)
            if needless is not None:
                return
            learned_from, _ = self._split(run, await self._window(run))
            prepared = prepare(learned_from, self._start(run), request.plan, registered)
            check_same(peers, prepared)
            refreshed(prepared, execution=Execution(request.compile, peers, self._checkpoints()))

    async def basis(self, number: int | None) -> CountsBasis:
        """As the protocol says."""
        erased = await self.log.erased()
        if number is None:
            return CountsBasis(CountsFrom.BASE, None, erased)
        return await asyncio.to_thread(basis_of, self._artifact(number), erased)

    async def judge(self, request: RefreshRequest, run: UnfinishedRefresh, learned: Learned) -> Verdict:
        """As the protocol says; made anew after a kill."""
        return await asyncio.to_thread(self._judge, request, run, learned, await self._registered(run))

    async def _window(self, run: UnfinishedRefresh, report: Report = no_report) -> LogWindow:
        with reported(report, "read the log"):
            logged = await self.log.read(run.since_ms, run.until_ms)
            return await asyncio.to_thread(joined, logged, round(self.config.outcome_window * 1000), run.until_ms)

    async def _registered(self, run: UnfinishedRefresh) -> list[RegisteredItem]:
        """The items that were registered when the refresh first came here; those once it is resumed too."""
        records = RefreshRecords(self.home / "runs")
        found = records.items(run)
        if found is None:
            found = [] if self.items is None else await every_item(self.items)
            records.keep_items(run, found)
        return found

    def _train(
        self,
        request: RefreshRequest,
        run: UnfinishedRefresh,
        learned_from: LogWindow,
        registered: Sequence[RegisteredItem],
        stop: threading.Event,
        report: Report,
    ) -> _Candidate | str:
        """The candidate's towers, or why there is nothing to train."""
        needless = "it was trained before" if self._is_exported(run) else nothing_to_learn(learned_from)
        with joined_process_group(request.plan.device) as peers:
            peers.from_first(lambda: (run, needless, registered))  # the other processes wait for this, whatever it says
            if needless is not None:
                return needless
            prepared = prepare(learned_from, self._start(run), request.plan, registered)
            check_same(peers, prepared)
            notices = [*prepared.notices, *_counted_anew(run)]
            execution = Execution(request.compile, peers, self._checkpoints(), notices.append)
            trained = refreshed(prepared, _stopping(stop, report), execution)
        _check_wanted(stop)
        return _Candidate(prepared, trained, tuple(notices))

    def _export(self, request: RefreshRequest, run: UnfinishedRefresh, candidate: _Candidate, lowest: int) -> int:
        """The candidate's number."""
        prepared, trained = candidate.prepared, candidate.trained
        profile = profile_of(trained, prepared.data.examples, np.random.default_rng(request.plan.seed))
        folder = export(
            trained,
            prepared.dataset,
            {},
            self.home / "generations",
            lowest=lowest,
            unlike=run.base,
            base=run.base if prepared.base is not None else None,
            profile=profile.model_dump_json(),
            counted=self._counted(run, prepared),
        )
        return int(folder.name)

    def _judge(
        self,
        request: RefreshRequest,
        run: UnfinishedRefresh,
        learned: Learned,
        registered: Sequence[RegisteredItem],
    ) -> Verdict:
        """Both generations as they are served: of items that they have not learned of, with the kinds that stand for
        those that were registered."""
        path = verdict_path(self.home, learned.number or 0)
        items = {each.item_id: each.attributes for each in registered}
        candidate, base = restore(self._artifact(learned.number)), self._base(run)
        numbers = {"number": learned.number, "active_number": run.base}
        active = None if base is None else as_served(base, items)
        verdict = judge(as_served(candidate, items), active, learned.held_out, self.config.gate, **numbers)
        if request.force:
            verdict = verdict.model_copy(update={"forced": True})
        write_verdict(verdict, path)
        return read_verdict(path)

    def _split(self, run: UnfinishedRefresh, window: LogWindow) -> tuple[LogWindow, LogWindow]:
        """What is learned from, and what judges: neither generation may have learned from that."""
        learned_ms = 0 if run.base is None else read_manifest(self._artifact(run.base)).split_ms
        return held_out(window, self.config.held_out, learned_ms)

    def _base(self, run: UnfinishedRefresh) -> Trained | None:
        return None if run.base is None else restore(self._artifact(run.base))

    def _start(self, run: UnfinishedRefresh) -> Trained | None:
        """What training goes on from: the base, without counts of users who were erased."""
        base = self._base(run)
        return None if base is None else with_counts(base, self._artifact(run.base), run.counts)

    def _counted(self, run: UnfinishedRefresh, prepared: Prepared) -> CountedUsers | None:
        """Who is in the candidate's counts."""
        erased = {bytes.fromhex(digest): at_ms for digest, at_ms in run.erased.items()}
        if prepared.base is None:
            return CountedUsers.of(prepared.users, erased)
        return counted_with(self._artifact(run.base), run.counts, prepared.users, erased)

    def _is_exported(self, run: UnfinishedRefresh) -> bool:
        return run.number is not None and self._artifact(run.number).is_dir()

    def _artifact(self, number: int | None) -> Path:
        return self.home / "generations" / str(number)

    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(RefreshRecords(self.home / "runs").checkpoints, self.config.checkpoint_every, time.monotonic)

    def _draw(self, trained: Trained, run: UnfinishedRefresh) -> list[str]:
        """The loss curves; where there is no room for them, a notice, since the candidate is whole."""
        path = RefreshRecords(self.home / "runs").curves(run)
        try:
            with naming_a_full_disk(path.parent):
                draw_losses(trained.losses, path)
        except Unavailable as error:
            path.unlink(missing_ok=True)
            return [f"the loss curves were not drawn: {error}"]
        return []


@contextmanager
def joined_process_group(device: Device) -> Iterator[ProcessGroup]:
    """With the other processes that torchrun started, or alone."""
    if is_one_of_several(os.environ):
        from models.training.process_group import process_group  # noqa: PLC0415  # one process needs none of it

        with process_group(os.environ, device) as group:
            yield group
    else:
        yield SingleProcess()


def check_same(peers: ProcessGroup, prepared: Prepared) -> None:
    """Each process read the log for itself. Raises `Unavailable` in all of them where a row came between two reads."""
    own = fingerprint(prepared.data.encoding.to_json(), prepared.data.examples)
    others = {"differ": float(peers.from_first(lambda: own) != own)}
    if peers.mean(others, 1.0)["differ"]:
        raise Unavailable("training log", "it changed while the processes read it")


def _counted_anew(run: UnfinishedRefresh) -> list[str]:
    if run.counts is CountsFrom.BASE:
        return []
    return [f"users who were counted before were erased: the log is counted anew, on top of {run.counts}"]


def _stopping(stop: threading.Event, report: Report) -> Callable[[Step], None]:
    def progress(step: Step) -> None:
        _check_wanted(stop)
        report("co-train", step.number, step.total)

    return progress


def _check_wanted(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped("the refresh was told to stop; its checkpoint stays")


def _thinned(losses: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Means of stretches of steps, at most `POINTS` of each loss."""
    if not losses:
        return {}
    names, table = by_step(losses)
    stretches = np.array_split(table, min(POINTS, len(table)))
    means = np.array([np.nanmean(part, axis=0) if not np.isnan(part).all() else part[0] for part in stretches])
    return {name: np.nan_to_num(means[:, place]).round(6).tolist() for place, name in enumerate(names)}


def _not_on_first() -> tuple[UnfinishedRefresh, str | None, Sequence[RegisteredItem]]:
    raise RuntimeError("only the first process is asked")
