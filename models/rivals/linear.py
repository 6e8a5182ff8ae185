"""The linear maps from attributes to behaviour: EmbLR and LLAE."""

from collections.abc import Sequence
from dataclasses import field, replace

import numpy as np
import pydantic.dataclasses
import scipy.linalg
from pydantic import PositiveInt
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from foretaste.kernel.configuration import NO_OTHER_FIELDS, NonNegativeFloat, PositiveFloat, raises_invalid_input
from models.rivals.base import ImputingRanker, WarmUsers, base_config, base_of, longer, slower
from models.rivals.events import Numbers
from models.rivals.methods import Material
from models.training.config import TrainingConfig


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class EmbLR:
    """The linear baseline of LLAE: v̂ = aW + b with W, b = argmin Σ_u ‖v_u - a_u W - b‖² + penalty ‖W‖².

    a_u (N * D) are the embedded attributes of training user u side by side, v_u (D) the pooled behaviour; the solver is
    scikit-learn's `Ridge`. MAIL's authors call EmbLR a logistic regression over embeddings that ranks by itself. Such a
    sum of user terms and item terms ranks alike for all users, so the linear part is kept where it can tell users
    apart: as the map from attributes to the behaviour that BaseDNN reads.
    """

    penalty: PositiveFloat = 10.0
    newest: PositiveInt = 100
    """Behaviours pooled of each training user, the newest ones."""
    base: TrainingConfig = field(default_factory=base_config)
    """Of the ranking tower that reads it."""

    def fit(self, material: Material) -> ImputingRanker:
        base = base_of(material, self.base)
        warm = WarmUsers.of(base, material, self.newest)
        with threadpool_limits(material.threads, "blas"):
            model = Ridge(alpha=self.penalty).fit(warm.vectors.astype(np.float64), warm.behaviour.astype(np.float64))
        return ImputingRanker(
            base, lambda attributes: model.predict(base.attribute_vectors(attributes)).reshape(len(attributes), -1)
        )

    def trials(self) -> Sequence["EmbLR"]:
        better = replace(self, base=longer(self.base))
        slow = replace(self, base=slower(self.base))
        return self, better, replace(better, penalty=30 * self.penalty), replace(better, newest=20), slow


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class LLAE:
    """Low-rank linear auto-encoder (Li et al., From Zero-Shot Learning to Cold-Start Recommendation, AAAI 2019).

    With behaviour X (D, U) and attributes S (K, U) of U users, one matrix W (K, D) encodes behaviour into attributes
    and, transposed, decodes attributes into behaviour:

        min ‖X - Wᵀ S‖² + λ ‖W X - S‖² + β Σ_{i > rank} σ_i(W)².

    What is low-rank is W: the squares of all but its `rank` largest singular values σ_i are penalised, their sum being
    tr(Γᵀ W Wᵀ Γ) with Γ the left singular vectors of the others. For a fixed Γ the minimum solves a Sylvester equation,

        (S Sᵀ + β Γ Γᵀ) W + λ W X Xᵀ = (1 + λ) S Xᵀ;

    Γ and W are found in turns. A user without behaviour gets v̂ = Wᵀ s.
    Here X is pooled behaviour and S the attributes side by side, both as the base embeds them, as in MAIL's comparison;
    each row is standardised (the paper's W has no intercept), and S Sᵀ, X Xᵀ, S Xᵀ are means over users, so that β
    weighs the same whatever U.
    """

    rank: PositiveInt = 8
    balance: PositiveFloat = 1.0
    """λ, of the encoder's loss."""
    weight: NonNegativeFloat = 30.0
    """β, of the low-rank loss; 30 in MAIL's comparison, found by cross-validation there."""
    rounds: PositiveInt = 10
    """Turns of Γ and W."""
    newest: PositiveInt = 100
    """Behaviours pooled of each training user, the newest ones."""
    base: TrainingConfig = field(default_factory=base_config)
    """Of the ranking tower that reads it."""

    def fit(self, material: Material) -> ImputingRanker:
        base = base_of(material, self.base)
        warm = WarmUsers.of(base, material, self.newest)
        attributes, behaviour = StandardScaler(), StandardScaler()
        s, x = attributes.fit_transform(warm.vectors.astype(np.float64)), behaviour.fit_transform(warm.behaviour)
        with threadpool_limits(material.threads, "blas"):
            w = low_rank_map(s.T, x.T, self)
        return ImputingRanker(
            base,
            lambda rows: behaviour.inverse_transform(attributes.transform(base.attribute_vectors(rows)) @ w),
        )

    def trials(self) -> Sequence["LLAE"]:
        better = replace(self, base=longer(self.base))
        slow = replace(self, base=slower(self.base))
        return self, better, replace(better, rank=max(self.rank // 4, 1)), replace(better, newest=20), slow


RIDGE = 1e-6
"""Added to the diagonal of S Sᵀ, so that the equation has one solution where attributes are collinear."""


def low_rank_map(attributes: Numbers, behaviour: Numbers, method: LLAE) -> Numbers:
    """W (K, D) of LLAE for S = `attributes` (K, U) and X = `behaviour` (D, U)."""
    users = attributes.shape[1]
    encoded = attributes @ attributes.T / users + RIDGE * np.eye(len(attributes))
    decoded = method.balance * (behaviour @ behaviour.T) / users
    joint = (1 + method.balance) * (attributes @ behaviour.T) / users
    w: Numbers = scipy.linalg.solve_sylvester(encoded, decoded, joint)
    for _ in range(method.rounds):
        w = scipy.linalg.solve_sylvester(encoded + method.weight * beyond(w, method.rank), decoded, joint)
    return w


def beyond(w: Numbers, rank: int) -> Numbers:
    """Γ Γᵀ (K, K): the projection onto all left singular vectors of W (K, D) but those of the `rank` largest values."""
    largest = np.linalg.svd(w, full_matrices=False)[0][:, :rank]
    found: Numbers = np.eye(len(w)) - largest @ largest.T
    return found
