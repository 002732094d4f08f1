"""A late snapshot that is approved, and a replay, end as if all snapshots had come in the order of their times."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from crash_points import interrupt_at
from helpers import Project, Row, nonzero_counts

from lakehouse.failpoints import Interruption, handled_by, parse
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake, to_utc

pytestmark = pytest.mark.usefixtures("spark")

TIMES = [f"2025010{day}_000000" for day in range(1, 6)]
TABLES: dict[str, dict[str, Any]] = {
    "plain": {"schema": "id INT, v STRING, w INT"},
    "history": {"schema": "id INT, v STRING, w INT", "scd": 2, "history_for": ["v"]},
    "same": {"schema": "id INT, v STRING"},
    "bad": {"schema": "id INT, v INT"},
    "grown": {"schema": "id INT, v STRING"},
    "sliced": {"schema": "id INT, v STRING", "slice_by": ["v"]},
    "graced": {"schema": "id INT, v STRING", "missing": {"after": "2 snapshots"}},
}
FILES: dict[str, list[str]] = {  # five snapshots each
    "plain": [
        "id,v,w\n1,a,1\n2,b,1\n3,c,1\n",
        "id,v,w\n1,a,2\n2,b,1\n4,d,1\n",
        "id,v,w\n1,a,2\n3,c,1\n4,x,1\n",
        "id,v,w\n1,a,1\n2,b,1\n3,c,1\n",
        "id,v,w\n1,z,1\n2,b,1\n3,c,9\n",
    ],
    "same": ["id,v\n1,a\n2,b\n"] * 2 + ["id,v\n1,a\n2,c\n"] + ["id,v\n1,a\n2,b\n"] * 2,
    "bad": [
        "id,v\n1,1\n2,2\n3,3\n",
        "id,v\n1,x\n2,2\n3,4\n",
        "id,v\n1,1\n2,y\n3,4\n",
        "id,v\n1,x\n2,3\n",
        "id,v\n1,5\n2,y\n3,4\n",
    ],
    "grown": ["id,v\n1,a\n", "id,v\n1,a\n2,b\n", "id,v\n2,b\n", "id,v\n1,a\n2,b\n3,c\n", "id,v\n3,d\n"],
    "sliced": [  # a key moves from one slice to another, and slices come alone
        "id,v\n1,a\n2,a\n3,b\n",
        "id,v\n1,a\n4,c\n",
        "id,v\n3,b\n2,b\n",
        "id,v\n5,a\n",
        "id,v\n2,b\n4,c\n6,c\n",
    ],
    "graced": [  # 2 is back in time, 3 expires, 4 goes missing at the end
        "id,v\n1,a\n2,b\n3,c\n",
        "id,v\n1,a\n4,d\n",
        "id,v\n1,b\n2,b\n4,d\n",
        "id,v\n1,b\n2,b\n4,d\n",
        "id,v\n1,b\n2,c\n",
    ],
}
FILES["history"] = FILES["plain"]
MODELS = {
    "silver.plain": ("SELECT p.id AS id, p.v AS v, p.w AS w FROM bronze.plain AS p", {"keys": ["id"]}),
    "gold.by_v": ("SELECT p.v AS v, COUNT(*) AS n FROM silver.plain AS p GROUP BY p.v", {}),
}


def shop(folder: Path, names: Iterable[str] = TABLES) -> Project:
    common = {"format": "csv", "keys": ["id"], "guard": {"max_deleted": 1.0, "max_quarantined": 1.0}}
    return Project(folder, {name: common | {"file": f"{name}.csv"} | TABLES[name] for name in names}, MODELS)


def deliver(project: Project, *days: int) -> None:
    for day in days:
        files = {name: FILES[name][day - 1] for name in project.tables}
        project.snapshot(TIMES[day - 1], **files)


def decisions(project: Project, table: str) -> list[tuple[Any, ...]]:
    """Return the row that counts for each snapshot, without the times and paths of the record."""
    newest: dict[Any, Row] = {row["snapshot_time"]: row for row in project.ledger(table)}
    kinds = ("snapshot_time", "status", "sequence", "kind", "fingerprint")
    return [(*(row[name] for name in kinds), nonzero_counts(row)) for _, row in sorted(newest.items())]


def content(project: Project) -> dict[str, Any]:
    names = list(project.tables)
    delta_tables = [f"bronze/{name}" for name in names] + ["silver/plain", "gold/by_v"]
    delta_tables += ["quarantine/bad"] if "bad" in names else []
    by_table = {table: project.rows_with_cdc(table) for table in delta_tables}
    return by_table | {f"ledger {name}": decisions(project, name) for name in names}


def require_verified(project: Project) -> None:
    """Require that all checks hold, and that the feed of plain tables tells the net change since the place."""
    verified = project("verify")
    assert verified.code == 0, [c for c in verified.document["checks"] if c["result"] == "failed"]
    claim = ("I5", "Change Data Feed = the ledger")
    nets = {c["name"]: c for c in verified.document["checks"] if (c["invariant"], c["what"]) == claim}
    for name, table in project.tables.items():
        assert "scd" in table or "missing" in table or nets[name]["result"] == "holds", nets[name]


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    project = shop(tmp_path_factory.mktemp("in_order"))
    deliver(project, 1, 2, 3, 4, 5)
    assert project.run().code == 0
    return content(project)


@pytest.mark.parametrize(
    ("names", "arrivals", "approved"),
    [  # between others, and before the first; and two before the first, the older one first
        (("plain", "same", "bad", "sliced"), [(2, 3, 5), (1, 4)], (4, 1)),
        (("plain", "history", "grown", "graced"), [(3, 4, 5), (2,), (1,)], (1, 2)),
    ],
)
def test_late_snapshots_are_put_in_their_places(
    tmp_path: Path,
    in_order: dict[str, Any],
    names: tuple[str, ...],
    arrivals: list[tuple[int, ...]],
    approved: tuple[int, ...],
) -> None:
    project = shop(tmp_path, names)
    for days in arrivals:
        deliver(project, *days)
        run = project.run()
        assert run.code == 0, run.document
    late = next(o for o in run.document["outcomes"] if o["stage"] == "ingest" and o["status"] == "rejected")
    assert "to put it in its place: lakehouse approve" in late["note"]

    for day in approved:
        for table in names:
            result = project("approve", table, TIMES[day - 1])
            assert result.code == 0, result.document

    assert project.run().code == 0
    found = content(project)
    assert found == {name: in_order[name] for name in found}
    require_verified(project)
    assert project.run().document["nothing_new"]


def test_a_replay_from_any_snapshot_changes_no_row(tmp_path: Path, in_order: dict[str, Any]) -> None:
    project = shop(tmp_path)
    deliver(project, 1, 2, 3, 4, 5)
    assert project.run().code == 0
    for start in (TIMES[2], "2025-01-01T00:00:00Z"):
        before = project.write_counts()
        replayed = project("ingest", "--full-refresh", "--from", start)
        assert replayed.code == 0, replayed.document

        assert project.run().code == 0
        assert content(project) == in_order
        changed = {name for name, count in project.write_counts().items() if count != before[name]}
        assert changed <= {"raw/ledger"}
        if start == TIMES[2]:
            require_verified(project)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two snapshots that were taken, and an older one that was rejected for being late."""
    project = Project(tmp_path_factory.mktemp("small"))
    project.snapshot(TIMES[1], items="id,qty,note\na,1,x\n")
    project.snapshot(TIMES[2], items="id,qty,note\na,2,x\n")
    assert project.run().code == 0
    project.snapshot(TIMES[0], items="id,qty,note\na,0,x\nb,0,x\n")
    assert project.run().code == 0
    return project


