"""Which towers, how wide, and both of them around one embedding table."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Protocol, runtime_checkable

import pydantic.dataclasses
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from foretaste.kernel.configuration import NO_OTHER_FIELDS, ShareBelowOne, raises_invalid_input
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import MAX_BEHAVIOUR
from models.effects.fit import Effects
from models.runtime.encoding import PADDING, UNKNOWN
from models.towers.embeddings import Embeddings, Sizes
from models.towers.forms import RankingForm, ZeroShotForm
from models.towers.ranking.base import TowerShape
from models.towers.ranking.experts import Experts
from models.towers.registry import RANKING, ZERO_SHOT, tower_class
from models.towers.zero_shot.autoencoder import CODE, FIRST, SECOND
from models.towers.zero_shot.base import ZeroShotShape


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class Architecture:
    """The towers and their widths. The paper's are "dnn", "mail" and a dropout of 0.5; its other widths are here."""

    ranking: str = "recency"
    """A name of `registry.RANKING`, or "package.module:Class" for a tower of one's own."""
    zero_shot: str = "effects"
    """A name of `registry.ZERO_SHOT`, or "package.module:Class". With one of `FITTED` the ranking tower becomes the
    warm one of two experts."""
    dimension: PositiveInt = 32
    """D, floats in an embedding."""
    virtual_vectors: PositiveInt = 4
    """M, vectors of virtual behaviour: 100 (= L) is the paper's layout, 1 the pooled vector. A ranking tower that
    pools them by a sum cannot tell M; one that attends can."""
    attention: PositiveInt = 32
    """Width of z in eq. 2."""
    encoder: tuple[PositiveInt, PositiveInt, PositiveInt] = (FIRST, SECOND, CODE)
    """Eq. 15, 1024-512-512; the decoders run it backwards (eq. 16)."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    """Widths of the ranking tower's perceptron; None: those of the tower's own paper, 512-256 in eq. 12."""
    dropout: ShareBelowOne = 0.1

    def __post_init__(self) -> None:
        """Raises `InvalidInput` naming the field of a tower that cannot be found."""
        tower_class("ranking", self.ranking, RANKING)
        tower_class("zero_shot", self.zero_shot, ZERO_SHOT)
        tower_class("zero_shot", self.zero_shot, ZERO_SHOT)


@runtime_checkable
class ReadsEffects(Protocol):
    """A tower that holds what was fitted to attributes; a zero-shot tower of this kind makes the ranking tower one."""

    def adopt(self, effects: Effects) -> None:
        """Take what it reads of the fit."""
        ...


class TowerPair(nn.Module):
    """Both towers and the table they share. Which optimiser owns what is fixed here (eq. 14)."""

    def __init__(self, embeddings: Embeddings, zero_shot: nn.Module, ranking: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.zero_shot = zero_shot
        self.ranking = ranking

    @property
    def learns_by_ranking(self) -> bool:
        """Whether L_rt trains the zero-shot tower, through v̂."""
        return bool(getattr(self.zero_shot, "learns_by_ranking", False))

    @property
    def reads_effects(self) -> bool:
        """Whether effects are fitted for them before training, which both towers hold."""
        return isinstance(self.zero_shot, ReadsEffects) and isinstance(self.ranking, ReadsEffects)

    def adopt(self, effects: Effects) -> None:
        """Give both towers what they read of the fit; nothing to a tower that reads none."""
        for tower in (self.zero_shot, self.ranking):
            if isinstance(tower, ReadsEffects):
                tower.adopt(effects)

    def of_zero_shot_optimiser(self) -> Iterator[nn.Parameter]:
        """The zero-shot tower's own parameters where it has a loss of its own: no embedding is among them."""
        if not self.learns_by_ranking:
            yield from self.zero_shot.parameters()

    def of_ranking_optimiser(self) -> Iterator[nn.Parameter]:
        """The ranking tower's parameters, the whole embedding table, and a zero-shot tower that L_rt trains."""
        yield from self.embeddings.parameters()
        yield from self.ranking.parameters()
        if self.learns_by_ranking:
            yield from self.zero_shot.parameters()


