"""The law of the product on CSV, with small tables in the driver and in Spark. tests/lake/ingest has other formats."""

from __future__ import annotations

from pathlib import Path

import pytest
from law import assert_law

pytestmark = pytest.mark.usefixtures("spark")


@pytest.mark.timeout(600)  # a wide table: minutes, where the machine has other things to do
def test_applying_the_change_set_to_the_rows_before_gives_the_snapshot(tmp_path: Path) -> None:
    assert_law(tmp_path, "csv")


@pytest.mark.timeout(600)
def test_the_law_holds_for_tables_that_spark_reads_and_writes(tmp_path: Path) -> None:
    assert_law(tmp_path, "csv", tuning={"small_table_bytes": 0})
