"""What unit tests share."""

from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of torch: several threads of tiny work wait for each other, for long on a busy machine."""
    import torch  # noqa: PLC0415  # most unit tests do without

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
