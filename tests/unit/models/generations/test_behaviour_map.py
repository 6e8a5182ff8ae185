"""The map of real and virtual behaviour that an export makes, and the place of a new user on it."""

import json
from pathlib import Path

import numpy as np
import pytest

from foretaste.kernel.errors import DamagedArtifact, InvalidInput
from models.data.examples import encode_users
from models.generations.behaviour_map import write_map
from models.generations.placing import StoredMap, read_map
from models.runtime import layout
from models.training.cotrain import cotrain
from tests.towers_factory import artifacts, config, dataset, trained


def stored() -> StoredMap:
    found = read_map(artifacts()[0] / layout.MAP)
    assert found is not None
    return found


def test_an_export_lays_real_and_virtual_behaviour_out_on_one_plane() -> None:
    found = stored()
    assert 2 <= len(found.virtual) <= len(found.real) <= 300
    points = np.array([*found.real, *found.virtual])
    np.testing.assert_allclose(points.min(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(points.max(axis=0), 1, atol=1e-3)
    assert layout.MAP in json.loads((artifacts()[0] / layout.MANIFEST).read_text())["files"]


def test_a_user_of_known_attributes_is_placed_on_the_known_virtual_behaviour() -> None:
    found, towers, data = stored(), trained(0), dataset()[0]
    known = set(found.virtual)
    attributes = encode_users(data, towers.encoding)[:20]
    import torch  # noqa: PLC0415  # the towers bring it anyway

    with torch.inference_mode():
        vectors = towers.zero_shot(torch.from_numpy(attributes)).numpy()
    placed = [found.place(each) for each in vectors]
    on_one = [each for each in placed if each.distance < 1e-3]
    assert on_one, "users of the data share attributes"
    assert all(min(abs(each.x - x) + abs(each.y - y) for x, y in known) < 1e-3 for each in on_one)


def test_what_is_between_two_known_ones_lies_between_their_points() -> None:
    made = StoredMap(
        shape=(1, 2),
        real=[(0, 0)],
        virtual=[(0, 0), (1, 0), (0.5, 1)],
        mean=[0, 0],
        components=[[1, 0], [0, 1]],
        known=[[-1, 0], [1, 0], [0, 9]],
    )
    placed = made.place(np.array([[0.5, 0.0]], np.float32))
    assert 0.5 < placed.x < 1
    assert placed.y < 0.2
    assert made.place(np.array([[1, 0]], np.float32)).x == 1
    with pytest.raises(InvalidInput, match=r"virtual_behaviour: expected the shape \[1, 2\]"):
        made.place(np.zeros((2, 1), np.float32))


def test_the_papers_towers_have_a_map_too(tmp_path: Path) -> None:
    data, split = dataset()
    write_map(cotrain(data, split, config(epochs=1)), data, tmp_path / layout.MAP)
    found = read_map(tmp_path / layout.MAP)
    assert found is not None
    assert len(found.real) > 2


def test_an_earlier_generation_has_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert read_map(tmp_path / layout.MAP) is None
    with pytest.raises(DamagedArtifact, match="nowhere is missing"):
        read_map(tmp_path / "nowhere" / layout.MAP)
    content = stored().model_dump(mode="json")
    damages: list[dict[str, object]] = [{"known": []}, {"mean": [0.0]}, {"known": [[0.0]] * len(content["virtual"])}]
    for wrong in damages:
        (tmp_path / layout.MAP).write_text(json.dumps(content | wrong))
        with pytest.raises(DamagedArtifact, match=r"map\.json is malformed"):
            read_map(tmp_path / layout.MAP)
