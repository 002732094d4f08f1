"""Old files of a table are counted wherever the lake is: a path is no URL."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import polars as pl
import pytest
from pyspark.sql import SparkSession

from lakehouse.forget import remaining_files

NO_SESSION = cast(SparkSession, None)


@pytest.mark.parametrize("folder", ["plain", "a#b", "50%41", "c?d", "ação e mais"])
def test_files_that_only_old_versions_need_are_counted(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remaining_files, "_time_after", lambda spark, duration: f"in {duration}")
    written, table = tmp_path / "written", tmp_path / folder / "items"
    for value in (1, 2):
        pl.DataFrame({"id": [value]}).write_delta(str(written), mode="overwrite")
    table.parent.mkdir()
    written.rename(table)  # delta-rs takes a path for a URL
    old, _ = sorted(table.glob("*.parquet"), key=lambda file: file.stat().st_mtime)

    (remaining,) = remaining_files.list_remaining(NO_SESSION, {"bronze/items": str(table)}, vacuum=False)

    assert (remaining["old_files"], remaining["bytes"]) == (1, old.stat().st_size)
    assert remaining["vacuum_removes_them_from"] == "in 7 days"
