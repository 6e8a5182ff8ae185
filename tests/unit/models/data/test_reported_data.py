"""Data sets that people brought and that failed: each reads right, or is refused by one line that says what to mend."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset, read_dataset
from models.data.split import split_by_time
from models.data.vocabulary import fit_encoding
from models.training.data_summary import summarise

USERS, EVENTS = 20, 40
AT = 1_760_009_666
"""2025-10-09T11:34:26Z."""


def write(folder: Path, says: dict[str, Any] | None = None, **tables: dict[str, list[Any]]) -> Path:
    """A folder of CSV files; `says` goes over the description, and columns over those of a table."""
    written: dict[str, dict[str, list[Any]]] = {
        "users": {"user_id": [f"u{row}" for row in range(USERS)], "score": [row / 2 for row in range(USERS)]},
        "items": {"sku": ["s0", "s1", "s2"]},
        "interactions": {
            "user_id": [f"u{row % USERS}" for row in range(EVENTS)],
            "sku": [f"s{row % 3}" for row in range(EVENTS)],
            "at": [AT + row for row in range(EVENTS)],
        },
    }
    folder.mkdir()
    for name, table in written.items():
        columns = table | tables.get(name, {})
        lines = [
            ",".join(columns),
            *(",".join(_cell(value) for value in row) for row in zip(*columns.values(), strict=True)),
        ]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    description = {
        "name": "case",
        "users": {"id": "user_id", "attributes": {"score": "numeric"}},
        "items": {"id": "sku"},
        "interactions": {"user": "user_id", "item": "sku", "time": "at"},
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump(description | (says or {})), encoding="utf-8")
    return folder


def _cell(value: Any) -> str:
    return f'"{value}"' if "," in str(value) else str(value)


def described(folder: Path, line: str) -> Dataset:
    """The data read with one more line in the description, as somebody typed it."""
    path = folder / "dataset.yaml"
    path.write_text(f"{path.read_text(encoding='utf-8')}{line}\n", encoding="utf-8")
    return read_dataset(folder)


def refused(folder: Path) -> str:
    with pytest.raises(InvalidInput) as raised:
        read_dataset(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("header", ["user_id,score,größe", "user_id,größe,score"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_header_in_another_encoding_is_named_though_nobody_wants_the_column(
    tmp_path: Path, header: str, encoding: str
) -> None:
    folder = write(tmp_path / "data")
    rows = "\n".join(f"u{row},{row},{row}" for row in range(USERS))
    (folder / "users.csv").write_bytes(f"{header}\n{rows}\n".encode(encoding))
    assert refused(folder).startswith("users.csv, line 1: is not UTF-8; save the file as UTF-8 (got b'")


@pytest.mark.parametrize("name", ["users", "interactions"])
def test_a_value_in_another_encoding_is_named_by_its_line(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "data")
    path = folder / f"{name}.csv"
    lines = path.read_bytes().splitlines()
    lines[4] = lines[4].replace(b"u3", b"J\xfcrgen")
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert refused(folder).startswith(f"{name}.csv, line 5: is not UTF-8; save the file as UTF-8 (got b'J\\xfcrgen")


def test_values_of_a_column_that_nobody_wants_may_be_in_any_encoding(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", users={"note": ["plain"] * USERS})
    path = folder / "users.csv"
    path.write_bytes(path.read_bytes().replace(b"plain", b"gr\xf6\xdfe"))
    assert len(read_dataset(folder).users) == USERS


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("split: 2025-02-30T00:00:00Z", ["split", "day value is outside", "2025-02-30"]),
        ("split: 2025-02-30", ["split", "2025-02-30"]),
        ("split: !!timestamp soon", ["split", "'soon'"]),
        ("split: yes", ["split", "'yes'"]),
        ("split: [1, 2]", ["split"]),
        ("licence: {a: b}", ["licence", "valid string"]),
        ("users: {id: user_id, attributes: {score: !!float [1]}}", ["is not YAML"]),
        ("users: {id: user_id, attributes: {score: 2025-02-30}}", ["users.attributes.score", "expected one of"]),
        ("users: {id: user_id, attributes: &a {score: *a}}", ["users.attributes.score"]),
        ("interactions: {user: user_id, item: sku, time: at, time_unit: 1}", ["time_unit", "'s' or 'ms'", "'1'"]),
        ("name: " + "[" * 5000, ["dataset.yaml", "nested too deeply"]),
        ("name: !!python/object/apply:os.system [ls]", ["is not YAML"]),
    ],
)
def test_a_value_of_the_description_of_a_wrong_kind_is_named(tmp_path: Path, line: str, words: list[str]) -> None:
    folder = write(tmp_path / "data")
    with pytest.raises(InvalidInput) as raised:
        described(folder, line)
    assert [word for word in words if word not in str(raised.value)] == [], str(raised.value)


def test_a_column_may_be_called_by_any_word_or_number(tmp_path: Path) -> None:
    """`no` is false, `12` a number and `2026-01-01` a date to YAML; here they are names."""
    columns: dict[str, list[Any]] = {"no": ["x"] * USERS, "12": ["y"] * USERS, "2026-01-01": ["z"] * USERS}
    folder = write(tmp_path / "data", users=columns)
    line = "users: {id: user_id, attributes: {no: categorical, 12: categorical, 2026-01-01: categorical}}"
    assert described(folder, line).users.columns.tolist() == ["user_id", "no", "12", "2026-01-01"]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("2025-10-09", datetime(2025, 10, 9, tzinfo=UTC)),
        ("20251009", datetime(2025, 10, 9, tzinfo=UTC)),
        ("2025-10-09T11:34:30", datetime(2025, 10, 9, 11, 34, 30, tzinfo=UTC)),
        ("2025-10-09 13:34:30+02:00", datetime(2025, 10, 9, 11, 34, 30, tzinfo=UTC)),
        ("1760009670", datetime(2025, 10, 9, 11, 34, 30, tzinfo=UTC)),
        ("null", None),
    ],
)
def test_the_split_may_be_a_date_or_any_time(tmp_path: Path, split: str, expected: datetime | None) -> None:
    assert described(write(tmp_path / "data"), f"split: {split}").description.split == expected


def test_a_split_that_leaves_nothing_on_a_side_says_so_in_dates(tmp_path: Path) -> None:
    dataset = described(write(tmp_path / "data"), "split: 2001-02-01")
    expected = "2001-02-01T00:00:00Z does not, they lie between 2025-10-09T11:34:26Z and 2025-10-09T11:35:05Z"
    with pytest.raises(InvalidInput, match=expected):
        split_by_time(dataset)


@pytest.mark.parametrize("form", ["{}", "{}.0"])
def test_numbers_that_are_dates_are_taken_as_dates(tmp_path: Path, form: str) -> None:
    dates = [form.format(20001101 + row % 20) for row in range(EVENTS)]
    times = read_dataset(write(tmp_path / "data", interactions={"at": dates})).interactions["time_ms"]
    assert times.iloc[0] == 973_036_800_000, "2000-11-01T00:00:00Z"
    assert times.iloc[-1] == 973_036_800_000 + 19 * 86_400_000


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (AT, "ms", ["1970-01-21T08:53:29Z", "time_unit 'ms'", "With 's' it is 2025-10-09T11:34:26Z"]),
        (AT * 1000, "s", ["after the year 9999", "time_unit 's'", "With 'ms' it is 2025-10-09T11:34:26Z"]),
        (20251399, "s", ["1970-08-23", "from 1980 to 2099"]),
        (0, "s", ["1970-01-01T00:00:00Z"]),
        (-1, "ms", ["1969-12-31T23:59:59Z"]),
        ("0001-01-01", "s", ["from 1980 to 2099"]),
        ("9999-12-31T00:00:00Z", "s", ["from 1980 to 2099"]),
    ],
)
def test_an_absurd_time_is_refused_with_its_row_and_what_the_other_unit_makes_of_it(
    tmp_path: Path, value: Any, unit: str, words: list[str]
) -> None:
    good = [AT * (1000 if unit == "ms" else 1)] * (EVENTS - 1)
    says = {"interactions": {"user": "user_id", "item": "sku", "time": "at", "time_unit": unit}}
    message = refused(write(tmp_path / "data", says, interactions={"at": [*good, value]}))
    assert [word for word in ["'at', row 40", *words] if word not in message] == [], message
    if isinstance(value, str):
        assert "time_unit" not in message


def test_a_numeric_attribute_that_is_mostly_no_number_is_refused(tmp_path: Path) -> None:
    message = refused(write(tmp_path / "data", users={"score": [f"{row},5" for row in range(USERS)]}))
    expected = "'score', row 1: is no number, as 20 of 20 values of this numeric column are not; decimals need a point"
    assert expected in message
    assert "(got '0,5')" in message


def test_of_items_and_of_a_context_too(tmp_path: Path) -> None:
    items = {"items": {"id": "sku", "attributes": {"price": "numeric"}}}
    assert "items.csv, column 'price', row 2" in refused(
        write(tmp_path / "items", items, items={"price": ["1.5", "cheap", "3"]})
    )
    context = {"interactions": {"user": "user_id", "item": "sku", "time": "at", "context": {"depth": "numeric"}}}
    depths = {"depth": ["1"] * 30 + ["deep"] * 10}
    assert "interactions.csv, column 'depth', row 31: is no number, as 10 of 40 values" in refused(
        write(tmp_path / "context", context, interactions=depths)
    )


def test_a_few_values_that_are_no_numbers_are_counted_and_the_first_is_kept(tmp_path: Path) -> None:
    scores = ["1.5", "", "n/a", "inf", *["2"] * 14, "old", "3"]
    (found,) = read_dataset(write(tmp_path / "data", users={"score": scores})).not_numbers
    assert (found.count, found.values, found.first, found.row) == (1, 18, "old", 19)


@pytest.mark.parametrize(("yes", "no"), [("TRUE", "FALSE"), ("true", "false"), ("True", "False"), ("tRUE", "fALSE")])
def test_a_boolean_is_one_value_however_it_is_written(tmp_path: Path, yes: str, no: str) -> None:
    says = {"users": {"id": "user_id", "attributes": {"member": "categorical"}}}
    interactions: dict[str, Any] = {"user": "user_id", "item": "sku", "time": "at", "action": "bought"}
    says["interactions"] = interactions | {"context": {"mobile": "categorical"}}
    columns = {"bought": [yes, no] * (EVENTS // 2), "mobile": [no, yes] * (EVENTS // 2)}
    members = {"member": [yes] * 12 + [no] * 8}
    dataset = read_dataset(write(tmp_path / "data", says, users=members, interactions=columns))
    encoding = fit_encoding(dataset, 2**60)
    for sent in (True, "true", "True", "TRUE"):
        assert encoding.encode_attributes([{"member": sent}]).tolist() == [[1]]
        assert encoding.encode_context([{"mobile": sent}]).item() > 0
    assert encoding.encode_attributes([{"member": False}]).tolist() == [[2]]
    assert len(set(encoding.encode_actions(["true", "TRUE", "True"]).tolist())) == 1
    assert encoding.encode_actions(["TRUE"]).item() > 1, "known"
    assert sorted(encoding.actions) == ["false", "true"]


def test_most_rows_on_the_first_day_leave_the_next_one_to_evaluate_on(tmp_path: Path) -> None:
    days = ["2025-10-09"] * 34 + ["2025-10-10"] * 4 + ["2025-10-11"] * 2
    split = split_by_time(read_dataset(write(tmp_path / "data", interactions={"at": days})))
    assert split.instant_ms == 1_760_054_400_000, "2025-10-10T00:00:00Z"
    assert (len(split.train), len(split.test)) == (34, 6)


REGISTERED = {"users": {"id": "user_id", "attributes": {"score": "numeric"}, "registered": "joined"}}


def test_a_column_of_registrations_is_read_and_may_be_empty(tmp_path: Path) -> None:
    joined: list[Any] = [AT - 60, "", "2025-10-09T11:34:26Z", *[AT] * (USERS - 3)]
    data = read_dataset(write(tmp_path / "data", REGISTERED, users={"joined": joined}))
    assert data.registrations_ms[:3].tolist() == [(AT - 60) * 1000, -1, AT * 1000]
    told = summarise(data)["registrations"]
    assert told == {"from": "column 'joined'", "unknown": 1, "after_the_first_event": 0}


def test_what_is_no_registration_names_column_and_row(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", REGISTERED, users={"joined": ["", "soon", *[AT] * (USERS - 2)]})
    with pytest.raises(InvalidInput, match=r"users\.csv, column 'joined', row 2.*soon"):
        read_dataset(folder)


def test_a_registration_after_the_first_event_is_counted(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", REGISTERED, users={"joined": [AT + 3600, *[AT - 5] * (USERS - 1)]})
    assert summarise(read_dataset(folder))["registrations"]["after_the_first_event"] == 1


def test_without_registrations_the_first_event_stands_for_it_and_that_is_said(tmp_path: Path) -> None:
    data = read_dataset(write(tmp_path / "data"))
    assert data.registrations_ms.tolist() == [(AT + row) * 1000 for row in range(USERS)]
    told = summarise(data)["registrations"]
    assert told["from"] == "no column: the first event of each user stands for the registration"
    assert (told["unknown"], told["after_the_first_event"]) == (0, 0)
