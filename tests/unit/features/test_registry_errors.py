"""A registry that is damaged, elsewhere or nobody's: one line that names the setting and what it needs, no secret."""

from pathlib import Path

import pytest

from features.log.feast_log import FeastTrainingLog
from features.redis.address import RedisAddress
from features.repo_config import REPO, apply_features, check_applied, repo_config
from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.files import write_file


def opened(registry: str, log: Path, file: Path | None = None) -> list[ForetasteError]:
    """What each of the readers of a registry says of it: setup, the online stores, the training log."""
    config = repo_config(RedisAddress.parse("redis://localhost:1"), registry, log=log, file=file)
    errors: list[ForetasteError] = []
    for use in (apply_features, check_applied, lambda config: FeastTrainingLog(config)._opened()):
        with pytest.raises(ForetasteError) as raised:
            use(config)
        errors.append(raised.value)
    return errors


@pytest.mark.parametrize("content", [b"not a registry", b"\x0a\x04abcd", bytes(range(256))])
def test_a_damaged_file_is_named_with_its_setting(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(content)
    for error in opened(str(path), tmp_path):
        assert isinstance(error, InvalidInput)
        assert str(error) == f"FORETASTE_REGISTRY: is damaged, or no registry of Feast's (got {str(path)!r})"
    assert path.read_bytes() == content, "a person decides what becomes of it"


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    for error in opened(str(tmp_path), tmp_path):
        assert str(error).startswith("FORETASTE_REGISTRY: cannot be read or written: Is a directory")


@pytest.mark.parametrize(
    ("registry", "says"),
    [
        ("gs://bucket/registry.db", "needs feast[gcp], which is not installed (got 'gs://bucket/registry.db')"),
        (
            "mysql+pymysql://u:secret@h/db",
            "needs the package pymysql, which is not installed (got 'mysql+pymysql://h/db')",
        ),
        ("foo://u:secret@h/db", "is no address of a database"),
        ("sqlite://u:secret@h:port/db", "is no address"),
        ("abfss://c@account/registry.db", "expected a path, or an address that begins with s3, gs, hdfs"),
    ],
)
def test_an_address_that_cannot_be_opened_says_what_it_needs(tmp_path: Path, registry: str, says: str) -> None:
    for error in opened(registry, tmp_path):
        assert isinstance(error, InvalidInput)
        assert str(error).startswith(f"FORETASTE_REGISTRY: {says}")
        assert "secret" not in str(error)
        assert "\n" not in str(error)


def test_a_database_that_is_away_may_come_back(tmp_path: Path) -> None:
    for error in opened("postgresql+psycopg://u:secret@127.0.0.1:1/db", tmp_path):
        assert isinstance(error, Unavailable)
        assert "postgresql+psycopg://127.0.0.1:1/db (FORETASTE_REGISTRY)" in str(error)
        assert "secret" not in str(error)
        assert "\n" not in str(error)


def test_that_of_a_teams_own_file_is_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"damaged")
    ours = (REPO / "feature_store.yaml").read_text(encoding="utf-8")
    own = tmp_path / "feature_store.yaml"
    write_file(own, ours.replace("${FEAST_REGISTRY}", "registry.db"))
    for error in opened(str(tmp_path / "elsewhere.db"), tmp_path, own):
        assert str(error).startswith(f"registry of {tmp_path}: is damaged")
