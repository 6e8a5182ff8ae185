"""What is read of a log's raw values: the fields of a generation, and what is known of items beside the log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from foretaste.kernel.running.registered_items import RegisteredItem
from models.data.dataset import read_entities
from models.data.description_file import read_description
from models.data.schema import DatasetDescription, FieldKind, InteractionsSection, ItemsSection, UsersSection
from models.data.table_parts import table_file
from models.runtime.encoding import Encoding, FieldEncoder

LOG = "training log"


@dataclass(frozen=True, slots=True)
class LogSchema:
    """The fields that are read, and whether each is categorical or numeric; what else the log holds is left."""

    attributes: Mapping[str, FieldKind]
    context: Mapping[str, FieldKind]
    item_attributes: Mapping[str, FieldKind]

    @classmethod
    def of(cls, encoding: Encoding) -> Self:
        """The fields of a generation: a warm start and the gate read what it reads."""
        return cls(_kinds(encoding.attributes), _kinds(encoding.context), _kinds(encoding.item_attributes))

    @classmethod
    def of_description(cls, description: DatasetDescription) -> Self:
        """The fields of a `dataset.yaml`: a cold start may read more, or less, than any generation did."""
        return cls(description.users.attributes, description.interactions.context, description.items.attributes)

    @property
    def description(self) -> DatasetDescription:
        """The description of the dataset that the log is turned into: impressions with labels, in milliseconds."""
        return DatasetDescription.model_construct(
            name=LOG,
            users=UsersSection.model_construct(id="user_id", attributes=dict(self.attributes)),
            items=ItemsSection(id="item_id", attributes=dict(self.item_attributes)),
            interactions=InteractionsSection(
                user="user_id",
                item="item_id",
                time="time_ms",
                time_unit="ms",
                action="action",
                label="label",
                context=dict(self.context),
            ),
        )


def _kinds(fields: Mapping[str, FieldEncoder]) -> dict[str, FieldKind]:
    return {name: field.kind for name, field in fields.items()}


def read_catalogue(folder: Path) -> pd.DataFrame:
    """The items of a dataset folder: `item_id` and a column of raw values an attribute, as in `Dataset.items`.

    Raises `InvalidInput` as `read_dataset` does.
    """
    says = read_description(folder).items
    catalogue, _ = read_entities(table_file(folder, "items"), says.id, says.attributes, "item_id")
    return catalogue


def with_registered(
    catalogue: pd.DataFrame | None, items: Sequence[RegisteredItem], attributes: Iterable[str]
) -> pd.DataFrame | None:
    """The catalogue with the items that were registered, each in place of what it says of it; of these `attributes`."""
    if not items:
        return catalogue
    columns = {
        name: pd.Series([(item.attributes or {}).get(name) for item in items], dtype=object) for name in attributes
    }
    registered = pd.DataFrame(columns | {"item_id": pd.Series([item.item_id for item in items], dtype=object)})
    if catalogue is None:
        return registered
    others = catalogue[~catalogue["item_id"].isin(registered["item_id"])]
    return pd.concat([others.astype(object), registered], ignore_index=True)
