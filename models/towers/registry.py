"""Every tower by its name, and a user's own by where to import it from."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from foretaste.kernel.errors import InvalidInput
from models.towers.ranking.dcn import DCN, LowRankDCN
from models.towers.ranking.deepfm import DeepFM
from models.towers.ranking.din import DIN
from models.towers.ranking.dmr import DMR
from models.towers.ranking.dnn import BaseDNN
from models.towers.ranking.experts import AttributeEffects
from models.towers.ranking.recency import RecencyDNN
from models.towers.zero_shot.zero_shot import Absent, DualAutoencoder, LinearMap, MailAutoencoder, SingleAutoencoder

RANKING: Mapping[str, type[nn.Module]] = {
    "recency": RecencyDNN,
    "dnn": BaseDNN,
    "din": DIN,
    "dmr": DMR,
    "dcn": DCN,
    "dcn-low-rank": LowRankDCN,
    "deepfm": DeepFM,
}
"""Each is built as `Tower(shape: TowerShape)` and is a `RankingTower`."""
ZERO_SHOT: Mapping[str, type[nn.Module]] = {
    "effects": AttributeEffects,
    "absent": Absent,
    "none": LinearMap,
    "single": SingleAutoencoder,
    "dual": DualAutoencoder,
    "mail": MailAutoencoder,
}
"""Each is built as `Tower(shape: ZeroShotShape)` and is a `ZeroShotTower`."""


def tower_class(field: str, name: str, known: Mapping[str, type[nn.Module]]) -> type[nn.Module]:
    """The class of a tower that `known` names, or that "package.module:Class" says where to find.

    Raises `InvalidInput` naming `field` for a name that is neither, and for a class that cannot be a tower.
    """
    if name in known:
        return known[name]
    module, colon, attribute = name.partition(":")
    if not (colon and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise InvalidInput(field, name, f'expected one of {", ".join(known)}, or "package.module:Class" for your own')
    try:
        found: Any = getattr(import_module(module), attribute)
    except ImportError as error:
        raise InvalidInput(field, name, f"cannot be imported: {error}") from error
    except AttributeError as error:
        raise InvalidInput(field, name, f"the module {module} has no {attribute}") from error
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise InvalidInput(field, name, "a tower must be a class derived from torch.nn.Module")
    if found.forward is nn.Module.forward:
        raise InvalidInput(field, name, "a tower must have a forward of its own")
    return found
