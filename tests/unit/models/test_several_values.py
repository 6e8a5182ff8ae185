"""Lists and vectors from the files of a data set to a served generation, and on to the next one."""

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import Scalar, Value
from models.data.dataset import Dataset, read_dataset
from models.data.split import split_by_time
from models.data.stored_users import DatasetUsers
from models.data.vocabulary import fit_encoding, grown
from models.evaluation.offline import evaluate
from models.generations.export import export
from models.generations.load import restore
from models.log.join import joined
from models.log.schema import LogSchema
from models.runtime.candidates import matching
from models.runtime.fields import ListEncoder, VectorEncoder
from models.runtime.local import LocalTowers
from models.training.cotrain import cotrain
from models.training.data_summary import summarise
from models.training.warm_start import WarmStart
from tests.data_factory import PORTRAIT, SEGMENTS, with_several_values, write_dataset
from tests.towers_factory import SMALL, config
from tests.window_factory import acted, logged, shown

FORMATS = pytest.mark.parametrize("fmt", ["parquet", "csv"])


def _data(folder: Path, fmt: Literal["parquet", "csv"] = "parquet", **sizes: Any) -> Dataset:
    return read_dataset(with_several_values(write_dataset(folder, fmt=fmt, **sizes)))


@FORMATS
def test_lists_are_read_from_both_kinds_of_file(tmp_path: Path, fmt: Literal["parquet", "csv"]) -> None:
    users = _data(tmp_path, fmt).users
    interests, portraits = users["interests"].tolist(), users["portrait"].tolist()
    assert {type(each) for each in (*interests, *portraits)} == {tuple, type(None)}
    assert all(set(each) & set(SEGMENTS) for each in interests if each is not None)
    assert {len(each) for each in portraits if each is not None} == {PORTRAIT}


def test_both_kinds_of_file_make_the_same_encoding(tmp_path: Path) -> None:
    one, other = (_data(tmp_path / fmt, fmt) for fmt in ("parquet", "csv"))
    instant_ms = split_by_time(one).instant_ms
    assert fit_encoding(one, instant_ms).to_json() == fit_encoding(other, instant_ms).to_json()


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("interests", "[1, 2", "begins a JSON array, and is none"),
        ("interests", "[[1]]", "a list holds single values"),
        ("interests", json.dumps([0] * 4097), "4096 at most"),
    ],
)
def test_what_is_no_list_is_refused_by_its_place(tmp_path: Path, column: str, value: str, problem: str) -> None:
    folder = with_several_values(write_dataset(tmp_path, fmt="csv"))
    users = pd.read_csv(folder / "users.csv", dtype={column: object})
    users.loc[3, column] = value
    users.to_csv(folder / "users.csv", index=False)
    with pytest.raises(InvalidInput, match=problem) as raised:
        read_dataset(folder)
    assert raised.value.field == f"users.csv, column {column!r}, row 4"


def test_vectors_of_many_lengths_are_refused_and_a_few_are_not(tmp_path: Path) -> None:
    folder = with_several_values(write_dataset(tmp_path, fmt="csv"))
    users = pd.read_csv(folder / "users.csv")
    users.loc[:5, "portrait"] = "[1.0, 2.0]"
    users.to_csv(folder / "users.csv", index=False)
    summary = summarise(read_dataset(folder))["attributes"]
    assert (summary["portrait"]["length"], summary["portrait"]["of_another_length"]) == (PORTRAIT, 6)
    assert set(SEGMENTS) <= set(summary["interests"]["most_frequent"])
    users.loc[:60, "portrait"] = "[1.0, 2.0]"
    users.to_csv(folder / "users.csv", index=False)
    with pytest.raises(InvalidInput, match=f"is no vector of {PORTRAIT} finite numbers, which 61 of") as raised:
        read_dataset(folder)
    assert raised.value.field == "users.csv, column 'portrait', row 1"


def test_lists_of_other_types_are_read_as_columns_of_them_are(tmp_path: Path) -> None:
    folder = with_several_values(write_dataset(tmp_path))
    users = pd.read_parquet(folder / "users.parquet")
    others, people = pa.Table.from_pandas(users.drop(columns="interests")), len(users)
    for values, expected in (([date(2020, 1, 2)], "2020-01-02"), ([Decimal("1.5")], 1.5)):
        pq.write_table(others.append_column("interests", pa.array([values] * people)), folder / "users.parquet")
        data = read_dataset(folder)
        assert set(data.users["interests"]) == {(expected,)}
        (stored,) = DatasetUsers(data).blocks(0, people)
        json.dumps(stored[0].attributes)
    pq.write_table(others.append_column("interests", pa.array([[{"a": 1}]] * people)), folder / "users.parquet")
    with pytest.raises(InvalidInput, match="cannot be read as list"):
        read_dataset(folder)


