"""Files are read as they are: the rules of docs/guide/reading-files.md, and files of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from guide import Example, parse_sections
from pyspark.sql import SparkSession
from reading_cases import check, deliver

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "reading-files.md"

pytestmark = pytest.mark.usefixtures("spark")


def test_the_page_of_reading_files_shows_what_happens(tmp_path: Path, spark: SparkSession) -> None:
    (section,) = parse_sections(PAGE.read_text(encoding="utf-8"))

    Example(section, tmp_path, spark).check()


def test_what_is_around_the_records_is_left_out_of_any_file(tmp_path: Path) -> None:
    """tests/systems/test_reading_files.py has the same files by Spark."""
    project = deliver(tmp_path)

    project.run()

    check(project)
