"""What every ranking tower must do, one small function a promise; each takes what `Architecture.ranking` takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from foretaste.kernel.values import MAX_BEHAVIOUR
from models.runtime.encoding import PADDING
from models.towers.architecture import TowerPair
from models.towers.forms import RankingForm
from models.towers.ranking.base import WithAuxiliaryLoss
from models.training.losses import ranking_loss
from tests.towers_factory import SIZES, TINY, tiny_mail

LENGTHS = (0, 1, 2, 5, 20, MAX_BEHAVIOUR)
EACH = 3
"""Candidates of each user."""
WARM_AFTER = 4


@dataclass(frozen=True, eq=False)
class Indices:
    """What `RankingForm` reads, of one user for each of `LENGTHS`, from cold to full."""

    attributes: Tensor
    context: Tensor
    items: Tensor
    actions: Tensor
    virtual: Tensor
    candidates: Tensor
    owner: Tensor

    @classmethod
    def drawn(cls, lengths: tuple[int, ...] = LENGTHS) -> "Indices":
        users, rng = len(lengths), torch.Generator().manual_seed(1)
        shown = torch.arange(MAX_BEHAVIOUR) < torch.tensor(lengths).unsqueeze(1)

        def draw(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high, shape, generator=rng)

        return cls(
            attributes=torch.stack([draw(0, size, users) for size in SIZES.attributes], dim=1),
            context=torch.stack([draw(0, size, users) for size in SIZES.context], dim=1),
            items=torch.where(shown, draw(1, SIZES.items, *shown.shape), PADDING),
            actions=torch.where(shown, draw(1, SIZES.actions, *shown.shape), PADDING),
            virtual=torch.randn(users, TINY.virtual_vectors, TINY.dimension, generator=rng),
            candidates=draw(1, SIZES.items, users * EACH),
            owner=torch.arange(users).repeat_interleave(EACH),
        )

    def of_user(self, user: int) -> "Indices":
        """One user alone with its candidates."""
        own = self.owner == user
        shared = {name: getattr(self, name)[user : user + 1] for name in ("attributes", "context", "items", "actions")}
        return Indices(
            **shared,
            virtual=self.virtual[user : user + 1],
            candidates=self.candidates[own],
            owner=torch.zeros(int(own.sum()), dtype=torch.long),
        )

    def logits(self, form: RankingForm) -> Tensor:
        return form.logits(
            self.attributes, self.context, self.items, self.actions, self.virtual, self.candidates, self.owner
        )


def towers(ranking: str, **changes: Any) -> TowerPair:
    """Tiny towers with embeddings of some size, so that a difference shows, and with statistics of some batches."""
    built = tiny_mail(ranking=ranking, zero_shot="mail", **changes)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for parameter in built.embeddings.parameters():
            parameter.mul_(5)
        built.train()
        for _ in range(5):
            Indices.drawn().logits(_form(built))
    return built.eval()


def _form(built: TowerPair, warm_after: int = WARM_AFTER) -> RankingForm:
    return RankingForm(built.embeddings, built.ranking, warm_after)


def _answers(built: TowerPair, inputs: Indices, warm_after: int = WARM_AFTER) -> Tensor:
    with torch.inference_mode():
        return inputs.logits(_form(built, warm_after))


def one_finite_logit_a_candidate(ranking: str) -> None:
    """From no behaviour to as much as fits, with virtual behaviour and without."""
    built, inputs = towers(ranking), Indices.drawn()
    for each in (inputs, replace(inputs, virtual=torch.zeros_like(inputs.virtual))):
        logits = _answers(built, each)
        assert logits.shape == inputs.candidates.shape
        assert torch.isfinite(logits).all()


def more_padding_changes_nothing(ranking: str) -> None:
    """In evaluation and, with dropout off, in training: no statistic of a batch sees padding."""
    built, inputs = towers(ranking, dropout=0.0), Indices.drawn((0, 1, 2, 5))
    short = replace(inputs, items=inputs.items[:, :6], actions=inputs.actions[:, :6])
    torch.testing.assert_close(_answers(built, short), _answers(built, inputs))
    built.train()
    torch.testing.assert_close(_answers(built, short), _answers(built, inputs))


def what_lies_in_padding_changes_nothing(ranking: str) -> None:
    built, inputs = towers(ranking), Indices.drawn()
    garbage = torch.where(inputs.items == PADDING, SIZES.actions - 1, inputs.actions)
    assert torch.equal(_answers(built, inputs), _answers(built, replace(inputs, actions=garbage)))


def what_weighs_nothing_changes_nothing(ranking: str) -> None:
    """A warm user's answer does not depend on virtual behaviour."""
    built, inputs = towers(ranking), Indices.drawn((WARM_AFTER, 20))
    torch.testing.assert_close(
        _answers(built, inputs), _answers(built, replace(inputs, virtual=inputs.virtual * 100 + 3))
    )


