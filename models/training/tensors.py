"""A batch of arrays as the tensors that the serving forms read."""

import torch
from torch import Tensor

from models.data.examples import Batch


def ranking_arguments(batch: Batch, virtual: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """The arguments of `RankingForm.inputs`, with virtual behaviour (U, M, D), on the device."""
    before = (batch.attributes, batch.context, batch.items, batch.actions)
    after = (batch.candidates, batch.owner)
    return (
        *(torch.from_numpy(values).to(device) for values in before),
        virtual,
        *(torch.from_numpy(values).to(device) for values in after),
    )
