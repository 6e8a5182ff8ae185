"""What every method of the comparison is: something that learns from the training material and then ranks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from foretaste.kernel.configuration import resolve
from models.data.dataset import Dataset
from models.data.examples import Batch
from models.data.histories import Histories
from models.data.split import TimeSplit
from models.runtime.encoding import Encoding

TRIALS = 5
"""Settings that tuning tries of every method, its own among them."""


@dataclass(frozen=True, eq=False)
class Material:
    """What a method may learn from: what lies before the split, and nothing else.

    `dataset` and `split` hold no interaction at or after the instant, so that no method can read one: `split.test`,
    `cold_users` and `warm_users` are empty. Users are rows of `dataset.users`, the same everywhere in the evaluation.
    """

    dataset: Dataset
    split: TimeSplit
    encoding: Encoding
    histories: Histories
    """Of what lies before the split."""
    seed: int
    threads: int
    device: Literal["cpu", "cuda", "auto"]
    progress: Callable[[int, int], None] = lambda _done, _total: None


class Ranker(Protocol):
    """A fitted method, which scores candidates."""

    def scores(self, batch: Batch) -> npt.NDArray[np.float64]:
        """(R,) finite scores of the batch's candidates, higher is better.

        Reads the behaviour that the batch shows (`batch.items`, `batch.actions`: strictly earlier, or hidden), never
        its labels.
        """
        ...


class Method(Protocol):
    """A frozen dataclass of hyperparameters; deterministic given the material. Its `repr` names its settings whole."""

    def fit(self, material: Material) -> Ranker: ...

    def trials(self) -> Sequence["Method"]:
        """`TRIALS` settings: itself first, then the others that tuning tries."""
        ...


FACTORIES: dict[str, str] = {
    "foretaste": "models.rivals.towers:foretaste",
    "foretaste-dnn": "models.rivals.towers:foretaste_dnn",
    "foretaste-din": "models.rivals.towers:foretaste_din",
    "foretaste-dmr": "models.rivals.towers:foretaste_dmr",
    "foretaste-dcn": "models.rivals.towers:foretaste_dcn",
    "foretaste-deepfm": "models.rivals.towers:foretaste_deepfm",
    "foretaste-hstu": "models.rivals.towers:foretaste_hstu",
    "recency": "models.rivals.towers:recency",
    "dnn": "models.rivals.towers:dnn",
    "dnn-flagged": "models.rivals.towers:dnn_flagged",
    "dnn-dropout": "models.rivals.towers:dnn_dropout",
    "din": "models.rivals.towers:din",
    "dmr": "models.rivals.towers:dmr",
    "dcn": "models.rivals.towers:dcn",
    "deepfm": "models.rivals.towers:deepfm",
    "hstu": "models.rivals.towers:hstu",
    "none": "models.rivals.towers:none",
    "single": "models.rivals.towers:single",
    "dual": "models.rivals.towers:dual",
    "mail": "models.rivals.towers:mail",
    "mail-dmr": "models.rivals.towers:mail_dmr",
    "mail-no-losses": "models.rivals.ablated_towers:mail_without_losses",
    "mail-no-behaviour-loss": "models.rivals.ablated_towers:mail_without_behaviour_loss",
    "mail-no-attribute-loss": "models.rivals.ablated_towers:mail_without_attribute_loss",
    "cold-expert": "models.rivals.ablated_towers:cold_expert",
    "seen-biases": "models.rivals.ablated_towers:seen_biases",
    "foretaste-no-effects": "models.rivals.ablated_towers:without_effects",
    "foretaste-no-transitions": "models.rivals.ablated_towers:without_transitions",
    "foretaste-no-acts": "models.rivals.ablated_towers:without_acts",
    "foretaste-gradient": "models.rivals.ablated_towers:by_gradient",
    "foretaste-combined": "models.rivals.ablated_towers:combined",
    "foretaste-reconstruction": "models.rivals.ablated_towers:with_reconstruction",
    "foretaste-papers-losses": "models.rivals.ablated_towers:with_papers_losses",
    "popularity": "models.rivals.popularity:Popularity",
    "recent-popularity": "models.rivals.recent_popularity:RecentPopularity",
    "item-attribute": "models.rivals.item_attribute:ItemAttribute",
    "neighbours": "models.rivals.neighbours:Neighbours",
    "mean-behaviour": "models.rivals.mean_behaviour:MeanBehaviour",
    "emblr": "models.rivals.linear:EmbLR",
    "llae": "models.rivals.linear:LLAE",
    "dropoutnet": "models.rivals.dropoutnet:DropoutNet",
    "metaemb": "models.rivals.metaemb:MetaEmb",
    "cmclrec": "models.rivals.cmclrec:CMCLRec",
}
"""The import path of each method's factory, a callable without arguments; imported only when it is asked for."""


def by_name(name: str, field: str = "towers") -> Method:
    """The method registered as `name`, or what the factory at an import path, "package.module:factory", makes.

    Raises `InvalidInput` naming the `field` that it came from and listing the known names.
    """
    factory: Callable[[], Method] = resolve(field, name, FACTORIES)
    return factory()
