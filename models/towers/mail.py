"""MAIL-Base: the paper's two towers around one embedding table."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from foretaste.errors import InvalidInput
from models import checks
from models.towers.autoencoder import CODE, FIRST, SECOND
from models.towers.embeddings import Embeddings, Sizes
from models.towers.ranking import HIDDEN, BaseDNN
from models.towers.zero_shot import DualAutoencoder


@dataclass(frozen=True, slots=True)
class Architecture:
    """The widths of MAIL-Base; the defaults are the paper's, but for M."""

    dimension: int = 32
    """D, floats in an embedding."""
    virtual_vectors: int = 4
    """M, vectors of virtual behaviour: 100 (= L) is the paper's layout, 1 the pooled vector. The paper's ranking tower
    pools them by a sum, so M changes what is stored and the decoder's last layer, not what that tower can read."""
    attention: int = 32
    """Width of z in eq. 2."""
    encoder: tuple[int, int, int] = (FIRST, SECOND, CODE)
    """Eq. 15, 1024-512-512; the decoders run it backwards (eq. 16)."""
    hidden: tuple[int, ...] = HIDDEN
    """Eq. 12, 512-256."""
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Raises `InvalidInput` naming the field."""
        checks.at_least(self, {"dimension": 1, "virtual_vectors": 1, "attention": 1})
        checks.shares(self, "dropout")
        for name in ("encoder", "hidden"):
            if min(getattr(self, name), default=0) < 1:
                raise InvalidInput(name, getattr(self, name), "needs a width, and each must be at least 1")


class Mail(nn.Module):
    """Both towers and the table they share. Which optimiser owns what is fixed here (eq. 14)."""

    def __init__(self, embeddings: Embeddings, zero_shot: DualAutoencoder, ranking: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.zero_shot = zero_shot
        self.ranking = ranking

    def of_zero_shot_optimiser(self) -> Iterator[nn.Parameter]:
        """The zero-shot tower's own parameters: no embedding is among them."""
        return self.zero_shot.parameters()

    def of_ranking_optimiser(self) -> Iterator[nn.Parameter]:
        """The ranking tower's parameters and the whole embedding table."""
        yield from self.embeddings.parameters()
        yield from self.ranking.parameters()


def mail_base(sizes: Sizes, item_features: Tensor, architecture: Architecture) -> Mail:
    """MAIL-Base with Xavier initialisation, drawn from torch's current generator."""
    first, second, code = architecture.encoder
    model = Mail(
        Embeddings(sizes, item_features, architecture.dimension),
        DualAutoencoder(
            len(sizes.attributes),
            architecture.virtual_vectors,
            architecture.dimension,
            attention=architecture.attention,
            first=first,
            second=second,
            code=code,
            dropout=architecture.dropout,
        ),
        BaseDNN(architecture.dimension, hidden=architecture.hidden, dropout=architecture.dropout),
    )
    model.apply(_xavier)
    return model


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.xavier_uniform_(module.weight)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
