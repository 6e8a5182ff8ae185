"""A hook that marks each batch of a torch model on a stopwatch, whichever trainer drives the model."""

from typing import Any

from torch import nn

from benchmarks.timing import Stopwatch


def watch_batches(model: nn.Module, batch: int, watch: Stopwatch) -> None:
    """Mark the stopwatch whenever the model is about to read a batch: the batches before have been learned by then.

    The last batch is never marked, so a smaller one at the end of an epoch is not counted.
    """
    started = 0

    def about_to_read(_module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        nonlocal started
        watch.mark(started, float(started * batch))
        started += 1

    model.register_forward_pre_hook(about_to_read)
