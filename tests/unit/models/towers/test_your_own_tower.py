"""The tower of docs/your-own-tower.md, as it stands there, and what is refused."""

import re
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from foretaste.kernel.errors import InvalidInput
from models.generations import manifest as artifact
from models.generations.export import export
from models.generations.load import restore
from models.towers.architecture import Architecture, build_towers
from models.training.cotrain import cotrain
from tests.data_factory import write_dataset
from tests.ranking_checks import CHECKS
from tests.towers_factory import SIZES, TINY, config, dataset, tiny_mail

PAGE = (Path(__file__).parents[4] / "docs" / "your-own-tower.md").read_text(encoding="utf-8")
TOWER, TRAINING, ZERO_SHOT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
OWN = "shop_towers:Likeness"
OWN_ZERO_SHOT = "shop_zero_shot:Guess"


@pytest.fixture(autouse=True)
def shop_towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's file where Python finds it, and gone afterwards."""
    (tmp_path / "shop_towers.py").write_text(TOWER, encoding="utf-8")
    (tmp_path / "shop_zero_shot.py").write_text(ZERO_SHOT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("shop_towers", "shop_zero_shot"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_pages_tower_keeps_every_promise(check: Any) -> None:
    check(OWN)


def test_the_pages_training_exports_it(tmp_path: Path) -> None:
    write_dataset(tmp_path / "my-data", users=40, interactions=400)
    found: dict[str, object] = {}
    exec(TRAINING, found)  # noqa: S102  # the page's own lines
    assert found["generation"] == Path("generations/1")
    manifest = artifact.read_manifest(tmp_path / "generations" / "1")
    assert manifest.training["architecture"]["ranking"] == OWN
    assert manifest.parity <= 1e-4


def test_the_pages_zero_shot_tower_learns_by_its_own_losses_and_is_exported(tmp_path: Path) -> None:
    data, split = dataset()
    heard: list[Any] = []
    own = config(architecture=replace(TINY, zero_shot=OWN_ZERO_SHOT, virtual_vectors=1), warm_after=2, epochs=3)
    trained = cotrain(data, split, own, heard.append)
    losses = [step.losses["behaviour"] for step in heard if "behaviour" in step.losses]
    assert set(heard[-1].losses) == {"behaviour", "ranking"}
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    restored = restore(export(trained, data, {}, tmp_path / "generations"))
    assert restored.config.architecture.zero_shot == OWN_ZERO_SHOT
    assert np.array_equal(restored.mean_virtual, trained.mean_virtual)


@pytest.mark.parametrize("by_ranking", [True, False])
def test_a_zero_shot_tower_that_nothing_would_train_is_refused(
    monkeypatch: pytest.MonkeyPatch, by_ranking: bool
) -> None:
    class Scaled(OneVector):
        learns_by_ranking = by_ranking

        def __init__(self, shape: Any) -> None:
            super().__init__(shape)
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, attributes: Any, values: Any) -> Any:
            return self.scale * attributes[:, :1].expand(-1, TINY.virtual_vectors, -1)

    module = types.ModuleType("other_towers")
    module.Tower = Scaled
    monkeypatch.setitem(sys.modules, "other_towers", module)
    data, split = dataset()
    settings = config(architecture=replace(TINY, zero_shot="other_towers:Tower"), epochs=1, rows=500)
    if by_ranking:
        assert cotrain(data, split, settings).model.zero_shot.scale != 1.0
    else:
        with pytest.raises(InvalidInput, match=r"zero_shot: has parameters that nothing trains"):
            cotrain(data, split, settings)


def test_it_keeps_its_own_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    def constant(layer: Any) -> None:
        nn.init.constant_(layer.weight, 0.5)

    monkeypatch.setattr(nn.Linear, "reset_parameters", constant)
    assert (tiny_mail(ranking=OWN, zero_shot="mail").ranking.query.weight == 0.5).all()
    assert not (tiny_mail(ranking="dnn", zero_shot="mail").ranking.unit.weight == 0.5).any()


@pytest.mark.parametrize(
    ("field", "name", "problem"),
    [
        ("ranking", "dnm", "expected one of recency, dnn, din, dmr"),
        ("zero_shot", "nothing", "expected one of effects, trained-effects, absent"),
        ("ranking", "", "expected one of"),
        ("ranking", ":Likeness", "expected one of"),
        ("ranking", "shop_towers:", "expected one of"),
        ("ranking", "no_such_module:Tower", "cannot be imported: No module named 'no_such_module'"),
        ("ranking", ".towers:Tower", "expected one of"),
        ("ranking", "models..towers:Tower", "expected one of"),
        ("ranking", "shop_towers:Like ness", "expected one of"),
        ("ranking", "shop_towers:Unlikeness", "cannot be imported: module 'shop_towers' has no attribute 'Unlikeness'"),
        ("ranking", "shop_towers:field_vectors", "class derived from torch.nn.Module"),
        ("ranking", "shop_towers:RankingInputs", "class derived from torch.nn.Module"),
        ("ranking", "torch.nn:Module", "forward of its own"),
    ],
)
def test_what_cannot_be_a_tower_is_refused_by_field_and_value(field: str, name: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(problem)) as raised:
        Architecture(**{field: name})  # type: ignore[arg-type]  # `field` names one that is a text
    assert (raised.value.field, raised.value.value) == (field, name)


class NeedsMore(nn.Module):
    def __init__(self, shape: Any, buckets: Any) -> None:
        super().__init__()

    def forward(self, inputs: Any) -> Any:
        return inputs.owner.float()


class TwoAxes(nn.Module):
    def __init__(self, shape: Any) -> None:
        super().__init__()

    def forward(self, inputs: Any) -> Any:
        return inputs.owner.float().unsqueeze(1)


class OneVector(nn.Module):
    def __init__(self, shape: Any) -> None:
        super().__init__()

    def forward(self, attributes: Any, values: Any) -> Any:
        return attributes[:, 0]


@pytest.mark.parametrize(
    ("field", "tower", "problem"),
    [
        ("ranking", NeedsMore, "cannot be built from its shape alone: .*'buckets'"),
        ("ranking", TwoAxes, r"answers \(3, 1\) for 3 candidates"),
        ("zero_shot", OneVector, r"answers \(2, 8\), not \(2, 3, 8\)"),
    ],
)
def test_a_class_that_answers_otherwise_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, field: str, tower: Any, problem: str
) -> None:
    module = types.ModuleType("other_towers")
    module.Tower = tower
    monkeypatch.setitem(sys.modules, "other_towers", module)
    with pytest.raises(InvalidInput, match=problem) as raised:
        tiny_mail(**{field: "other_towers:Tower"})  # type: ignore[arg-type]  # `field` names one that is a text
    assert (raised.value.field, raised.value.value) == (field, "other_towers:Tower")


def test_trying_a_tower_out_draws_nothing_from_torchs_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noisy(TwoAxes):
        def forward(self, inputs: Any) -> Any:
            return inputs.owner + torch.rand(len(inputs.owner))

    class Quiet(TwoAxes):
        def forward(self, inputs: Any) -> Any:
            return inputs.owner.float()

    module = types.ModuleType("other_towers")
    module.Tower = Noisy
    monkeypatch.setitem(sys.modules, "other_towers", module)
    own = replace(TINY, ranking="other_towers:Tower")
    with torch.random.fork_rng(devices=[]):
        after = []
        for tower in (Noisy, Quiet):
            module.Tower = tower
            torch.manual_seed(0)
            build_towers(SIZES, torch.zeros(SIZES.items, 1, dtype=torch.long), own)
            after.append(torch.rand(1))
    assert torch.equal(*after)
