"""Trained towers with rows for kinds of items, which stand for the items that come after them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from foretaste.kernel.values import Attributes
from models.effects.item_kinds import KindRows, kinds_of
from models.runtime.encoding import FIRST_KNOWN
from models.towers.architecture import TowerPair, build_towers
from models.towers.embeddings import Sizes
from models.towers.ranking.experts import Experts
from models.training.questions import with_questions
from models.training.trained import Trained


def with_kinds(trained: Trained) -> Trained:
    """The towers as they are served: their tables of items have a row for each kind of item behind them.

    Nothing else changes, so that what they say of an item is the same. Training goes on from the towers without.
    """
    encoding = trained.encoding.with_kinds(kinds_of(trained.encoding))
    rows = KindRows.of(encoding, trained.popularity[FIRST_KNOWN:])
    with torch.random.fork_rng(devices=[]):
        features = torch.from_numpy(encoding.features_by_index)
        model = build_towers(Sizes.of(encoding), features, trained.config.architecture)
    model.load_state_dict(_grown(trained.model, model, rows))
    if isinstance(model.ranking, Experts) and isinstance(trained.model.ranking, Experts):
        model.ranking.acts = trained.model.ranking.acts
    popularity = np.concatenate([trained.popularity, np.zeros(len(encoding.kinds))])
    return replace(trained, model=model.eval(), encoding=encoding, popularity=popularity)


def as_served(trained: Trained, registered: Mapping[str, Attributes | None]) -> Trained:
    """The towers as they are served after these items were registered."""
    served = with_kinds(with_questions(trained))
    served.encoding.add_items(registered)
    return served


def _grown(before: TowerPair, after: TowerPair, rows: KindRows) -> Mapping[str, Tensor]:
    """The state of the towers `before`, with rows of the kinds wherever those of `after` have them."""
    state, found = before.state_dict(), after.state_dict()
    for name, value in found.items():
        if name == "embeddings.item_features":  # the kinds' own
            continue
        known = state[name]
        for axis, (was, becomes) in enumerate(zip(known.shape, value.shape, strict=True)):
            if was != becomes:
                by_item = known.movedim(axis, 0)
                of_kinds = torch.from_numpy(rows.of_table(by_item.numpy())).to(known.dtype)
                known = torch.cat([by_item, of_kinds]).movedim(0, axis)
        found[name] = known
    return found