def build_towers(sizes: Sizes, item_features: Tensor, architecture: Architecture) -> TowerPair:
    """Untrained towers, drawn from torch's current generator: by Xavier, but for a ranking tower of one's own.

    `item_features` (items, F) are the encoded attributes of each item. Raises `InvalidInput` for a tower of one's own
    that cannot be built from its shape, or does not answer as a tower must.
    """
    shape = tower_shape(sizes, architecture)
    zero_shot = _built("zero_shot", architecture.zero_shot, ZERO_SHOT, zero_shot_shape(sizes, architecture))
    ranking = _built("ranking", architecture.ranking, RANKING, shape)
    towers = TowerPair(Embeddings(sizes, item_features, architecture.dimension), zero_shot, ranking)
    towers.embeddings.apply(_xavier)
    for part, name, known in (
        (towers.zero_shot, architecture.zero_shot, ZERO_SHOT),
        (towers.ranking, architecture.ranking, RANKING),
    ):
        if name in known:
            part.apply(_xavier)
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # whatever a tower draws, training starts the same
        _check_answers(towers.eval(), architecture)
    if isinstance(zero_shot, ReadsEffects):
        towers.ranking = Experts(shape, ranking)
    return towers.train()


def tower_shape(sizes: Sizes, architecture: Architecture) -> TowerShape:
    """What a ranking tower is built from."""
    return TowerShape(
        dimension=architecture.dimension,
        attributes=len(sizes.attributes),
        context=len(sizes.context),
        target=1 + len(sizes.item_attributes),
        behaviour=MAX_BEHAVIOUR,
        virtual_vectors=architecture.virtual_vectors,
        items=sizes.items,
        hidden=architecture.hidden,
        dropout=architecture.dropout,
        ages=sizes.ages,
        kinds=sizes.kinds,
    )


def zero_shot_shape(sizes: Sizes, architecture: Architecture) -> ZeroShotShape:
    """What a zero-shot tower is built from."""
    return ZeroShotShape(
        sizes=sizes.attributes,
        vectors=architecture.virtual_vectors,
        dimension=architecture.dimension,
        attention=architecture.attention,
        encoder=architecture.encoder,
        dropout=architecture.dropout,
    )


def _built(field: str, name: str, known: Mapping[str, str], shape: TowerShape | ZeroShotShape) -> nn.Module:
    chosen = tower_class(field, name, known)
    try:
        return chosen(shape)
    except TypeError as error:
        raise InvalidInput(field, name, f"cannot be built from its shape alone: {error}") from error


def _check_answers(towers: TowerPair, architecture: Architecture) -> None:
    """Raises `InvalidInput` where the towers' answer to two users, with one and two candidates, has a wrong shape."""
    sizes = towers.embeddings.sizes
    attributes = torch.zeros(2, len(sizes.attributes), dtype=torch.long)
    virtual = ZeroShotForm(towers.embeddings, towers.zero_shot)(attributes)
    expected = (2, architecture.virtual_vectors, architecture.dimension)
    if virtual.shape != expected:
        raise InvalidInput("zero_shot", architecture.zero_shot, f"answers {tuple(virtual.shape)}, not {expected}")
    items = torch.tensor([[PADDING, PADDING], [UNKNOWN, PADDING]])
    logits = RankingForm(towers.embeddings, towers.ranking, warm_after=1).logits(
        attributes,
        torch.zeros(2, len(sizes.context), dtype=torch.long),
        items,
        items,
        virtual,
        torch.full((3,), UNKNOWN),
        torch.tensor([0, 1, 1]),
    )
    if logits.shape != (3,):
        problem = f"answers {tuple(logits.shape)} for 3 candidates, not one logit each, (3,)"
        raise InvalidInput("ranking", architecture.ranking, problem)


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.xavier_uniform_(module.weight)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
