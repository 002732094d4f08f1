"""Tables that have come to many small files are compacted, and nothing that reads them notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable
from helpers import Project
from shop import MODELS

from lakehouse.storage import small_files


def file_count(project: Project, table: str) -> int:
    return len(DeltaTable(str(project.lake / table)).file_uris())


def take(project: Project, day: int) -> dict[str, str]:
    """Run with a snapshot in which a row is new and one cannot be read; from the fourth on, another has changed."""
    rows = "".join(f"k{number},{number + 5 * (number == 1 and day > 3)},x\n" for number in range(1, day + 1))
    bad = "".join(f"bad {number},?,y\n" for number in range(1, day + 1))
    project.snapshot(f"202501{day:02d}_000000", items=f"id,qty,note\n{rows}{bad}")
    done = project.run()
    assert done.code == 0, done.document
    return done.statuses("silver") | done.statuses("gold")


def test_each_table_of_a_lake_is_compacted_and_read_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = {"full_refresh_below_bytes": 0}
    project = Project(tmp_path / "compacted", models=MODELS, tuning=tuning)
    other = Project(tmp_path / "other", models=MODELS, tuning=tuning)
    monkeypatch.setattr(small_files, "MANY", 3)
    compacted: set[str] = set()
    for day in range(1, 7):
        statuses = take(project, day)
        assert day == 1 or "full" not in statuses.values()
        compacted |= {table for table in project.versions() if "OPTIMIZE" in project.operations(table)}
    monkeypatch.undo()
    for day in range(1, 7):
        take(other, day)
    assert compacted >= {"bronze/items", "silver/items", "silver/many", "raw/ledger"}
    for table in ("bronze/items", "quarantine/items", *(model.replace(".", "/") for model in MODELS)):
        assert project.rows_with_cdc(table) == other.rows_with_cdc(table)
    facts = ("sequence", "snapshot_time", "status", "rows_read", "inserted", "updated", "quarantined")
    assert [[row[name] for name in facts] for row in project.ledger()] == [
        [row[name] for name in facts] for row in other.ledger()
    ]
    assert file_count(project, "raw/ledger") <= 3 < file_count(other, "raw/ledger")
    assert project("verify").code == 0
    assert project.run().document["nothing_new"]
