"""Every tower by its name, and a tower of one's own by its import path."""

import inspect
from collections.abc import Mapping

from torch import nn

from foretaste.kernel.configuration import resolve
from foretaste.kernel.errors import InvalidInput

RANKING: Mapping[str, str] = {
    "recency": "models.towers.ranking.recency:RecencyDNN",
    "dnn": "models.towers.ranking.dnn:BaseDNN",
    "din": "models.towers.ranking.din:DIN",
    "dmr": "models.towers.ranking.dmr:DMR",
    "dcn": "models.towers.ranking.dcn:DCN",
    "dcn-low-rank": "models.towers.ranking.dcn:LowRankDCN",
    "deepfm": "models.towers.ranking.deepfm:DeepFM",
    "hstu": "models.towers.ranking.hstu:HSTU",
}
"""Import paths; each is built as `Tower(shape: TowerShape)` and is a `RankingTower`."""
ZERO_SHOT: Mapping[str, str] = {
    "effects": "models.towers.zero_shot.effects:AttributeEffects",
    "trained-effects": "models.towers.zero_shot.effects:TrainedEffects",
    "absent": "models.towers.zero_shot.plain:Absent",
    "none": "models.towers.zero_shot.plain:LinearMap",
    "single": "models.towers.zero_shot.mail:SingleAutoencoder",
    "dual": "models.towers.zero_shot.mail:DualAutoencoder",
    "mail": "models.towers.zero_shot.mail:MailAutoencoder",
}
"""Import paths; each is built as `Tower(shape: ZeroShotShape)` and is a `ZeroShotTower`."""
FITTED = ("effects", "trained-effects")
"""Those whose codes are fitted before the first step, and beside which the ranking tower becomes one of two experts."""


def tower_class(field: str, name: str, known: Mapping[str, str]) -> type[nn.Module]:
    """The class of a tower that `known` names, or that "package.module:Class" says where to find.

    Raises `InvalidInput` naming `field` for a name that is neither, and for a class that cannot be a tower.
    """
    found = resolve(field, name, known)
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise InvalidInput(field, name, "a tower must be a class derived from torch.nn.Module")
    if found.forward is nn.Module.forward:
        raise InvalidInput(field, name, "a tower must have a forward of its own")
    return found
