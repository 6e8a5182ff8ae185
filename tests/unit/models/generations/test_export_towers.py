"""Every tower as ONNX answers as it did in torch, from no behaviour to more than fits."""

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.effects.by_gradient.factors import DescentConfig
from models.effects.fit import EffectsConfig
from models.generations.export import export_towers
from models.generations.parity import answered, compare
from models.runtime import layout as files
from models.runtime.layout import MOST_USERS
from models.runtime.local import LocalTowers
from models.towers.registry import RANKING, ZERO_SHOT
from models.training.cotrain import cotrain
from tests.towers_factory import TINY, artifacts, config, dataset, requests

PAIRS = list(zip_longest(RANKING, ZERO_SHOT))
"""Each tower of both kinds once."""


@pytest.mark.parametrize(("ranking", "zero_shot"), PAIRS)
def test_every_tower_is_served_as_it_was_trained(ranking: Any, zero_shot: Any, tmp_path: Path) -> None:
    data, split = dataset()
    architecture = replace(TINY, ranking=ranking or "dnn", zero_shot=zero_shot or "absent")
    effects = EffectsConfig(descent=DescentConfig(least_steps=20))
    trained = cotrain(
        data, split, config(architecture=architecture, effects=effects, epochs=1, rows=1500, warm_after=4)
    )
    (tmp_path / files.ENCODING).write_text(trained.encoding.to_json(), encoding="utf-8")
    export_towers(trained, tmp_path)
    assert compare(answered(trained), tmp_path) <= 1e-5
    served = LocalTowers.of(tmp_path)
    virtual = served.virtual_behaviour([request.attributes for request in requests()])
    assert virtual.any() == (architecture.zero_shot != "absent")
    for count in (1, len(requests())):
        scores = served.score(requests()[:count])
        assert len(np.unique(np.concatenate(scores))) > 1


def test_more_users_than_one_run_takes_are_scored_as_each_alone() -> None:
    served, wanted = LocalTowers.of(artifacts()[0]), requests(2 * MOST_USERS + 1)
    alone = [own for request in wanted for own in served.score([request])]
    for found, expected in zip(served.score(wanted), alone, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
