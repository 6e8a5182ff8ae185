"""Which towers, how wide, and both of them around one embedding table."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from foretaste.contracts import MAX_BEHAVIOUR
from foretaste.errors import InvalidInput
from models import checks
from models.towers.autoencoder import CODE, FIRST, SECOND
from models.towers.embeddings import Embeddings, Sizes
from models.towers.ranking import TowerShape
from models.towers.registry import RANKING, ZERO_SHOT, tower_class
from models.towers.zero_shot import ZeroShotShape


@dataclass(frozen=True, slots=True)
class Architecture:
    """The towers and their widths; the defaults are MAIL-Base with the paper's widths, but for M."""

    ranking: str = "dnn"
    """A name of `registry.RANKING`, or "package.module:Class" for a tower of one's own."""
    zero_shot: str = "mail"
    """A name of `registry.ZERO_SHOT`, or "package.module:Class"."""
    dimension: int = 32
    """D, floats in an embedding."""
    virtual_vectors: int = 4
    """M, vectors of virtual behaviour: 100 (= L) is the paper's layout, 1 the pooled vector. A ranking tower that
    pools them by a sum cannot tell M; one that attends can."""
    attention: int = 32
    """Width of z in eq. 2."""
    encoder: tuple[int, int, int] = (FIRST, SECOND, CODE)
    """Eq. 15, 1024-512-512; the decoders run it backwards (eq. 16)."""
    hidden: tuple[int, ...] | None = None
    """Widths of the ranking tower's perceptron; None: those of the tower's own paper, 512-256 in eq. 12."""
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Raises `InvalidInput` naming the field."""
        checks.at_least(self, {"dimension": 1, "virtual_vectors": 1, "attention": 1})
        checks.shares(self, "dropout")
        for name in ("encoder", "hidden"):
            widths = getattr(self, name)
            if widths is not None and min(widths, default=0) < 1:
                raise InvalidInput(name, widths, "needs a width, and each must be at least 1")
        tower_class("ranking", self.ranking, RANKING)
        tower_class("zero_shot", self.zero_shot, ZERO_SHOT)


class Towers(nn.Module):
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


def build_towers(sizes: Sizes, item_features: Tensor, architecture: Architecture) -> Towers:
    """Untrained towers, drawn from torch's current generator: by Xavier, but for a ranking tower of one's own.

    `item_features` (items, F) are the encoded attributes of each item. Raises `InvalidInput` for a tower of one's own
    that cannot be built from its shape, or does not answer as a tower must.
    """
    embeddings = Embeddings(sizes, item_features, architecture.dimension)
    zero_shot = tower_class("zero_shot", architecture.zero_shot, ZERO_SHOT)(
        ZeroShotShape(
            attributes=len(sizes.attributes),
            vectors=architecture.virtual_vectors,
            dimension=architecture.dimension,
            attention=architecture.attention,
            encoder=architecture.encoder,
            dropout=architecture.dropout,
        )
    )
    ranking = tower_class("ranking", architecture.ranking, RANKING)(tower_shape(sizes, architecture))
    towers = Towers(embeddings, zero_shot, ranking)
    towers.apply(_xavier)
    return towers


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
    )


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.xavier_uniform_(module.weight)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
