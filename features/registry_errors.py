"""What Feast's registry can be wrong in, told by one error that names the setting and, where one lacks, the package."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types

from features.feast_api import RepoConfig
from foretaste.kernel.configuration import without_secrets
from foretaste.kernel.errors import InvalidInput, Unavailable

# `feast_api` goes first: it imports Feast without what that does besides
# isort: split
from feast.errors import FeastExtrasDependencyImportError

SETTING = "FORETASTE_REGISTRY"
_OWN = Path(__file__).parent / "repo"
"""Where our own configuration lies, whose registry the setting names."""
_EXTRAS = {"s3": "feast[aws]", "gs": "feast[gcp]", "hdfs": "feast[hdfs]"}
"""The package that Feast reads a registry with, by the scheme of its address."""
_REMOTE = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("sqlalchemy.exc", "DBAPIError"),
)
"""Errors of what Feast may reach a registry with, each imported by Feast where it is needed."""


@contextmanager
def naming_the_registry(config: RepoConfig) -> Iterator[None]:
    """What is read or written inside is the registry that `config` names.

    Raises `InvalidInput` for one that is damaged, that cannot be read or written, whose address Feast does not know, or
    whose package is not installed, and `Unavailable` for a remote one that does not answer or refuses.
    """
    path = str(config.registry.path)
    scheme, _, rest = path.partition("://")
    shown = without_secrets(path) if rest else path
    setting = SETTING if config.repo_path == _OWN else f"registry of {config.repo_path}"
    if rest and config.registry.registry_type == "file" and scheme not in ("file", *_EXTRAS):
        problem = f"expected a path, or an address that begins with {', '.join(_EXTRAS)} or a database's dialect"
        raise InvalidInput(setting, shown, problem)
    try:
        yield
    except DecodeError as error:
        raise InvalidInput(setting, shown, "is damaged, or no registry of Feast's") from error
    except (ImportError, FeastExtrasDependencyImportError) as error:
        package = _EXTRAS.get(scheme) or f"the package {getattr(error, 'name', None) or error}"
        raise InvalidInput(setting, shown, f"needs {package}, which is not installed") from error
    except OSError as error:
        raise InvalidInput(setting, shown, f"cannot be read or written: {error.strerror or error}") from error
    except _loaded(_REMOTE) as error:
        raise Unavailable("feast", f"its registry {shown} ({setting}): {str(error).splitlines()[0]}") from error
    except ValueError as error:
        raise InvalidInput(setting, shown, f"is no address: {error}") from None  # the cause may repeat a password
    except _loaded((("sqlalchemy.exc", "SQLAlchemyError"),)) as error:
        raise InvalidInput(setting, shown, f"is no address of a database: {str(error).splitlines()[0]}") from error


def _loaded(names: tuple[tuple[str, str], ...]) -> tuple[type[Exception], ...]:
    """Those classes whose modules somebody has imported: nobody else can raise one."""
    return tuple(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)
