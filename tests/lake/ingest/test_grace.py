"""`missing` on a lake: the page of missing keys, the commands that show them, switching, guards and due times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from guide import Example, parse_sections
from helpers import ITEMS, Project
from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("spark")

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "missing-keys.md"
GUARD = {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1}
HEAD = "id,qty,note\n"
TWO, ONE = HEAD + "a,1,x\nb,2,x\n", HEAD + "a,1,x\n"


def test_the_page_of_missing_keys_shows_what_happens(tmp_path: Path, spark: SparkSession) -> None:
    (section,) = parse_sections(PAGE.read_text(encoding="utf-8"))

    Example(section, tmp_path, spark).check()


def test_without_snapshot_times_the_first_run_after_the_duration_deletes_the_key(tmp_path: Path) -> None:
    """Before that, equal files are nothing new and start no JVM. They count for no number of snapshots."""
    tables = {
        "items": {**ITEMS, "guard": GUARD, "missing": {"after": "7d"}},
        "counted": {**ITEMS, "file": "counted.csv", "guard": GUARD, "missing": {"after": "2 snapshots"}},
    }
    project = Project(tmp_path, tables)
    project.snapshot(items=TWO, counted=TWO)
    assert project.run("--as-of", "2025-01-01").code == 0
    project.snapshot(items=ONE, counted=ONE)
    assert project.run("--as-of", "2025-01-02").code == 0
    mark = json.loads((project.lake / "_state/clean.json").read_text())
    assert mark["due"] == "2025-01-09T00:00:00+00:00"
    state = project("status").document["tables"][0]
    assert (state["missing"], state["missing_since"]) == (1, "2025-01-02T00:00:00Z")

    early = project.run("--as-of", "2025-01-08T23:59:59")
    assert early.document["outcomes"] == []  # nothing was looked at
    due = project.run("--as-of", "2025-01-09T00:00:00")

    assert due.code == 0
    assert (due.statuses("extract")["items"], due.statuses("extract")["counted"]) == ("landed", "nothing new")
    assert project.rows("bronze/items") == [{"id": "a", "qty": 1, "note": "x"}]
    assert [row["id"] for row in project.rows("bronze/counted")] == ["a", "b"]
    assert project.ledger()[-1]["deleted"] == 1
    assert "due" not in json.loads((project.lake / "_state/clean.json").read_text())
    assert project.run("--as-of", "2025-01-20").document["outcomes"] == []


def test_missing_can_be_switched_on_and_off(tmp_path: Path) -> None:
    tables = {
        "items": {**ITEMS, "guard": GUARD},
        "marked": {**ITEMS, "file": "marked.csv", "guard": GUARD},
    }
    project = Project(tmp_path, tables)
    project.snapshot("20250101_000000", items=TWO, marked=TWO)
    assert project.run().code == 0
    assert "_cdc_missing_since" not in project.rows_with_cdc("bronze/items")[0]
    assert "missing" not in project.ledger()[-1]  # of the ledger, neither
    project.tables["marked"]["missing"] = {"then": "mark"}
    project.configure(missing={"after": "5 snapshots"})
    project.snapshot("20250102_000000", items=ONE, marked=ONE)

    shown = project("diff", "items").document["tables"][0]
    assert project.run().code == 0

    assert shown["missing"] == {"goes_missing": 1, "is_back": 0, "would_expire": 0, "missing": 1}
    assert [row["id"] for row in shown["samples"]["goes_missing"]] == ["b"]
    since = {row["id"]: str(row["_cdc_missing_since"])[:10] for row in project.rows_with_cdc("bronze/items")}
    assert since == {"a": "None", "b": "2025-01-02"}
    assert project("show", "marked").document["count"] == 1
    assert [row["_cdc_operation"] for row in project.rows_with_cdc("bronze/marked")] == ["I", "D"]

    assert project("verify").code == 0  # with a missing key and a marked one
    del project.tables["marked"]["missing"]
    project.configure(missing=None)
    assert project.run().code == 0

    for name in ("items", "marked"):
        assert [(r["id"], r["_cdc_missing_since"]) for r in project.rows_with_cdc(f"bronze/{name}")] == [("a", None)]
        assert [row["deleted"] for row in project.ledger(name)[-2:]] == [int(name == "marked"), 1]
    assert project("verify").code == 0


def test_a_key_that_goes_missing_counts_for_the_guard_and_one_that_expires_does_not(tmp_path: Path) -> None:
    """An unreadable key holds both: the key that seems to be missing may be that one."""
    table = {**ITEMS, "schema": "id INT, qty INT, note STRING", "missing": {"after": "2 snapshots"}}
    unread = {**table, "file": "unread.csv", "guard": GUARD}
    project = Project(tmp_path, {"items": {**table, "guard": {"max_deleted": 0.3}}, "unread": unread})
    project.snapshot("20250101_000000", items=HEAD + "1,1,x\n2,2,x\n", unread=HEAD + "1,1,x\n2,2,x\n")
    project.snapshot("20250102_000000", items=HEAD + "1,1,x\n", unread=HEAD + "1,1,x\nno,2,x\n")
    held = project.run()
    assert held.code == 4
    reasons = [project.ledger(name)[-1]["reason"] for name in ("items", "unread")]
    assert reasons[0] == "1 of 2 rows missing, more than max_deleted 0.3"
    assert reasons[1].startswith("1 row whose key cannot be read, beside 1 row missing")

    for name in ("items", "unread"):
        assert project("approve", name, "20250102_000000").code == 0
    project.snapshot("20250103_000000", items=HEAD + "1,3,x\n", unread=HEAD + "1,3,x\nno,2,x\n")
    again = project.run()

    assert again.code == 4
    assert project.statuses("items")[-1] == "accepted"
    assert project.ledger("items")[-1]["deleted"] == 1
    assert project.ledger("unread")[-1]["reason"].startswith("1 row whose key cannot be read, beside 1 row deleted")
