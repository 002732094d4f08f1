"""The law of the product on CSV; tests/lake/ingest/test_law.py has JSON and Parquet."""

from __future__ import annotations

from pathlib import Path

import pytest
from law import assert_law

pytestmark = pytest.mark.usefixtures("spark")


@pytest.mark.timeout(600)  # a wide table: minutes, where the machine has other things to do
def test_applying_the_change_set_to_the_rows_before_gives_the_snapshot(tmp_path: Path) -> None:
    assert_law(tmp_path, "csv")