def test_a_moment_has_one_value_a_field(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    text = (folder / "dataset.yaml").read_text().replace("device: categorical", "device: list")
    (folder / "dataset.yaml").write_text(text)
    with pytest.raises(InvalidInput, match="'device' cannot be a list"):
        read_dataset(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = _data(tmp_path_factory.mktemp("several"), users=400, items=60, interactions=8000)
    split = split_by_time(data)
    found = cotrain(data, split, config(architecture=SMALL, epochs=2))
    return data, split, found


def test_new_users_are_known_by_their_lists_and_vectors(trained: Any) -> None:
    data, split, found = trained
    attributes = found.encoding.attributes
    assert isinstance(attributes["interests"], ListEncoder)
    assert isinstance(attributes["portrait"], VectorEncoder)
    assert set(SEGMENTS) <= set(attributes["interests"].values)
    measured = evaluate(data, split, found)
    assert measured["cold.virtual.gauc"] > measured["cold.popularity.gauc"] + 0.1


def test_either_alone_tells_the_taste(trained: Any) -> None:
    """The centres of the portraits and the interests tell the same of a user: so do their virtual behaviours."""
    data, _, found = trained
    whole = data.users[data.users["interests"].notna() & data.users["portrait"].notna()].head(100)
    lists: list[dict[str, Value]] = [{"interests": each} for each in whole["interests"]]
    vectors: list[dict[str, Value]] = [{"portrait": each} for each in whole["portrait"]]
    with torch.inference_mode():
        one, other = (
            found.zero_shot(torch.from_numpy(found.encoding.encode_attributes(rows))).flatten(1).numpy()
            for rows in (lists, vectors)
        )
    one, other = (each - each.mean(axis=0) for each in (one, other))
    assert np.corrcoef((one @ one.T).ravel(), (other @ other.T).ravel())[0, 1] > 0.3


def test_they_are_served_as_they_were_trained_and_go_on_in_the_next_generation(trained: Any, tmp_path: Path) -> None:
    data, split, found = trained
    folder = export(found, data, {}, tmp_path)
    towers = LocalTowers.of(folder)
    rows: list[dict[str, Value]] = [
        {"interests": [SEGMENTS[0], "new"], "portrait": [0.0] * PORTRAIT},
        {"interests": ["new"], "portrait": [0.0] * 3},
        {},
    ]
    virtual, unknown = towers.counted_virtual_behaviour(rows)
    with torch.inference_mode():
        expected = found.zero_shot(torch.from_numpy(found.encoding.encode_attributes(rows))).numpy()
    np.testing.assert_allclose(virtual, expected, atol=1e-5)
    assert unknown == {"interests": 1, "portrait": 1}
    (scores,) = towers.score([RankingInput(rows[0], {}, Behaviour(), virtual[0], list(found.encoding.items[:5]))])
    assert np.isfinite(scores).all()
    restored = restore(folder)
    assert restored.encoding.to_json() == found.encoding.to_json()
    encoding = grown(restored.encoding, data)
    later = cotrain(data, split, restored.config, encoding=encoding, start=WarmStart.of(restored, encoding))
    assert later.encoding.attributes["interests"] == found.encoding.attributes["interests"]


def test_candidates_have_one_of_the_values_of_a_list(trained: Any, tmp_path: Path) -> None:
    data, _, found = trained
    towers = LocalTowers.of(export(found, data, {}, tmp_path))
    tags = dict(zip(data.items["item_id"], map(set, data.items["tags"]), strict=True))
    known, genre = list(found.encoding.items), next(iter(tags[found.encoding.items[0]] - {"winter", "summer"}))
    virtual = towers.virtual_behaviour([{"interests": [SEGMENTS[0]]}])[0]
    asked = CandidateRequest(Behaviour(), virtual, nearest=len(known), popular=0, exploratory=0, seed=1)
    wishes: list[list[Scalar]] = [["winter"], [genre, "never seen"], ["winter", genre], ["never seen"]]
    for wished in wishes:
        expected = {item for item in known if tags[item] & set(wished)}
        (answer,) = towers.candidates([replace(asked, attributes={"tags": wished})])
        assert set(answer) == expected
        assert set(matching(towers.encoding, known, {"tags": wished})) == expected
    new = {"one": [genre, "winter"], "other": ["summer"], "both": [genre, "winter", "summer"]}  # no kind has both
    towers.encoding.add_items({item: {"tags": own} for item, own in new.items()})
    for season, expected in (("winter", {"one", "both"}), ("summer", {"other", "both"}), ("never seen", set())):
        (answer,) = towers.candidates([replace(asked, nearest=100, attributes={"tags": [season]})])
        assert new.keys() & set(answer) == expected
        assert set(matching(towers.encoding, list(new), {"tags": [season]})) == expected
    with pytest.raises(InvalidInput, match=r"filter\.attributes\.price: .*categorical or a list, this one is numeric"):
        towers.candidates([replace(asked, attributes={"price": [3]})])


def test_the_log_brings_them_back(trained: Any) -> None:
    _, _, found = trained
    schema = LogSchema.of(found.encoding)
    assert schema.attributes == {"interests": "list", "portrait": "vector", "age": "numeric", "city": "categorical"}
    attributes: dict[str, Value] = {"interests": ["jazz", SEGMENTS[1]], "portrait": [0.5] * PORTRAIT, "age": 30}
    window = joined(logged([shown("u1", 1000, attributes=attributes)], [acted("u1", 1001)]), 1000, 10_000)
    (row,) = window.dataset(schema).users.to_dict("records")
    encoded = found.encoding.encode_attributes([row, attributes])
    assert encoded[0].tolist() == encoded[1].tolist()


def test_existing_users_are_imported_with_them(trained: Any) -> None:
    data, _, _ = trained
    (users,) = DatasetUsers(data).blocks(0, len(data.users))
    by_id = {each.user_id: each.attributes for each in users}
    for user_id, interests in zip(data.users["user_id"], data.users["interests"], strict=True):
        assert by_id[user_id] is not None
        assert (by_id[user_id] or {})["interests"] == (None if interests is None else list(interests))
        json.dumps(by_id[user_id])
