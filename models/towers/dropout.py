"""The one place that every tower takes its dropout from."""

from torch.nn import Dropout

__all__ = ["Dropout"]
