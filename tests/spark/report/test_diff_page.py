"""The page of `diff --html` marks changed cells, masks personal columns, and runs and loads nothing. No JVM."""

from __future__ import annotations

import re
from typing import Any

from lakehouse.report.diff_page import render

HOSTILE = "<script>alert(1)</script>"


def table(**settings: Any) -> dict[str, Any]:
    """Return the document of one table, but for these parts."""
    return {
        "table": "items",
        "from": "20250101_000000",
        "to": "20250102_000000",
        "verdict": "compared",
        "reason": None,
        "note": None,
        "counts": {"inserted": 1, "updated": 2, "deleted": 1, "unchanged": 5},
        "rows_before": 8,
        "columns": {"qty": 2, "email": 1},
        "last_change": None,
        "samples": {
            "inserted": [{"id": HOSTILE, "qty": None, "email": "new@example.com"}],
            "updated": [
                {"key": {"id": "b"}, "changed": {"qty": {"before": 1, "after": 2}}},
                {"key": {"id": "c"}, "changed": {"email": {"before": "old@example.com", "after": None}}},
            ],
            "deleted": [{"id": "d", "qty": 4, "email": "gone@example.com"}],
        },
    } | settings


def page(*tables: dict[str, Any]) -> str:
    personal = {"items": lambda name: name == "email", "gold.sums": lambda name: False}
    return render({"pipeline": HOSTILE, "tables": list(tables)}, personal)


def test_changed_cells_are_marked_with_both_values() -> None:
    found = page(table())

    assert '<td class="value changed updated"><del>1</del> <ins>2</ins></td>' in found
    assert '<td class="value changed deleted">d</td>' in found
    assert '<td class="value changed inserted">—</td>' in found
    # A cell of an updated row that has not changed is not marked.
    assert (
        '<td class="value">b</td><td class="value changed updated"><del>1</del> <ins>2</ins></td><td class="value">'
        in found
    )
    assert "1 inserted" in found and "2 updated" in found and "8 rows before" in found


def test_personal_columns_are_masked_on_both_sides() -> None:
    found = page(table())

    assert "@example.com" not in found
    assert "<del>***</del> <ins>—</ins>" in found


def test_the_page_runs_and_loads_nothing() -> None:
    found = page(table(note=HOSTILE, reason=HOSTILE), table(table="gold.sums"))

    assert "<script" not in found
    assert "&lt;script&gt;" in found
    assert re.findall(
        r'http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;|default-src \'none\'', found
    )
    assert not re.findall(r'(?:src|href)="(?!data:,")', found)


def test_a_table_without_changes_and_one_whose_last_change_is_shown_have_a_section() -> None:
    none = {"inserted": [], "updated": [], "deleted": []}
    last = {"from": None, "to": "20250101_000000", "counts": {"inserted": 3}, "columns": {}, "samples": none}
    unchanged = table(verdict="unchanged", counts={}, rows_before=None, columns={}, samples=none, last_change=last)
    empty = table(counts={}, rows_before=None, columns={}, samples=none)

    assert "nothing → 20250101_000000: unchanged" in page(unchanged)
    assert "3 inserted" in page(unchanged)
    assert "no changes" in page(empty)
