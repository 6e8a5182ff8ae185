"""The measurement of memory, in small: the folder is a whole one, and every step is timed."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import data_memory
from models.data.dataset import read_dataset


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_folder_is_written_in_chunks_of_one_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: data_memory.Format
) -> None:
    monkeypatch.setattr(data_memory, "CHUNK", 70)
    data_memory.write_folder(tmp_path, data_memory.DataSize(300, 20, 10, form, trained=200))
    dataset = read_dataset(tmp_path)
    assert len(dataset.interactions) == 300
    assert dataset.interactions["user_id"].nunique() == 20
    counts = np.bincount(dataset.item_rows(dataset.interactions["item_id"]), minlength=10)
    assert counts[0] > counts[9] > 0


def test_each_step_is_timed_and_the_peak_is_that_of_a_process_with_torch(tmp_path: Path) -> None:
    size = data_memory.DataSize(rows=400, users=20, items=10, form="parquet", trained=200)
    ticks = iter(range(0, 50, 10))
    found = data_memory.measure(tmp_path, size, threads=1, clock=lambda: float(next(ticks)))
    assert found["rows"] == 400
    assert found["seconds"] == {"write": 10.0, "read": 10.0, "split": 10.0, "train": 10.0}
    assert 0.1 < found["peak_gb"] < 8
