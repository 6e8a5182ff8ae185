"""The BaseDNN that several rivals train, and complete with behaviour made up for users without any."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from foretaste.kernel.errors import ForetasteError, InvalidInput
from foretaste.kernel.values import FloatArray
from models.data.examples import Batch, encode_users
from models.data.indices import field_indices, item_indices
from models.rivals.events import Numbers
from models.rivals.methods import Material
from models.rivals.towers import MILDEST, lengthened, slowed
from models.runtime.encoding import PADDING, IndexArray
from models.towers.architecture import Architecture
from models.towers.forms import ranking_arguments
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.loop import Step
from models.training.trained import Trained

KEPT = 8
"""Trained towers that a process keeps: several rivals of one material and seed read the same one."""
USERS_AT_ONCE = 65536


def base_config() -> TrainingConfig:
    """BaseDNN trained on all histories; the made-up behaviour is one vector, the pooled behaviour (eq. 11)."""
    return TrainingConfig(
        architecture=Architecture(ranking="dnn", zero_shot="absent", virtual_vectors=1, dropout=0.5),
        masked="nobody",
        warm_after=1,
        ranking_rate=0.005,
    )


def longer(config: TrainingConfig) -> TrainingConfig:
    """As `lengthened`, with less dropout: what tuning also tries of the towers themselves."""
    return lengthened(config).with_dropout(MILDEST)


def slower(config: TrainingConfig) -> TrainingConfig:
    """As `longer`, in smaller steps: the mildest that tuning tries."""
    return slowed(longer(config))


@dataclass(frozen=True, eq=False)
class Base:
    """A trained ranking tower that the rivals read and never change."""

    trained: Trained

    @property
    def dimension(self) -> int:
        return self.trained.config.architecture.dimension

    def attribute_vectors(self, attributes: IndexArray) -> FloatArray:
        """Embedded attributes side by side: (B, N) indices to (B, N * D)."""
        with torch.inference_mode():
            found: FloatArray = (
                self.trained.model.embeddings.attributes(torch.from_numpy(attributes)).flatten(1).numpy()
            )
        return found

    def pooled(self, items: IndexArray, actions: IndexArray) -> FloatArray:
        """Eq. 11: behaviour of B users, `items` and `actions` (B, L), summed to (B, D)."""
        with torch.inference_mode():
            vectors, valid = self.trained.model.embeddings.behaviour(torch.from_numpy(items), torch.from_numpy(actions))
            found: FloatArray = (vectors * valid.unsqueeze(2)).sum(dim=1).numpy()
        return found

    def virtual(self, pooled: npt.NDArray[np.floating]) -> torch.Tensor:
        """Pooled behaviour (B, D) as virtual behaviour (B, M, D): M vectors whose sum it is."""
        virtual = torch.zeros(len(pooled), self.trained.config.architecture.virtual_vectors, self.dimension)
        virtual[:, 0] = torch.from_numpy(np.asarray(pooled, dtype=np.float32))
        return virtual


@dataclass(frozen=True, eq=False)
class WarmUsers:
    """U training users with behaviour before the split, as the base embeds them."""

    users: IndexArray
    """(U,) rows of `Dataset.users`."""
    attributes: IndexArray
    """(U, N) indices."""
    vectors: FloatArray
    """(U, N * D): embedded attributes."""
    behaviour: FloatArray
    """(U, D): pooled behaviour."""

    @classmethod
    def of(cls, base: Base, material: Material, newest: int) -> "WarmUsers":
        """The warm users, the `newest` behaviours of each pooled. Raises `InvalidInput` where nobody has any."""
        users, behaviour = [], []
        for part, items, actions in histories_at_split(material):
            seen = (items != PADDING).sum(axis=1)
            kept = np.arange(items.shape[1]) >= seen[:, None] - newest
            pooled = base.pooled(np.where(kept, items, PADDING), np.where(kept, actions, PADDING))
            users.append(part[seen > 0])
            behaviour.append(pooled[seen > 0])
        found = np.concatenate(users)
        if not len(found):
            raise InvalidInput("interactions", 0, "training holds no behaviour of any user to learn from")
        attributes = encode_users(material.dataset, material.encoding)[found]
        return cls(found, attributes, base.attribute_vectors(attributes), np.concatenate(behaviour))


def histories_at_split(material: Material) -> Iterator[tuple[IndexArray, IndexArray, IndexArray]]:
    """All users (B,) in parts, with what each has done before the split: items and actions (B, L)."""
    everybody = np.arange(len(material.dataset.users))
    for part in np.array_split(everybody, len(everybody) // USERS_AT_ONCE + 1):
        instants = np.full(len(part), material.split.instant_ms, dtype=np.int64)
        items, actions, _ = material.histories.before(part, instants)
        yield part, items, actions


Imputation = Callable[[IndexArray], npt.NDArray[np.floating]]
"""Attributes (B, N) to the pooled behaviour (B, D) that stands for the one that these users do not have."""


@dataclass(frozen=True, eq=False)
class ImputingRanker:
    """The base, reading `impute`'s behaviour for users without any, and the real behaviour of the others."""

    base: Base
    impute: Imputation

    def scores(self, batch: Batch) -> Numbers:
        cold = np.flatnonzero(batch.seen == 0)
        pooled = np.zeros((len(batch.users), self.base.dimension), dtype=np.float32)
        if len(cold):
            tuples, which = np.unique(batch.attributes[cold], axis=0, return_inverse=True)
            pooled[cold] = self.impute(tuples)[which.ravel()]
        with torch.inference_mode():
            virtual = self.base.virtual(pooled)
            logits = self.base.trained.ranking.logits(*ranking_arguments(batch, virtual, virtual.device))
        found: Numbers = logits.double().numpy()
        if not np.isfinite(found).all():
            raise ForetasteError("the ranking tower gave scores that are not finite; it cannot be judged")
        return found