def without_virtual_behaviour_the_real_one_counts_in_full(ranking: str) -> None:
    built, inputs = towers(ranking), Indices.drawn()
    inputs = replace(inputs, virtual=torch.zeros_like(inputs.virtual))
    torch.testing.assert_close(_answers(built, inputs), _answers(built, inputs, warm_after=1))


def virtual_behaviour_changes_the_answer_of_cold_and_warming_users(ranking: str) -> None:
    built, inputs = towers(ranking), Indices.drawn((0, 1, 3))
    one, other = _answers(built, inputs), _answers(built, replace(inputs, virtual=inputs.virtual.flip(0) * 2))
    assert ((one - other).abs() > 1e-4).view(3, EACH).any(dim=1).all()


def real_behaviour_changes_the_answer(ranking: str) -> None:
    built, inputs = towers(ranking), Indices.drawn((5, 20))
    others = replace(inputs, items=torch.where(inputs.items == PADDING, PADDING, 1 + inputs.items % (SIZES.items - 1)))
    assert ((_answers(built, inputs) - _answers(built, others)).abs() > 1e-4).view(2, EACH).any(dim=1).all()


def the_order_of_candidates_does_not_matter(ranking: str) -> None:
    built, inputs = towers(ranking), Indices.drawn()
    order = torch.randperm(len(inputs.owner), generator=torch.Generator().manual_seed(3))
    shuffled = replace(inputs, candidates=inputs.candidates[order], owner=inputs.owner[order])
    torch.testing.assert_close(_answers(built, shuffled), _answers(built, inputs)[order])


def each_user_and_each_candidate_is_answered_as_if_alone(ranking: str) -> None:
    built, inputs = towers(ranking), Indices.drawn()
    close: dict[str, Any] = {"rtol": 2e-5, "atol": 1e-5}  # a product of another height sums in another order
    together = _answers(built, inputs).view(-1, EACH)
    for user, expected in enumerate(together):
        alone = inputs.of_user(user)
        torch.testing.assert_close(_answers(built, alone), expected, **close)
        first = replace(alone, candidates=alone.candidates[:1], owner=alone.owner[:1])
        torch.testing.assert_close(_answers(built, first), expected[:1], **close)


def indices_of_either_width_are_read(ranking: str) -> None:
    built, inputs = towers(ranking), Indices.drawn()
    names = ("attributes", "context", "items", "actions", "candidates", "owner")
    narrow = replace(inputs, **{name: getattr(inputs, name).int() for name in names})
    torch.testing.assert_close(_answers(built, narrow), _answers(built, inputs))


def mixed_precision_is_near(ranking: str) -> None:
    built, inputs = towers(ranking, dropout=0.0), Indices.drawn()
    expected = _answers(built, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(_answers(built, inputs).float(), expected, rtol=0.05, atol=0.1)
        loss = _loss(built.train(), inputs)
    loss.backward()
    found = [parameter.grad for parameter in built.parameters() if parameter.grad is not None]
    assert found
    assert all(torch.isfinite(gradient).all() for gradient in found)


def the_ranking_loss_reaches_the_whole_table_and_every_parameter(ranking: str) -> None:
    built, inputs = towers(ranking), Indices.drawn()
    built.train()
    _loss(built, inputs).backward()
    embeddings = built.embeddings
    for row in (inputs.candidates[0], inputs.items[-1, 0]):
        assert embeddings.items.weight.grad is not None
        assert embeddings.items.weight.grad[row].any()
    for part in (embeddings.attributes, embeddings.context, embeddings.item_attributes, embeddings.actions):
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())
    assert not embeddings.items.weight.grad[PADDING].any()
    assert [name for name, each in built.ranking.named_parameters() if each.grad is None] == []


