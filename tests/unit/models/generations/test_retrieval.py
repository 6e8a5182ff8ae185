"""The index as it is made from a generation's files."""

import json
from pathlib import Path

import numpy as np
import pytest

from foretaste.kernel.errors import DamagedArtifact
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.users import Behaviour
from models.generations.export import export
from models.generations.in_process import InProcessTowers
from models.generations.repository import write_version
from models.runtime import layout
from models.runtime.local import LocalTowers
from models.training.cotrain import cotrain
from tests.towers_factory import METRICS, artifacts, config, dataset, requests


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """An artifact of an earlier version, which exported no index."""
    folder = tmp_path / "1"
    folder.mkdir()
    for path in artifacts()[0].iterdir():
        if path.name != layout.RETRIEVAL:
            (folder / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((folder / layout.MANIFEST).read_text())
    del manifest["files"][layout.RETRIEVAL]
    (folder / layout.MANIFEST).write_text(json.dumps(manifest))
    return folder


async def test_an_index_that_an_earlier_version_did_not_export_is_made_when_it_is_published(
    earlier: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    write_version(earlier, repository)
    towers, today = InProcessTowers(repository), LocalTowers.of(artifacts()[0])
    asked = [CandidateRequest(each.behaviour, each.virtual, 20, 5, 5, 1) for each in requests(10)]
    assert await towers.candidates(asked, 1) == today.candidates(asked)
    await towers.close()


def test_it_is_made_of_files_that_are_what_the_manifest_says(earlier: Path, tmp_path: Path) -> None:
    (earlier / layout.POPULARITY).write_text("{}")
    with pytest.raises(DamagedArtifact, match=r"popularity\.json"):
        write_version(earlier, tmp_path / "repository")
    assert not (tmp_path / "repository" / "retrieval" / "1").exists()


def test_the_index_is_under_its_hash_in_the_manifest() -> None:
    manifest = json.loads((artifacts()[0] / layout.MANIFEST).read_text())
    assert layout.RETRIEVAL in manifest["files"]


def test_towers_without_keys_are_asked_for_the_bias_of_each_item(tmp_path: Path) -> None:
    data, split = dataset()
    folder = export(cotrain(data, split, config()), data, METRICS, tmp_path)
    towers = LocalTowers.of(folder)
    asked = CandidateRequest(Behaviour(), np.zeros((3, 8), np.float32), nearest=20, popular=0, exploratory=0, seed=0)
    (found,) = towers.candidates([asked])
    wanted = requests(32)
    virtual = towers.virtual_behaviour([each.attributes for each in wanted])
    items = towers.encoding.items
    scores = np.mean(
        [
            towers.score([RankingInput(each.attributes, {}, Behaviour(), vectors, items)])[0]
            for each, vectors in zip(wanted, virtual, strict=True)
        ],
        axis=0,
    )
    best = [items[place] for place in np.argsort(-scores)[:20]]
    assert len(set(found) & set(best)) >= 15
