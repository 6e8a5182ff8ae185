"""Marks a batch of any torch model, whichever trainer drives it."""

from typing import Any

from torch import nn

from benchmarks.stopwatch import Stopwatch


def watch_batches(model: nn.Module, batch: int, watch: Stopwatch) -> None:
    """Mark the stopwatch whenever the model is about to read a batch: those before it are learned by then.

    The last batch is never marked, so a smaller one at the end of an epoch is not counted.
    """
    begun = 0

    def about_to_read(_module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        nonlocal begun
        watch.mark(begun, float(begun * batch))
        begun += 1

    model.register_forward_pre_hook(about_to_read)
