"""Files are read as they are: by Spark, verified, and without the records that are forgotten."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from reading_cases import CASES, DOCUMENT, FIRST, TITLED, check, deliver

pytestmark = pytest.mark.usefixtures("spark")


def test_what_is_around_the_records_is_left_out_by_spark_and_stays_when_records_are_forgotten(tmp_path: Path) -> None:
    project = deliver(tmp_path, driver_compare_bytes=0)

    project.run()

    check(project)
    for name, encoding, expected in (
        ("gz", "UTF-8", TITLED.replace("a,1\n", "")),
        ("wide", "UTF-16", TITLED.replace("a,1\n", "")),
        ("document", "UTF-8", DOCUMENT.replace('[\n{"id": "a", "qty": 1},\n', "[").replace("\n]", "]")),
    ):
        assert project("forget", name, "a", "--yes").code == 0
        content = (project.lake / "landing" / name / FIRST / CASES[name][0]).read_bytes()
        content = gzip.decompress(content) if name == "gz" else content
        assert content.decode(encoding) == expected
    assert project("verify").code == 0
