"""Tests that each row of docs/what-happens-if.md names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "what-happens-if.md"


def test_every_row_names_existing_tests() -> None:
    rows = 0
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        (file,) = re.findall(r"\]\(\.\./(tests/[a-z0-9_/]+\.py)\)", section)
        tests = re.findall(r"^def (test_\w+)", (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE)
        for row in re.findall(r"^\| (?!if ).*\|$", section, re.MULTILINE):
            named = re.findall(r"`(test_\w+)`", row.rpartition("|")[0].rpartition("|")[2])
            assert named, row
            assert set(named) <= set(tests), row
            rows += 1
    assert rows > 40
