"""Files are read as they are, on every path: the rules of docs/guide/reading-files.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from guide import Example, parse_sections
from pyspark.sql import SparkSession

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "reading-files.md"

pytestmark = pytest.mark.usefixtures("spark")


def test_the_page_of_reading_files_shows_what_happens(tmp_path: Path, spark: SparkSession) -> None:
    (section,) = parse_sections(PAGE.read_text(encoding="utf-8"))

    example = Example(section, tmp_path, spark)
    example.check()

    assert example.project("verify").code == 0
