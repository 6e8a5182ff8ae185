"""Auxiliary losses that ranking towers carry themselves."""

import torch
from torch import Tensor


def sampled_softmax(states: Tensor, table: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
    """Mean cross-entropy of each state's target against the same drawn items, all by dot product.

    `states` (B, D), `table` (items, D), `targets` (B,) and `drawn` (S,) are indices. The draw is uniform, so that its
    correction is one constant and falls out. A drawn item that is the target itself does not count against it.
    """
    own = (states * table[targets]).sum(dim=1, keepdim=True)
    others = (states @ table[drawn].T).masked_fill(targets.unsqueeze(1) == drawn, float("-inf"))
    return (torch.cat([own, others], dim=1).logsumexp(dim=1) - own.squeeze(1)).mean()
