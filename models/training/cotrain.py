"""Co-training of both towers: the paper's Algorithm 1."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from foretaste.kernel.errors import ForetasteError
from models.data.dataset import Dataset
from models.data.histories import PastBehaviour
from models.data.split import TimeSplit
from models.runtime.encoding import Encoding
from models.towers.forms import ZeroShotForm
from models.training.config import TrainingConfig, device_of
from models.training.data import TrainingData
from models.training.loop import Step, begin
from models.training.processes import Execution
from models.training.questions import asked_items
from models.training.step import LEAST_ROWS

if TYPE_CHECKING:
    from models.training.warm_start import WarmStart
from models.training.trained import Trained


class OutOfMemory(ForetasteError):
    """The device's memory does not hold a step, not even one of half the rows; the message names the batch."""


Progress = Callable[[Step], None]


def cotrain(
    dataset: Dataset,
    split: TimeSplit,
    config: TrainingConfig,
    progress: Progress = lambda _: None,
    encoding: Encoding | None = None,
    histories: PastBehaviour | None = None,
    start: "WarmStart | None" = None,
    execution: Execution = Execution(),  # noqa: B008  # frozen
) -> Trained:
    """Learn from what lies before the split, and find what to ask new users. The same arguments give the same towers,
    bit for bit on the CPU.

    `histories`: the behaviour that the towers may see; by default all of the dataset's. The rest is `learn`'s.
    Raises `InvalidInput` for data of one class, and what `learn` raises.
    """
    trained = learn(TrainingData.of(dataset, split, encoding, histories), config, progress, start, execution)
    return replace(trained, asked=asked_items(trained, dataset))


def learn(
    data: TrainingData,
    config: TrainingConfig,
    progress: Progress = lambda _: None,
    start: "WarmStart | None" = None,
    execution: Execution = Execution(),  # noqa: B008  # frozen
) -> Trained:
    """Learn from `data`, from `start` where there is one; a killed run with checkpoints resumes where it stopped.

    A device whose memory runs out is given half the rows a step, from the beginning, once. With several processes each
    calls this with the same arguments, and all get the same towers.
    Raises `NonFiniteLoss`, `OutOfMemory`, and `InvalidInput` for a device that is not there.
    """
    whole, halves = config.batch, max(config.batch // 2, LEAST_ROWS)
    try:
        return _run(data, config, progress, start, execution)
    except torch.OutOfMemoryError as error:
        if execution.processes.count > 1:  # the others wait in a collective call, and cannot be told
            raise OutOfMemory(f"no memory for one process's part of a batch of {whole} rows: {error}") from error
        execution.notice(f"no memory for a batch of {whole} rows, training begins anew with {halves}: {error}")
    torch.cuda.empty_cache()  # out of the handler, whose traceback held the step's tensors
    try:
        return _run(data, replace(config, batch=halves), progress, start, execution)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"no memory for a batch of {whole} rows, nor for one of {halves}: {error}") from error


def _run(
    data: TrainingData, config: TrainingConfig, progress: Progress, start: "WarmStart | None", execution: Execution
) -> Trained:
    device = device_of(config.device)
    with _seeded(config, device):
        run = begin(data, config, device, start, execution)
        for step in run.steps():
            if execution.processes.rank == 0:
                progress(step)
    model, counts = run.model.cpu().eval(), data.counts
    if run.effects is not None:
        model.adopt(run.effects.served)
    attributes = torch.from_numpy(data.examples.attributes[data.users])
    with torch.inference_mode():
        mean = ZeroShotForm(model.embeddings, model.zero_shot)(attributes).mean(dim=0)
    return Trained(
        model=model,
        encoding=data.encoding,
        config=run.config,
        mean_virtual=mean.numpy(),
        popularity=counts / max(counts.sum(), 1),
        split_ms=data.split_ms,
        counts=None if run.effects is None else run.effects.counts,
        losses=tuple(run.losses),
    )


@contextmanager
def _seeded(config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Torch's own generator, which dropout draws from, and its threads as configured; both as before on leaving."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads or max((os.cpu_count() or 2) // 2, 1))
        try:
            yield
        finally:
            torch.set_num_threads(threads)