def gradients_are_finite_where_there_is_no_behaviour_at_all(ranking: str) -> None:
    built, inputs = towers(ranking), Indices.drawn((0, 0, 0))
    built.train()
    _loss(built, replace(inputs, virtual=torch.zeros_like(inputs.virtual))).backward()
    found = [parameter.grad for parameter in built.parameters() if parameter.grad is not None]
    assert found
    assert all(torch.isfinite(gradient).all() for gradient in found)


def virtual_behaviour_passes_a_gradient_on(ranking: str) -> None:
    """So that a zero-shot tower can be trained through it."""
    built, inputs = towers(ranking), Indices.drawn((0, 1, 20))
    virtual = inputs.virtual.clone().requires_grad_()
    _loss(built, replace(inputs, virtual=virtual)).backward()
    assert virtual.grad is not None
    assert virtual.grad[:2].flatten(1).any(dim=1).all()
    assert not virtual.grad[2].any()


def a_seed_gives_the_same_tower_and_the_same_training(ranking: str) -> None:
    def trained(seed: int) -> Tensor:
        built = tiny_mail(seed, ranking=ranking, zero_shot="mail").train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            optimiser = torch.optim.Adam(built.of_ranking_optimiser(), lr=0.01)
            for _ in range(2):
                optimiser.zero_grad()
                _loss(built, Indices.drawn()).backward()
                optimiser.step()
        return _answers(built.eval(), Indices.drawn())

    assert torch.equal(trained(4), trained(4))
    assert not torch.equal(trained(4), trained(5))


def training_lowers_the_loss(ranking: str) -> None:
    built, inputs = towers(ranking, dropout=0.0), Indices.drawn()
    built.train()
    optimiser = torch.optim.Adam(built.of_ranking_optimiser(), lr=0.01)
    losses = []
    for _ in range(25):
        loss = ranking_loss(inputs.logits(_form(built)), _labels(inputs))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def _loss(built: TowerPair, inputs: Indices) -> Tensor:
    form = _form(built)
    read = form.inputs(
        inputs.attributes,
        inputs.context,
        inputs.items,
        inputs.actions,
        inputs.virtual,
        inputs.candidates,
        inputs.owner,
    )
    loss = ranking_loss(built.ranking(read), _labels(inputs))
    auxiliary = built.ranking.auxiliary_loss(read) if isinstance(built.ranking, WithAuxiliaryLoss) else None
    return loss if auxiliary is None else loss + auxiliary


def _labels(inputs: Indices) -> Tensor:
    return (torch.arange(len(inputs.owner)) % 3 == 0).float()


CHECKS: tuple[Callable[[str], None], ...] = (
    one_finite_logit_a_candidate,
    more_padding_changes_nothing,
    what_lies_in_padding_changes_nothing,
    what_weighs_nothing_changes_nothing,
    without_virtual_behaviour_the_real_one_counts_in_full,
    virtual_behaviour_changes_the_answer_of_cold_and_warming_users,
    real_behaviour_changes_the_answer,
    the_order_of_candidates_does_not_matter,
    each_user_and_each_candidate_is_answered_as_if_alone,
    indices_of_either_width_are_read,
    mixed_precision_is_near,
    the_ranking_loss_reaches_the_whole_table_and_every_parameter,
    gradients_are_finite_where_there_is_no_behaviour_at_all,
    virtual_behaviour_passes_a_gradient_on,
    a_seed_gives_the_same_tower_and_the_same_training,
    training_lowers_the_loss,
)
