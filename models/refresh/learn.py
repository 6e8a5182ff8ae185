"""The learning of a refresh: from a window of the training log to a candidate generation and its verdict."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from foretaste import compose, jobs
from foretaste.console import Report
from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.files import naming_a_full_disk
from foretaste.settings import Settings
from models.evaluation.curves import by_step, draw_losses
from models.evaluation.gate import GateConfig, judge
from models.evaluation.profile import profile_of
from models.evaluation.verdict import Verdict, read_verdict, verdict_path, write_verdict
from models.generations.export import export
from models.generations.load import restore
from models.generations.manifest import read_manifest
from models.log.join import joined
from models.log.window import LogWindow
from models.refresh.prepare import Prepared, RefreshPlan, held_out, nothing_to_learn, prepare, refreshed
from models.refresh.records import Learning, Runs, Unfinished
from models.training.checkpoint import Checkpoints, fingerprint
from models.training.config import Device
from models.training.loop import Step
from models.training.processes import Execution, ProcessGroup, SingleProcess, is_one_of_several
from models.training.trained import Trained

CHECKPOINT_EVERY = 30.0
"""Seconds."""
POINTS = 200
"""Of a loss curve in a run's record."""


@dataclass(frozen=True, slots=True)
class RefreshOrder:
    """A refresh, and what is to be done about it."""

    plan: RefreshPlan = field(default_factory=RefreshPlan)
    window_days: float | None = None
    """Of the log; None: all that the active generation has not learned from."""
    force: bool = False
    """Publish whatever the gate says; its verdict records that."""
    compile: bool = False

    @property
    def asked(self) -> dict[str, str | int | float | bool | None]:
        """All that decides what is learned, fit for JSON."""
        catalogue = self.plan.catalogue
        told = None if catalogue is None else str(catalogue.resolve())
        return asdict(self.plan) | {"catalogue": told, "window_days": self.window_days}


class Stopped(ForetasteError):
    """The run was told to stop."""

    retriable = True


@dataclass(frozen=True, eq=False, slots=True)
class Learned:
    """What the learning left. `number` is the candidate's; None where there was nothing to learn."""

    number: int | None
    said: str
    held_out: LogWindow
    told: Learning


def learned_until_ms(settings: Settings, number: int) -> int:
    """What lies before it, generation `number` has learned from (epoch milliseconds)."""
    return read_manifest(settings.generations / str(number)).split_ms


def learn(settings: Settings, order: RefreshOrder, run: Unfinished, lost: threading.Event, report: Report) -> Learned:
    """1. the log of the run's window, joined with what came of each ranking; 2. the newest rankings are held out;
    3. the towers learn from the others, from the active generation's on; 4. the candidate is exported.

    A candidate that was exported before the run was killed is not trained again; its checkpoints stay until the run is
    over. Raises `Stopped` soon after `lost` is set, before anything is exported, and what training and export raise.
    """
    window = read_window(settings, run, report)  # 1
    learned_from, judging = _held_out(settings, run, window)  # 2
    told = Learning(rankings=len(learned_from), impressions=len(learned_from.labels), skipped=window.skipped)
    before = run.number if run.number and (settings.generations / str(run.number)).is_dir() else None
    needless = nothing_to_learn(learned_from) if before is None else "it was trained before"
    with together(order.plan.device) as peers:
        peers.from_first(lambda: (run, needless))  # the others wait for this, whatever it says
        if needless is not None:
            return Learned(before, needless, judging, run.learning or told)
        prepared = prepare(learned_from, _base(settings, run), order.plan)
        _check_same(peers, prepared)
        notices = list(prepared.notices)
        execution = Execution(order.compile, peers, _checkpoints(settings), notices.append)
        trained = refreshed(prepared, _stopping(lost, report), execution)  # 3
    _check_wanted(lost)
    report("export", 0, 1)
    folder = _exported(settings, order, run, prepared, trained)  # 4
    report("export", 1, 1)
    notices += _drawn(trained, settings.home / "runs" / f"{run.id}.svg")
    curves = {"steps": len(trained.losses), "losses": _thinned(trained.losses)}
    return Learned(int(folder.name), "", judging, told.model_copy(update={"notices": tuple(notices), **curves}))


def accompany(settings: Settings, order: RefreshOrder) -> None:
    """A process that torchrun started beside the first one: it trains along, and leaves everything else to it."""
    with together(order.plan.device) as peers:
        run, needless = peers.from_first(_first_tells)
        if needless is not None:
            return
        learned_from, _ = _held_out(settings, run, read_window(settings, run, _silent))
        prepared = prepare(learned_from, _base(settings, run), order.plan)
        _check_same(peers, prepared)
        refreshed(prepared, execution=Execution(order.compile, peers, _checkpoints(settings)))


