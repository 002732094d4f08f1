"""Tables that have come to many small files are compacted, and nothing that reads them notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable
from helpers import Project
from shop import MODELS

from lakehouse.storage import small_files

DAYS = range(1, 6)


def quantities(day: int) -> dict[str, int]:
    """Return the rows of a day's snapshot: each has one more, and from the fourth on another quantity of the first."""
    return {f"k{number}": number + 5 * (number == 1 and day > 3) for number in range(1, day + 1)}


def test_each_table_of_a_lake_is_compacted_and_read_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, models=MODELS, tuning={"full_refresh_below_bytes": 0})
    monkeypatch.setattr(small_files, "MANY", 3)
    for day in DAYS:
        rows = "".join(f"{key},{quantity},x\n" for key, quantity in quantities(day).items())
        project.snapshot(f"202501{day:02d}_000000", items=f"id,qty,note\n{rows}unreadable,?,y\n")
        done = project.run()
        assert done.code == 0, done.document
        statuses = done.statuses("silver") | done.statuses("gold")
        assert day == 1 or "full" not in statuses.values()

    written = {table for table in project.versions() if "OPTIMIZE" in project.operations(table)}
    assert written >= {"bronze/items", "silver/items", "silver/many", "raw/ledger"}
    assert len(DeltaTable(str(project.lake / "raw/ledger")).file_uris()) <= 3
    assert [row["sequence"] for row in project.ledger()] == [*DAYS]
    wanted = quantities(DAYS[-1])
    for table in ("bronze/items", "silver/items"):
        assert {row["id"]: row["qty"] for row in project.rows(table)} == wanted
    assert project.rows("gold/notes") == [{"note": "x", "qty": sum(wanted.values())}]
    assert project("verify").code == 0
    assert project.run().document["nothing_new"]
