"""Algorithm 1, a step at a time: the towers, what each of their losses is of, and the two optimisers."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.data.examples import Batch
from models.data.stages import reads_virtual
from models.effects.fit import HeldOutCodes
from models.runtime.encoding import IndexArray
from models.towers.architecture import TowerPair
from models.towers.forms import ZeroShotForm, ranking_arguments
from models.towers.zero_shot.base import WithZeroShotLosses
from models.training.batches import part_of
from models.training.config import TrainingConfig, precision_of
from models.training.losses import RankingLoss, ZeroShotLoss, virtual_as_served
from models.training.processes import Execution

LEAST_ROWS = 2
"""Of a part of a batch: fewer cannot be normalised."""


class CoTrainer:
    """The state of Algorithm 1: the towers and their two optimisers."""

    def __init__(
        self,
        model: TowerPair,
        config: TrainingConfig,
        device: torch.device,
        codes: HeldOutCodes | None = None,
        execution: Execution = Execution(),  # noqa: B008  # frozen
    ) -> None:
        self._model = model
        self._config = config
        self._device = device
        self._codes = codes
        self._processes = processes = execution.processes
        self._zero_shot = ZeroShotForm(model.embeddings, model.zero_shot)
        own = list(model.of_zero_shot_optimiser())  # a tower may have nothing to learn by a loss of its own
        learns = own and isinstance(model.zero_shot, WithZeroShotLosses)
        self._zero_shot_loss = processes.parallel(ZeroShotLoss(model.zero_shot)) if learns else None
        precision = precision_of(config.precision, device)
        self._ranking_loss = processes.parallel(
            RankingLoss(model, config.warm_after, precision, compiled=execution.compile)
        )
        self._for_zero_shot = torch.optim.Adam(own, lr=config.zero_shot_rate, fused=True) if own else None
        self._for_ranking = torch.optim.Adam(model.of_ranking_optimiser(), lr=config.ranking_rate, fused=True)

    def step(self, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        """One round of Algorithm 1, as the paper numbers it, and its losses.

        3. flag; 4. L_zst of warm users; 5. its optimiser; 6. v̂ of the others; 7. x; 8. L_rt of all; 9. its optimiser.
        A loss that is not finite is returned before its optimiser has seen it. Each of several processes is given the
        same batch and generator, and learns from its part.
        """
        self._model.train()
        warm = np.flatnonzero(~reads_virtual(batch.seen, self._config.warm_after))
        losses = self._learn_zero_shot(batch, warm, rng)
        return {**losses, **self._learn_ranking(batch)} if finite(losses) else losses

    def state(self) -> dict[str, Tensor]:
        """All that changes from step to step, by name: parameters, buffers, moments, torch's generators."""
        found = {f"model/{name}": value for name, value in self._model.state_dict().items()}
        found["generator/cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            found["generator/cuda"] = torch.cuda.get_rng_state(self._device)
        for name, optimiser in self._optimisers().items():
            for place, moments in optimiser.state_dict()["state"].items():
                found |= {f"{name}/{place}/{moment}": value for moment, value in moments.items()}
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the `state` of another trainer."""
        self._model.load_state_dict(_under(state, "model"))
        torch.set_rng_state(state["generator/cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state["generator/cuda"], self._device)
        for name, optimiser in self._optimisers().items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(state, name).items():
                place, _, moment = key.partition("/")
                moments.setdefault(int(place), {})[moment] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        ours = {"ranking": self._for_ranking, "zero_shot": self._for_zero_shot}
        return {name: optimiser for name, optimiser in ours.items() if optimiser is not None}

    def _learn_zero_shot(self, batch: Batch, warm: IndexArray, rng: np.random.Generator) -> dict[str, float]:
        most = self._config.zero_shot_users
        if most is not None and len(warm) > most:
            warm = rng.choice(warm, most, replace=False)
        if not len(warm) or self._for_zero_shot is None or self._zero_shot_loss is None:
            return {}
        begin, end, weight = self._processes.share(np.ones(len(warm), dtype=np.int64), 1)
        own = warm[begin:end]
        embeddings = self._model.embeddings
        with torch.no_grad():  # the loss only reads embeddings (eq. 14)
            attributes = embeddings.attributes(self._tensor(batch.attributes[own]))
            behaviour, valid = embeddings.behaviour(self._tensor(batch.items[own]), self._tensor(batch.actions[own]))
        return self._descend(self._zero_shot_loss(attributes, behaviour, valid), weight, self._for_zero_shot)

    def _learn_ranking(self, batch: Batch) -> dict[str, float]:
        rows = np.bincount(batch.owner, minlength=len(batch.users))
        begin, end, weight = self._processes.share(rows, LEAST_ROWS)
        own = part_of(batch, begin, end)
        flagged = np.flatnonzero(reads_virtual(own.seen, self._config.warm_after))
        arguments = ranking_arguments(own, self._virtual(own, flagged), self._device)
        labels, of_virtual = self._tensor(own.labels), self._tensor(flagged)
        losses = self._ranking_loss(arguments, labels, of_virtual, self._popularity_bias(own), self._transition(own))
        return self._descend(losses, weight, self._for_ranking)

    def _descend(
        self, losses: Mapping[str, Tensor], weight: float, optimiser: torch.optim.Optimizer
    ) -> dict[str, float]:
        """One step down the sum of `losses`, which are means of this process's part, of that `weight`."""
        values = self._processes.mean({name: loss.item() for name, loss in losses.items()}, weight)
        if losses and finite(values):
            optimiser.zero_grad()
            # gradients are averaged over the processes: their number is made up for
            whole = torch.stack(list(losses.values())).sum() * (weight * self._processes.count)
            whole.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimiser.step()
        return values

    def _virtual(self, batch: Batch, flagged: IndexArray) -> Tensor:
        """v̂ (U, M, D) as it will be served; zeros for who needs none, and where `RankingLoss` makes it."""
        shape = self._config.architecture
        virtual = torch.zeros(len(batch.users), shape.virtual_vectors, shape.dimension, device=self._device)
        if self._codes is not None:
            codes = torch.from_numpy(self._codes.of(batch.users[flagged], batch.attributes[flagged]))
            virtual[self._tensor(flagged)] = codes.to(self._device).view(-1, *virtual.shape[1:])
        elif len(flagged) and not self._model.learns_by_ranking:
            attributes = self._tensor(batch.attributes[flagged])
            with torch.no_grad():
                virtual[self._tensor(flagged)] = virtual_as_served(self._zero_shot, attributes)
        return virtual

    def _popularity_bias(self, batch: Batch) -> Tensor | None:
        """(R,) what popularity at each moment adds to the cold expert's biases."""
        popularity = None if self._codes is None else self._codes.effects.popularity
        if popularity is None:
            return None
        owner = batch.owner
        return self._tensor(popularity.of(batch.times_ms[owner], batch.seen[owner], batch.candidates))

    def _transition(self, batch: Batch) -> Tensor | None:
        """(R,) the transitions to each candidate, as they were known by then."""
        transitions = None if self._codes is None else self._codes.effects.transitions
        if transitions is None:
            return None
        return self._tensor(transitions.of(batch.times_ms, batch.items, batch.owner, batch.candidates))

    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._device)


def finite(losses: Mapping[str, float]) -> bool:
    """Whether all losses are finite."""
    return all(math.isfinite(value) for value in losses.values())


def _under(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}
