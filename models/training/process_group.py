"""Several processes that train together, as torchrun starts them: one a GPU, or gloo on the CPU.

Every process draws the same batches from the same generator and learns from its own part of each. What a process needs
of the network is torchrun's to say; `models.training.processes` holds what one process alone needs, and never
imports this.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from torch import distributed, nn

from foretaste.kernel.errors import InvalidInput
from models.runtime.encoding import IndexArray
from models.training.config import Device, device_of
from models.training.processes import Share

T = TypeVar("T")
PATIENCE = timedelta(minutes=60)
"""The first process fits the effects and writes checkpoints while the others wait."""


@dataclass(frozen=True, slots=True)
class TorchProcessGroup:
    """The process group of torchrun's environment, as `models.training.processes.ProcessGroup` has it."""

    rank: int
    count: int
    device: torch.device

    def share(self, sizes: IndexArray, least: int) -> Share:
        return share(sizes, least, self.rank, self.count)

    def parallel(self, module: nn.Module) -> nn.Module:
        """On a GPU batches are normalised over all processes' rows; on the CPU, by each over its own."""
        if self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # torch's
        # a tower may leave parameters unused; running statistics are settled at the end
        return nn.parallel.DistributedDataParallel(module, find_unused_parameters=True, forward_sync_buffers=False)

    def mean(self, values: Mapping[str, float], weight: float) -> dict[str, float]:
        weighed = [weight * value for value in values.values()]
        total = torch.tensor(weighed, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return dict(zip(values, total.tolist(), strict=True))

    def from_first(self, make: Callable[[], T]) -> T:
        box = [make() if self.rank == 0 else None]
        distributed.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]  # by now everybody's

    def reseed(self, seed: int, step: int) -> None:
        state = np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def settle(self, model: nn.Module) -> None:
        """The mean of each floating buffer: running means and variances; all others are equal, and stay."""
        for buffer in model.buffers():
            if buffer.is_floating_point():
                mean = buffer / self.count
                distributed.all_reduce(mean)
                buffer.copy_(mean)


@contextmanager
def process_group(environment: Mapping[str, str], device: Device = "auto") -> Iterator[TorchProcessGroup]:
    """Join the group that torchrun's `environment` tells of, and leave it at the end.

    Raises `InvalidInput` for a device that is not there, and for more processes on a machine than it has GPUs.
    """
    chosen = device_of(device)
    if chosen.type == "cuda":
        chosen = _own_gpu(int(environment["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield TorchProcessGroup(distributed.get_rank(), distributed.get_world_size(), chosen)
    finally:
        distributed.destroy_process_group()


def _own_gpu(local_rank: int) -> torch.device:
    found = torch.cuda.device_count()
    if local_rank >= found:
        raise InvalidInput("nproc-per-node", local_rank + 1, f"is more processes than this machine has GPUs, {found}")
    own = torch.device("cuda", local_rank)
    torch.cuda.set_device(own)
    return own


def share(sizes: IndexArray, least: int, rank: int, count: int) -> Share:
    """The part of one of `count` processes: see `models.training.processes.ProcessGroup.share`.

    Parts are of as many rows as elements of these `sizes` (U,) allow. Fewer parts are made where one would have fewer
    than `least` rows, and the processes that are left over repeat the first, at no weight: so all of them take the same
    steps, and none waits for another.
    """
    filled = np.concatenate([[0], np.cumsum(sizes)])
    cuts = next(cuts for parts in range(count, 0, -1) if _holds(cuts := _cuts(filled, parts), filled, least))
    idle = rank >= len(cuts) - 1
    begin, end = cuts[:2] if idle else cuts[rank : rank + 2]
    return Share(int(begin), int(end), 0.0 if idle else float((filled[end] - filled[begin]) / filled[-1]))


def _cuts(filled: IndexArray, parts: int) -> IndexArray:
    """(parts + 1,): where to cut elements of which so many rows lie before each, (U + 1,)."""
    inner = np.searchsorted(filled, np.arange(1, parts) * (filled[-1] / parts), side="left")
    cuts: IndexArray = np.concatenate([[0], inner, [len(filled) - 1]])
    return cuts


def _holds(cuts: IndexArray, filled: IndexArray, least: int) -> bool:
    """Whether each part has `least` rows; one part need not."""
    return len(cuts) == 2 or int(np.diff(filled[cuts]).min()) >= least  # noqa: PLR2004  # the two ends
