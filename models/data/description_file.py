"""`dataset.yaml` as it lies in a folder: read as plain texts, then checked.

YAML has meanings of its own for `no`, `12` and `2026-02-30`; a column may be called so, and only the description knows
what a value is for.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from foretaste.kernel.configuration import invalid_input
from foretaste.kernel.errors import InvalidInput
from models.data.schema import DatasetDescription

DESCRIPTION = "dataset.yaml"


_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp", "binary"))
_KEPT = frozenset({"tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"})


class _Texts(yaml.SafeLoader):
    """Every value is a text as it is written; `null` is None, and `<<` merges."""


def _as_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    return loader.construct_yaml_str(node)


_Texts.yaml_implicit_resolvers = {
    sign: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
    for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag in _PLAIN:
    _Texts.add_constructor(_tag, _as_text)


def read_description(folder: Path) -> DatasetDescription:
    """`dataset.yaml` of a folder, checked. Raises `InvalidInput` naming the key."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InvalidInput("dataset", str(folder), f"has no {DESCRIPTION}")
    try:
        raw = _parsed(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(DESCRIPTION, str(error), "is not YAML") from error
    except RecursionError as error:
        raise InvalidInput(DESCRIPTION, f"{path.stat().st_size} bytes", "is nested too deeply") from error
    try:
        return DatasetDescription.model_validate(raw)
    except ValidationError as error:
        found = invalid_input(error)
        where = f"{DESCRIPTION}: {found.field}" if found.field else DESCRIPTION
        raise InvalidInput(where, found.value, found.problem) from error


def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=_Texts)  # noqa: S506  # a SafeLoader
