"""DropoutNet: latent vectors of a factorisation, and a network that learns to do without them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import implicit.als
import numpy as np
import pydantic.dataclasses
import scipy.sparse
import torch
from pydantic import Field, PositiveInt
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from foretaste.kernel.configuration import NO_OTHER_FIELDS, PositiveFloat, ShareBelowOne, raises_invalid_input
from models.data.examples import Batch
from models.rivals.events import Numbers, TrainingBehaviour
from models.rivals.generator import minimise, seeded, shuffled
from models.rivals.methods import Material
from models.runtime.encoding import FIRST_KNOWN, IndexArray, sizes_of
from models.towers.embeddings import FieldEmbedding


class Side(nn.Module):
    """f of one side, users or items: preference (B, H) and content, B rows of F field indices, to a vector (B, H).

    One hidden layer of tanh over [preference, Σ of the embedded content].
    """

    def __init__(self, sizes: Sequence[int], factors: int, hidden: int) -> None:
        super().__init__()
        self.content = FieldEmbedding(sizes, factors)
        self.network = nn.Sequential(nn.Linear(2 * factors, hidden), nn.Tanh(), nn.Linear(hidden, factors))

    def forward(self, preference: Tensor, content: Tensor) -> Tensor:
        return self.network(torch.cat([preference, self.content(content).sum(dim=1)], dim=1))  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class DropoutNetRanker:
    """f_U applied to who asks, against f_V of every item worked out once."""

    users: Side
    latent: Tensor
    """(item_count, H): V; zeros for what has none."""
    items: Tensor
    """(item_count, H): f_V."""

    def scores(self, batch: Batch) -> Numbers:
        with torch.inference_mode():
            preference = self.transformed(batch.items)
            made = self.users(preference, torch.from_numpy(batch.attributes))
            scores = (made[batch.owner] * self.items[batch.candidates]).sum(dim=1)
        found: Numbers = scores.double().numpy()
        return found

    def transformed(self, items: IndexArray) -> Tensor:
        """The user transform of behaviour (U, L): the mean V of the known items in it, (U, H); zeros where none is."""
        known = torch.from_numpy(items >= FIRST_KNOWN)
        total = (self.latent[items] * known.unsqueeze(2)).sum(dim=1)
        return total / known.sum(dim=1, keepdim=True).clamp(min=1)


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class DropoutNet:
    """DropoutNet (Volkovs, Yu and Poutanen, DropoutNet: Addressing Cold Start in Recommender Systems, NeurIPS 2017).

    U and V are the latent vectors of implicit-feedback matrix factorisation (Hu, Koren and Volinsky, ICDM 2008; the ALS
    of the library `implicit`). Networks f_U(U_u, Φ_u) and f_V(V_i, Φ_i) of preference and content (the attributes)
    learn to reproduce the relevance by

        min Σ_{u,i} (U_u V_iᵀ - f_U(U_u, Φ_u) f_V(V_i, Φ_i)ᵀ)²,

    while the preference of a random share of the users, and of the items, is dropped (set to 0), and that of another
    share of the users is the user transform mean_{i of u} V_i in place of U_u. Asked about a user without behaviour
    f_U reads 0, about one with some behaviour the transform of it: latent vectors are not looked up by user, so that
    hidden behaviour stays hidden. Pairs are drawn, users evenly, half of a step's items evenly and half by their
    actions. Departures: one hidden layer a side, preferences scaled to unit deviation in place of batch normalisation.
    """

    dropout: ShareBelowOne = 0.5
    """Share of the users, and of the items, of a step whose preference is dropped."""
    transform: ShareBelowOne = 0.25
    """Share of the users of a step, of those that keep a preference, who are read by the user transform."""
    factors: PositiveInt = 32
    """H."""
    regularisation: PositiveFloat = 0.05
    """Of the factorisation."""
    confidence: PositiveFloat = 10.0
    """Of the factorisation: an item acted on r times weighs 1 + confidence * r."""
    rounds: PositiveInt = 15
    """Of the factorisation."""
    hidden: PositiveInt = 128
    rate: PositiveFloat = 0.003
    """Of Adam."""
    epochs: PositiveInt = 100
    batch: PositiveInt = 256
    """Users a step, about."""
    items: Annotated[int, Field(ge=2)] = 512
    """Items a step."""

    def fit(self, material: Material) -> DropoutNetRanker:
        behaviour = TrainingBehaviour.of(material)
        u, v = self._factorise(behaviour.matrix, material)
        with seeded(material):
            learner = _Learner(self, material, behaviour, u, v)
            parts = shuffled(len(u), self.batch, self.epochs, learner.rng)
            minimise(learner.parameters(), self.rate, parts, learner.loss)
            with torch.inference_mode():
                items = learner.item_side(learner.v, learner.item_content)
        return DropoutNetRanker(learner.user_side.eval(), learner.v, items)

    def trials(self) -> Sequence["DropoutNet"]:
        return (
            self,
            replace(self, confidence=self.confidence / 5),
            replace(self, confidence=self.confidence / 25),
            replace(self, factors=max(self.factors // 2, 1)),
            replace(self, factors=2 * self.factors),
        )

    def _factorise(self, matrix: scipy.sparse.csr_matrix, material: Material) -> tuple[Tensor, Tensor]:
        """U (U, H) and V (item_count, H), each scaled to unit deviation; V is 0 for what nobody acted on."""
        with threadpool_limits(1, "blas"):  # the library's own threads and those of BLAS slow each other down
            model = implicit.als.AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularisation,
                alpha=self.confidence,
                iterations=self.rounds,
                num_threads=material.threads,
                random_state=material.seed,
                use_gpu=False,
            )
            model.fit(matrix.astype(np.float32), show_progress=False)
        met = np.asarray(matrix.sum(axis=0)).ravel() > 0
        v = np.where(met[:, None], model.item_factors, 0.0)
        v[:FIRST_KNOWN] = 0.0
        return torch.from_numpy(_scaled(model.user_factors)), torch.from_numpy(_scaled(v))


class _Learner:
    """The two networks, their inputs and the loss of a step."""

    def __init__(
        self, method: DropoutNet, material: Material, behaviour: TrainingBehaviour, u: Tensor, v: Tensor
    ) -> None:
        encoding = material.encoding
        self.method = method
        self.rng = np.random.default_rng(material.seed)
        self.u, self.v = u, v
        self.user_side = Side(sizes_of(encoding.attributes), method.factors, method.hidden)
        self.item_side = Side(sizes_of(encoding.item_attributes), method.factors, method.hidden)
        self.user_content = torch.from_numpy(behaviour.attributes)
        self.item_content = torch.from_numpy(encoding.item_features)
        totals = np.asarray(behaviour.matrix.sum(axis=1))
        self.transformed = torch.from_numpy((behaviour.matrix @ v.numpy() / totals).astype(np.float32))
        self._actions = np.asarray(behaviour.matrix.sum(axis=0)).ravel()
        self._actions = self._actions / self._actions.sum()

    def parameters(self) -> list[nn.Parameter]:
        return [*self.user_side.parameters(), *self.item_side.parameters()]

    def loss(self, part: IndexArray) -> Tensor:
        """Mean squared error of the relevance of the users `part` (B,) to items drawn for this step."""
        known = len(self.v) - FIRST_KNOWN
        half = self.method.items // 2
        even = self.rng.integers(FIRST_KNOWN, FIRST_KNOWN + known, half)
        items = np.concatenate([even, self.rng.choice(len(self.v), half, p=self._actions)])
        wanted = self.u[part] @ self.v[items].T
        users = self.user_side(self.user_preference(part), self.user_content[part])
        kept = torch.from_numpy(self.rng.random((len(items), 1)) >= self.method.dropout)
        made = users @ self.item_side(self.v[items] * kept, self.item_content[items]).T
        error: Tensor = (wanted - made).square().mean()
        return error

    def user_preference(self, part: IndexArray) -> Tensor:
        """(B, H): U_u, the user transform, or 0."""
        kept = torch.from_numpy(self.rng.random((len(part), 1)) >= self.method.dropout)
        swapped = torch.from_numpy(self.rng.random((len(part), 1)) < self.method.transform)
        preference: Tensor = torch.where(swapped, self.transformed[part], self.u[part])
        return preference * kept


def _scaled(vectors: Numbers) -> Numbers:
    """With unit deviation around 0 overall, zeros staying zeros."""
    found: Numbers = (vectors / max(float(np.sqrt(np.square(vectors).mean())), 1e-12)).astype(np.float32)
    return found
