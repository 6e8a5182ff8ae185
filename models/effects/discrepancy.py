"""How far two samples of codes are from one distribution, eqs. 5 and 6."""

import torch
from torch import Tensor


def gaussian_kernel(x: Tensor, y: Tensor, sigma: float = 1.0) -> Tensor:
    """Eq. 6 between each of `x` (A, H) and each of `y` (B, H): (A, B)."""
    distance = x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * (x @ y.T)
    return torch.exp(-distance.clamp(min=0) / (2 * sigma**2))


def discrepancy(p: Tensor, q: Tensor, sigma: float = 1.0) -> Tensor:
    """Eq. 5: the squared maximum mean discrepancy between the codes `p` (B, H) and `q` (B, H)."""
    return (
        gaussian_kernel(p, p, sigma).mean()
        + gaussian_kernel(q, q, sigma).mean()
        - 2 * gaussian_kernel(p, q, sigma).mean()
    )
