"""What every kind of attribute must do, and that a kind of one's own needs no edit elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from foretaste.kernel.values import Scalar, Value, canonical
from models.data.dataset import read_dataset
from models.data.split import split_by_time
from models.data.vocabulary import fit_encoding, grown
from models.generations.export import export
from models.generations.load import restore
from models.runtime import fields
from models.runtime.encoding import FIELD_UNKNOWN, Encoding
from models.runtime.fields import (
    KINDS,
    CategoricalEncoder,
    FieldEncoder,
    FieldShares,
    FieldValues,
    ListEncoder,
    NumericEncoder,
    VectorEncoder,
    encoder_from_dict,
)
from models.training.cotrain import cotrain
from models.training.warm_start import WarmStart
from tests.data_factory import write_dataset
from tests.towers_factory import SMALL, config

VALUES: Sequence[Scalar] = ("north", "south", "north", 3, 3.0, True, None, float("nan"), 40.5, "")

VECTORS: Sequence[Value] = ((0.0, 1.0), (1.0, 1.5), (3.0, -1.0), (2.0, 0.5))


@dataclass(frozen=True)
class Column:
    """Values as `FieldEncoder.fit` reads them."""

    values: Sequence[Value]

    def counts(self) -> Mapping[str, int]:
        texts = pd.Series([canonical(value) for value in self.values], dtype=object).dropna()
        return {str(text): int(count) for text, count in texts.value_counts().items()}

    def numbers(self) -> Any:
        return np.array([value for value in self.values if isinstance(value, int | float) and value == value])  # noqa: PLR0124

    def raw(self) -> Sequence[Value]:
        return self.values


@dataclass(frozen=True)
class Initials:
    """A kind of one's own: values are told apart by their first letter alone."""

    letters: tuple[str, ...]
    kind: ClassVar[str] = "initial"
    is_text: ClassVar[bool] = True
    is_several: ClassVar[bool] = False
    grows: ClassVar[bool] = True

    @classmethod
    def fit(cls, values: FieldValues) -> "Initials":
        return cls(tuple(sorted({text[0] for text in values.counts()})))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Initials":
        return cls(tuple(stored["letters"]))

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.letters) + 1,)

    @property
    def vocabulary(self) -> Sequence[str]:
        return self.letters

    @property
    def probes(self) -> Sequence[Value]:
        return self.letters

    def encode(self, values: Sequence[Value]) -> Any:
        first = [(canonical(value) or "\0")[0] for value in values]
        found = [1 + self.letters.index(letter) if letter in self.letters else 0 for letter in first]
        return np.array(found, np.int64).reshape(-1, 1)

    def unknown(self, indices: Any) -> Any:
        return indices[:, 0] == FIELD_UNKNOWN

    def indices_of(self, values: Sequence[Value]) -> Mapping[int, frozenset[int]]:
        return {0: frozenset(self.encode(values)[:, 0].tolist()) - {FIELD_UNKNOWN}}

    def grown(self, texts: Sequence[str]) -> "Initials":
        return Initials(tuple(dict.fromkeys([*self.letters, *texts])))

    def begins_with(self, earlier: FieldEncoder) -> bool:
        return earlier.kind == self.kind and self.letters[: len(earlier.vocabulary)] == tuple(earlier.vocabulary)

    def shares(self, counts: Any, most: int) -> FieldShares:
        return FieldShares((*counts[0][1:].tolist(), 0.0, float(counts[0][0])), values=self.letters)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "letters": list(self.letters)}


every_kind = pytest.mark.parametrize("kind", [*KINDS.values(), Initials])


@every_kind
def test_every_value_has_an_index_within_the_table(kind: type[FieldEncoder]) -> None:
    field = kind.fit(Column(VALUES))
    indices = field.encode([*VALUES, "never seen", -1e300])
    assert indices.dtype == np.int64
    assert indices.min() >= FIELD_UNKNOWN
    assert indices.shape == (len(VALUES) + 2, len(field.sizes))
    assert (indices < field.sizes).all()
    assert field.encode([None]).tolist() == [[FIELD_UNKNOWN] * len(field.sizes)]
    assert field.encode([]).shape == (0, len(field.sizes))