def base_of(material: Material, config: TrainingConfig) -> Base:
    """The tower trained on `material` as `config` says, its seed, threads and device the material's.

    Trained once in a process for the same material and configuration, of which the last `KEPT` are remembered.
    """
    config = replace(config, seed=material.seed, threads=material.threads, device=material.device)
    return Base(_trained(_CacheKey(_digest(material), config, material)))


@dataclass(frozen=True)
class _CacheKey:
    """The key of a trained tower in the cache: the content of the material, and the configuration."""

    digest: str
    config: TrainingConfig
    material: Material = field(compare=False, repr=False)


@lru_cache(maxsize=KEPT)
def _trained(wanted: _CacheKey) -> Trained:
    material = wanted.material

    def report(step: Step) -> None:
        material.progress(step.number, step.total)

    trained = cotrain(
        material.dataset,
        material.split,
        wanted.config,
        progress=report,
        encoding=material.encoding,
        histories=material.histories,
    )
    trained.model.requires_grad_(requires_grad=False)
    return trained


def _digest(material: Material) -> str:
    """Of everything that training reads; a dataset's own fingerprint does not tell its parts and protocols apart."""
    train = material.split.train
    digest = hashlib.blake2b(material.encoding.to_json().encode())

    def add(values: npt.NDArray[Any]) -> None:
        digest.update(f"{values.dtype}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())

    add(np.array([material.split.instant_ms, material.dataset.has_labels]))
    add(material.dataset.user_rows(train["user_id"]))
    add(item_indices(material.dataset, material.encoding, train["item_id"]))
    add(train["time_ms"].to_numpy(dtype=np.int64))
    add(train["label"].to_numpy())
    for name, one in material.encoding.context.items():
        add(field_indices(one, train[name]))
    add(encode_users(material.dataset, material.encoding))
    for _, items, actions in histories_at_split(material):
        add(items)
        add(actions)
    return digest.hexdigest()
