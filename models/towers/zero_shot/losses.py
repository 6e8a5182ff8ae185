"""What the losses of zero-shot towers are made of, eqs. 3 and 4."""

from torch import Tensor


def squared_error(guess: Tensor, target: Tensor) -> Tensor:
    """‖guess - target‖², summed over everything of an example and averaged over the B examples."""
    return (guess - target).square().flatten(1).sum(dim=1).mean()
