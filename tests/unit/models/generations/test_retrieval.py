"""The index as it is made from a generation's files."""

import json
from dataclasses import replace
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
from models.runtime.candidates import encode_requests, items_of
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


def test_of_a_user_without_behaviour_the_nearest_are_the_towers_own_best_at_each_age() -> None:
    towers = LocalTowers.of(artifacts()[0])
    items, virtual = towers.encoding.items, requests(1)[0].virtual
    ages = [None, *towers.encoding.age_bounds]
    asked = CandidateRequest(Behaviour(), virtual, nearest=10, popular=0, exploratory=0, seed=0)
    found = [towers.candidates([replace(asked, age_ms=age)])[0] for age in ages]
    scores = [towers.score([RankingInput({}, {}, Behaviour(), virtual, items, age)])[0] for age in ages]
    assert found == [[items[place] for place in np.argsort(-own, kind="stable")[:10]] for own in scores]
    assert len({tuple(own) for own in found}) > 1, "ages tell something"


async def test_an_index_answers_a_caller_of_an_earlier_version_which_sends_no_age() -> None:
    folder = artifacts()[0]
    towers, earlier = LocalTowers.of(folder), replace(LocalTowers.of(folder).encoding, age_bounds=())
    asked = [CandidateRequest(each.behaviour, each.virtual, 20, 5, 5, 1, age_ms=None) for each in requests(10)]
    tensors = encode_requests(earlier, asked)
    towers.retrieval.check(*tensors)
    assert items_of(earlier, towers.retrieval.run(*tensors), asked) == towers.candidates(asked)


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
