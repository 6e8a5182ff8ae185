"""Apache Kafka as a part of a benchmark's stack."""

from pathlib import Path

import pytest

from benchmarks.apache_kafka import ApacheKafka
from foretaste.kernel.errors import InvalidInput


@pytest.mark.parametrize("home", [None, "/nowhere"])
def test_without_a_distribution_it_is_refused(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("KAFKA_HOME", home)
    with pytest.raises(InvalidInput, match="KAFKA_HOME"):
        ApacheKafka.found(tmp_path)


def test_a_distribution_is_found_by_its_start_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kafka-server-start.sh").touch()
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    assert ApacheKafka.found(tmp_path / "data") == ApacheKafka(tmp_path / "data", tmp_path)