def read_window(settings: Settings, run: Unfinished, report: Report) -> LogWindow:
    """The log of a run's window, joined with outcomes."""
    report("read the log", 0, 1)
    logged = asyncio.run(compose.training_log(settings).read(run.since_ms, run.until_ms))
    window = joined(logged, round(settings.outcome_window * 1000), run.until_ms)
    report("read the log", 1, 1)
    return window


def judged(settings: Settings, order: RefreshOrder, run: Unfinished, learned: Learned) -> Verdict:
    """The gate's verdict on a run's candidate, kept beside the generations; made anew after a kill."""
    path = verdict_path(settings.home, learned.number or 0)
    base = _base(settings, run)
    candidate = restore(settings.generations / str(learned.number))
    config = GateConfig(tolerance=settings.gate_tolerance)
    verdict = judge(candidate, base, learned.held_out, config, number=learned.number, active_number=run.base)
    if order.force:
        verdict = verdict.model_copy(update={"forced": True})
    write_verdict(verdict, path)
    return read_verdict(path)


@contextmanager
def together(device: Device) -> Iterator[ProcessGroup]:
    """With the other processes that torchrun started, or alone."""
    if is_one_of_several(os.environ):
        from models.training.process_group import process_group  # noqa: PLC0415  # one process needs none of it

        with process_group(os.environ, device) as group:
            yield group
    else:
        yield SingleProcess()


def _held_out(settings: Settings, run: Unfinished, window: LogWindow) -> tuple[LogWindow, LogWindow]:
    learned_ms = 0 if run.base is None else learned_until_ms(settings, run.base)
    return held_out(window, settings.held_out, learned_ms)


def _check_same(peers: ProcessGroup, prepared: Prepared) -> None:
    """Each process read the log for itself. Raises `Unavailable` in all of them where a row came between two reads."""
    own = fingerprint(prepared.lessons.encoding.to_json(), prepared.lessons.examples)
    others = {"differ": float(peers.from_first(lambda: own) != own)}
    if peers.mean(others, 1.0)["differ"]:
        raise Unavailable("training log", "it changed while the processes read it")


def _base(settings: Settings, run: Unfinished) -> Trained | None:
    return None if run.base is None else restore(settings.generations / str(run.base))


def _exported(settings: Settings, order: RefreshOrder, run: Unfinished, prepared: Prepared, trained: Trained) -> Path:
    profile = profile_of(trained, prepared.lessons.examples, np.random.default_rng(order.plan.seed))
    return export(
        trained,
        prepared.dataset,
        {},
        settings.generations,
        lowest=asyncio.run(jobs.first_free_number(settings))[0],
        unlike=run.base,
        base=run.base if prepared.base is not None else None,
        profile=profile.model_dump_json(),
    )


def _drawn(trained: Trained, path: Path) -> list[str]:
    """The loss curves; where there is no room for them, a notice, since the candidate is whole."""
    try:
        with naming_a_full_disk(path.parent):
            draw_losses(trained.losses, path)
    except Unavailable as error:
        path.unlink(missing_ok=True)
        return [f"the loss curves were not drawn: {error}"]
    return []


def _checkpoints(settings: Settings) -> Checkpoints:
    return Checkpoints(Runs(settings.home / "runs").checkpoints, CHECKPOINT_EVERY, time.monotonic)


def _stopping(lost: threading.Event, report: Report) -> Callable[[Step], None]:
    def progress(step: Step) -> None:
        _check_wanted(lost)
        report("co-train", step.number, step.total)

    return progress


def _check_wanted(lost: threading.Event) -> None:
    if lost.is_set():
        raise Stopped("the refresh was told to stop; its checkpoint stays")


def _thinned(losses: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Means of stretches of steps, at most `POINTS` of each loss."""
    if not losses:
        return {}
    names, table = by_step(losses)
    stretches = np.array_split(table, min(POINTS, len(table)))
    means = np.array([np.nanmean(part, axis=0) if not np.isnan(part).all() else part[0] for part in stretches])
    return {name: np.nan_to_num(means[:, place]).round(6).tolist() for place, name in enumerate(names)}


def _first_tells() -> tuple[Unfinished, str | None]:
    raise RuntimeError("only the first process is asked")


def _silent(_step: str, _done: int, _total: int | None) -> None:
    """The first process reports."""
