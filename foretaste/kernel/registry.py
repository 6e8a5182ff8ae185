"""What a name stands for: an entry of a table, or an import path of one's own, "package.module:name"."""

import pkgutil
from collections.abc import Mapping
from typing import Any

from foretaste.kernel.errors import InvalidInput


def resolve(field: str, name: str, known: Mapping[str, str]) -> Any:
    """The object at the import path that `known` gives for a name, or that the name itself is.

    Nothing is imported before it is asked for. Raises `InvalidInput` naming `field` where the name is neither, or where
    the path leads nowhere.
    """
    path = known.get(name, name)
    expected = f'expected one of {", ".join(known)}, or an import path of your own, "package.module:name"'
    if not path.partition(":")[2]:  # to pkgutil a module alone is a path too
        raise InvalidInput(field, name, expected)
    try:
        return pkgutil.resolve_name(path)
    except ValueError as error:
        raise InvalidInput(field, name, expected) from error
    except (ImportError, AttributeError) as error:
        raise InvalidInput(field, name, f"cannot be imported: {error}") from error