def test_commands_that_name_no_such_snapshot_change_nothing(small: Project) -> None:
    ledger = small.ledger()
    for arguments, text in (
        (("approve", "items", TIMES[1]), "a snapshot that is held or late"),
        (("ingest", "--from", TIMES[0]), "--from without --full-refresh"),
        (("ingest", "--full-refresh", "--from", "20260101_000000"), "from 20260101_000000 on was accepted"),
    ):
        result = small(*arguments)
        assert (result.code, text in result.stderr) == (2, True), result.stderr
    assert small.ledger() == ledger


def test_a_replay_without_the_landed_files_changes_nothing(small: Project, tmp_path: Path) -> None:
    project = small.copy(tmp_path)
    snapshot = landing.find_snapshot(Lake.from_root(project.root), "items", to_utc("2025-01-03T00:00:00Z"))
    assert snapshot is not None
    landing.expire_snapshot(snapshot, datetime.now(timezone.utc))
    before = project.ledger()

    refused = project("approve", "items", TIMES[0])

    assert (refused.code, project.ledger()) == (5, before)
    assert f"the files of 1 snapshot of items have expired: {TIMES[2]}" in refused.error["found"]
    assert project.run().code == 0
    assert [row["qty"] for row in project.rows("bronze/items")] == [2]


def test_a_replay_that_was_killed_is_completed_by_the_same_command(small: Project, tmp_path: Path) -> None:
    killed, whole = small.copy(tmp_path / "killed"), small.copy(tmp_path / "whole")
    before = killed.ledger()
    with interrupt_at("replay-compared"):
        killed("approve", "items", TIMES[0])
    assert killed.ledger() == before
    assert (killed.run().code, [row["qty"] for row in killed.rows("bronze/items")]) == (0, [2])

    for project in (killed, whole):
        assert (project("approve", "items", TIMES[0]).code, project.run().code) == (0, 0)

    assert decisions(killed, "items") == decisions(whole, "items")
    assert killed.rows_with_cdc("bronze/items") == whole.rows_with_cdc("bronze/items")
    assert killed("verify").code == 0


def test_a_folder_that_changed_is_taken_again_in_its_place(tmp_path: Path) -> None:
    texts = ["id,qty,note\na,1,x\nb,1,x\n", "id,qty,note\na,1,x\nb,2,x\n", "id,qty,note\na,3,x\nb,2,x\n"]
    project, wanted = Project(tmp_path / "changed"), Project(tmp_path / "wanted")
    for stamp, text in zip(TIMES, texts, strict=False):
        project.snapshot(stamp, items=text)
        wanted.snapshot(stamp, items=text.replace("b,1", "b,5") if stamp == TIMES[0] else text)
    assert (project.run().code, wanted.run().code) == (0, 0)
    project.snapshot(TIMES[0], items=texts[0].replace("b,1", "b,5"))

    (table,) = project("status").document["tables"]
    assert [c["next_step"].split(",")[0].split()[-2:] for c in table["changed_in_source"]] == [["items", TIMES[0]]]
    with handled_by(parse(f"after_remove@{TIMES[0]}:raise")), pytest.raises(Interruption):  # the old one is gone
        project("approve", "items", TIMES[0])
    assert not (project.lake / "landing/items" / TIMES[0]).exists()
    (project.lake / "_state/lock").unlink()  # the JVM in it has not died, as after a kill
    assert project("approve", "items", TIMES[0]).code == 0
    assert project.run().code == 0

    assert project.rows_with_cdc("bronze/items") == wanted.rows_with_cdc("bronze/items")
    assert decisions(project, "items") == decisions(wanted, "items")
    assert project("status").document["tables"][0]["changed_in_source"] == []
    assert project("verify").code == 0