@every_kind
def test_nothing_makes_a_field_that_knows_nothing(kind: type[FieldEncoder]) -> None:
    assert len(kind.fit(Column(())).probes) == 0


@every_kind
def test_it_survives_its_file(kind: type[FieldEncoder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "KINDS", {**KINDS, Initials.kind: Initials})
    field = kind.fit(Column(VALUES))
    assert encoder_from_dict(field.to_dict()) == field


@every_kind
def test_probes_are_known(kind: type[FieldEncoder]) -> None:
    field = kind.fit(Column(VALUES))
    assert (field.encode(field.probes) != FIELD_UNKNOWN).all()


@pytest.mark.parametrize("kind", [CategoricalEncoder, ListEncoder])
@pytest.mark.parametrize("wished", [["north"], ["south", 3], ["never seen"], [None], ["never seen", True]])
def test_who_has_one_of_some_values_is_told_by_the_columns(kind: type[FieldEncoder], wished: Sequence[Scalar]) -> None:
    field = kind.fit(Column(VALUES))
    columns, rows = field.indices_of(wished) or {}, field.encode(VALUES).tolist()
    found = [any(row[column] in indices for column, indices in columns.items()) for row in rows]
    assert found == [canonical(value) in {canonical(each) for each in wished} - {None} for value in VALUES]


@pytest.mark.parametrize("kind", [NumericEncoder, VectorEncoder])
def test_a_number_or_a_vector_is_not_asked_for_single_values(kind: type[FieldEncoder]) -> None:
    assert kind.fit(Column((*VALUES, *VECTORS))).indices_of([3]) is None


@every_kind
def test_a_grown_field_begins_with_the_one_that_it_grew_from(kind: type[FieldEncoder]) -> None:
    field, other = kind.fit(Column((*VALUES, *VECTORS))), kind.fit(Column(("x", "y", 7.0, 9.0, 11.0)))
    more = field.grown(other.vocabulary)
    assert more.begins_with(field)
    assert field.begins_with(field)
    assert not other.begins_with(field)
    assert np.array_equal(more.encode(field.probes), field.encode(field.probes))
    strangers = [one.fit(Column((*VALUES, *VECTORS))) for one in KINDS.values() if one is not kind]
    assert not any(stranger.begins_with(field) for stranger in strangers)


@every_kind
def test_shares_account_for_every_row(kind: type[FieldEncoder]) -> None:
    field = kind.fit(Column(VALUES))
    columns = zip(field.encode(VALUES).T, field.sizes, strict=True)
    counts = [np.bincount(column, minlength=size) for column, size in columns]
    found = field.shares(counts, most=2)
    if not found.of_lists:  # of which a row has any number
        assert sum(found.weights) == len(VALUES)
    assert found.weights[-1] == counts[0][FIELD_UNKNOWN]
    assert (found.values is None) != (found.edges is None)


def test_a_kind_of_ones_own_is_trained_exported_and_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From `dataset.yaml` to a restored generation and a warm start, with its line in `KINDS` alone."""
    monkeypatch.setitem(KINDS, Initials.kind, Initials)
    folder = write_dataset(tmp_path / "data", users=60, items=20, interactions=700, fmt="csv")
    text = (folder / "dataset.yaml").read_text().replace("city: categorical", "city: initial")
    (folder / "dataset.yaml").write_text(text.replace("device: categorical", "device: initial"))
    data = read_dataset(folder)
    split = split_by_time(data)
    encoding = fit_encoding(data, split.instant_ms)
    assert encoding.attributes["city"] == Initials(("n", "s"))
    assert encoding.context["device"] == Initials(("d", "p"))
    trained = cotrain(data, split, config(architecture=SMALL, epochs=1))
    restored = restore(export(trained, data, {}, tmp_path / "generations"))
    assert restored.encoding.attributes["city"] == Initials(("n", "s"))
    assert Encoding.from_json(encoding.to_json()).to_json() == encoding.to_json()
    later = grown(restored.encoding, data)
    assert WarmStart.of(restored, later).sizes == restored.model.embeddings.sizes
