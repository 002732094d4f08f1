"""`lakehouse diff` predicts exactly what a run does, and leaves the lake unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import ITEMS, Project, Row
from pyspark.sql import SparkSession

import lakehouse
from lakehouse.lake.cdc import COUNT_COLUMNS

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"
ROWS = "id,qty,note\na,1,alpha\nb,2,beta\nc,3,\nd,4,delta\ne,5,epsilon\n"
# f and g are new, a and b updated, e is gone, c stays; d goes to quarantine; f comes twice.
CHANGED = "id,qty,note\nf,6,\na,1,ALPHA\nb,20,\nc,3,\nd,four,delta\ng,7,gamma\nf,6,\n"


def files(project: Project) -> dict[str, tuple[int, int]]:
    """Return the size and time of every file of the lake, `_state` included, and of the source."""
    result = [p for root in (project.lake, project.source) for p in root.rglob("*") if p.is_file()]
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in result}


def diff(project: Project, *arguments: str, code: int = 0) -> Row:
    """Return the one table of `diff`, after checking that nothing was written."""
    before = files(project)
    done = project("diff", *arguments)
    assert done.code == code, done.document
    assert files(project) == before
    assert done.document["exit_code"] == code
    (table,) = done.document["tables"]
    return dict(table)


def recorded(project: Project) -> Row:
    """Return the counts of the newest row of the ledger."""
    return {name: project.ledger()[-1][name] for name in COUNT_COLUMNS}


def row(key: str, qty: int | None, note: str | None) -> Row:
    return {"id": key, "qty": qty, "note": note}


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("base"))
    project.snapshot(FIRST, items=ROWS)
    assert project.run().code == 0
    return project


@pytest.fixture
def shop(base: Project, tmp_path: Path) -> Project:
    """One accepted snapshot of five rows."""
    return base.copy(tmp_path / "shop")


def test_diff_predicts_what_the_run_does(shop: Project) -> None:
    shop.configure(guard={"max_deleted": 0.3})
    shop.snapshot(SECOND, items=CHANGED)
    result = diff(shop)
    assert (result["table"], result["from"], result["to"]) == ("items", FIRST, SECOND)
    assert (result["verdict"], result["reason"], result["note"]) == ("accepted", None, None)
    assert result["rows_before"] == 5
    assert result["percent"] == {
        "inserted": 40.0,
        "updated": 40.0,
        "deleted": 20.0,
        "unchanged": 20.0,
        "quarantined": 20.0,
        "duplicates": 20.0,
    }
    assert list(result["columns"].items()) == [("note", 2), ("qty", 1)]
    reason = {"rule": "malformed", "column": "qty", "reason": "qty: not an INT", "rows": 1}
    assert result["quarantine"] == [
        reason | {"value": "four", "line": 6, "advice": "declare qty as STRING in `schema`, if it is no number"}
    ]
    assert result["samples"] == {
        "inserted": [row("f", 6, None), row("g", 7, "gamma")],
        "updated": [
            {"key": {"id": "a"}, "changed": {"note": {"before": "alpha", "after": "ALPHA"}}},
            {
                "key": {"id": "b"},
                "changed": {"qty": {"before": 2, "after": 20}, "note": {"before": "beta", "after": None}},
            },
        ],
        "deleted": [row("e", 5, "epsilon")],
    }
    few = lakehouse.diff(shop.pipeline, "items", samples=1)["tables"][0]
    assert {kind: len(rows) for kind, rows in few["samples"].items()} == {"inserted": 1, "updated": 1, "deleted": 1}
    assert {**few, "samples": None} == {**result, "samples": None}

    assert shop.run().code == 0
    assert recorded(shop) == result["counts"]
    assert shop.ledger()[-1]["status"] == result["verdict"]

    again = diff(shop)
    assert (again["verdict"], again["counts"], again["from"], again["to"]) == ("unchanged", {}, SECOND, SECOND)
    landed = diff(shop, "--from", FIRST)
    assert landed == result  # the same two, now both from landing
    assert diff(shop, "--to", SECOND) == result

    # d is in quarantine: bronze keeps its row, but the second snapshot alone has none.
    shop.snapshot(THIRD, items=ROWS)
    assert diff(shop)["counts"]["inserted"] == 1
    assert shop("extract").code == 0
    back = diff(shop, "--from", SECOND, "--to", THIRD)
    assert back["counts"]["inserted"] == 2
    assert back["note"] == "rows of 20250102_000000 that would be quarantined are missing: 1"


def test_before_the_first_run_all_rows_are_new_and_no_lake_is_created(tmp_path: Path) -> None:
    shop = Project(tmp_path)
    shop.snapshot(items=ROWS)  # a source without snapshot times
    result = diff(shop, "--samples", "2")
    assert not shop.lake.exists()
    assert (result["verdict"], result["from"], result["rows_before"]) == ("accepted", None, 0)
    assert set(result["percent"].values()) == {None}
    assert result["samples"] == {"inserted": [row("a", 1, "alpha"), row("b", 2, "beta")], "updated": [], "deleted": []}

    assert shop.run().code == 0
    assert recorded(shop) == result["counts"]
    assert diff(shop)["verdict"] == "unchanged"
    shop.snapshot(items=ROWS.replace("alpha", "beta"))
    assert diff(shop)["columns"] == {"note": 1}
    (shop.source / "items.csv").unlink()
    gone = shop("diff")  # with no file of any table, the source is not what the pipeline says
    assert gone.code == 2
    assert "has no snapshot" in gone.document["error"]["found"]


def test_a_snapshot_that_would_be_held_has_the_guards_reason(shop: Project) -> None:
    shop.snapshot(SECOND, items="id,qty,note,extra\na,1,alpha,x\n")
    result = diff(shop)
    assert result["verdict"] == "held"
    assert result["counts"]["deleted"] == 4
    assert [deleted["id"] for deleted in result["samples"]["deleted"]] == ["b", "c", "d", "e"]

    assert shop.run().code == 4
    entry = shop.ledger()[-1]
    assert (entry["status"], entry["reason"]) == ("held", result["reason"])
    assert recorded(shop) == result["counts"]
    assert diff(shop) == result  # from landing now
    assert diff(shop, "--from", FIRST) == result

    assert shop("approve", "items", SECOND).code == 0
    after = diff(shop)  # accepted, and not in bronze yet
    assert (after["verdict"], after["note"]) == ("unchanged", None)
    shop.snapshot(THIRD, items="id,qty,note,extra\na,10,alpha,x\n")
    pending = diff(shop)
    assert pending["verdict"] == "accepted"
    assert pending["rows_before"] == 1
    assert "extra" in pending["reason"]
    assert pending["samples"]["updated"] == [{"key": {"id": "a"}, "changed": {"qty": {"before": 1, "after": 10}}}]
    assert "bronze is not at the ledger's last sequence" in pending["note"]


REJECTED = {
    "doubled": (
        ROWS + "a,2,other\n",
        "1 key of doubled has several rows with different content, such as in lines 2, 7",
    ),
    "narrow": ("id,qty\na,1\n", "no column note"),
    "open": (ROWS + 'f,6,"open\n', "quote"),
}


def test_a_snapshot_that_would_be_rejected_has_the_reason_of_the_run(tmp_path: Path) -> None:
    shop = Project(tmp_path, {name: {**ITEMS, "file": f"{name}.csv"} for name in REJECTED})
    shop.snapshot(FIRST, **dict.fromkeys(REJECTED, ROWS))
    assert shop.run().code == 0
    shop.snapshot(SECOND, **{name: content for name, (content, _) in REJECTED.items()})

    before = files(shop)
    results = {result["table"]: result for result in shop("diff").document["tables"]}
    assert files(shop) == before
    assert shop.run().code == 5

    assert list(results) == list(REJECTED)
    for name, (_, reason) in REJECTED.items():
        result = results[name]
        assert (result["verdict"], result["counts"], result["rows_before"]) == ("rejected", {}, None)
        assert reason in result["reason"]
        assert str(shop.source) in result["reason"]
        in_landing = result["reason"].replace(str(shop.source), str(shop.lake / "landing" / name))
        assert shop.ledger(name)[-1]["reason"] == in_landing

    assert "verdict" not in diff_error(shop, "open", "--from", SECOND, "--to", FIRST)
    assert diff(shop, "open", "--from", FIRST)["verdict"] == "rejected"
    shop.snapshot(THIRD, **dict.fromkeys(REJECTED, ROWS))
    assert shop("extract").code == 0
    before = files(shop)
    failed = shop("diff", "--from", SECOND)  # a rejected snapshot is no baseline
    assert failed.code == 5
    assert [result["verdict"] for result in failed.document["tables"]] == ["failed"] * 3
    assert files(shop) == before


def diff_error(project: Project, *arguments: str) -> Row:
    """Return the usage error of `diff`."""
    before = files(project)
    done = project("diff", *arguments)
    assert done.code == 2, done.document
    assert files(project) == before
    return done.error


def test_an_older_snapshot_is_late_and_waiting_ones_are_counted(shop: Project) -> None:
    shop.snapshot(SECOND, items=ROWS.replace("a,1", "a,2"))
    shop.snapshot(THIRD, items=ROWS.replace("a,1", "a,3"))
    result = diff(shop)
    assert (result["from"], result["to"], result["columns"]) == (FIRST, THIRD, {"qty": 1})
    assert result["note"] == "older snapshots wait (1), and a run takes them first"
    assert shop.run().code == 0
    for stamp in (FIRST, SECOND, THIRD):
        (shop.source / stamp / "items.csv").unlink()
        (shop.source / stamp).rmdir()
    shop.snapshot("20241231_000000", items=ROWS)
    late = diff(shop)
    assert (late["verdict"], late["to"]) == ("late", "20241231_000000")
    assert THIRD in late["reason"]


def test_snapshots_that_have_not_landed_are_answered_with_those_that_have(shop: Project) -> None:
    unknown = diff_error(shop, "--from", SECOND)
    assert f"no snapshot {SECOND} of items has landed" in unknown["found"]
    assert FIRST in unknown["expected"]
    assert "before" in diff_error(shop, "--to", FIRST)["found"]
    assert "not before" in diff_error(shop, "--from", FIRST, "--to", FIRST)["found"]
    assert "tomorrow" in diff_error(shop, "--to", "tomorrow")["found"]
    assert "--samples" in diff_error(shop, "--samples", "-1")["found"]
    shop.source.rename(shop.folder / "elsewhere")
    assert "does not exist" in diff_error(shop)["found"]


def test_a_table_that_cannot_be_compared_does_not_hide_the_others(tmp_path: Path) -> None:
    tables: dict[str, dict[str, Any]] = {"items": dict(ITEMS), "others": {**ITEMS, "file": "others.csv"}}
    silver = {"silver.items": ("SELECT i.id AS id FROM bronze.items AS i", {"keys": ["id"]})}
    shop = Project(tmp_path, tables, silver)
    shop.snapshot(FIRST, items=ROWS, others=ROWS)
    assert shop.run().code == 0
    assert "models" in diff_error(shop, "silver.items")["found"]

    shop.configure(schema="id STRING, qty BIGINT, note STRING")
    shop.snapshot(SECOND, items=ROWS.replace("beta", "BETA"), others=ROWS.replace("beta", "BETA"))
    done = shop("diff")
    assert (done.code, done.document["exit_code"]) == (2, 2)
    items, others = done.document["tables"]
    assert items["verdict"] == "failed"
    assert "items --full-refresh" in items["reason"]
    assert (others["verdict"], others["columns"]) == ("accepted", {"note": 1})
    assert shop("extract").code == 0
    assert diff(shop, "items", "--from", FIRST)["columns"] == {"note": 1}  # bronze is not read


def test_a_column_added_to_the_schema_is_optional_until_a_snapshot_has_it(shop: Project) -> None:
    shop.configure(schema="id STRING, qty INT, note STRING, extra STRING")
    again = diff(shop)
    assert (again["verdict"], again["counts"]["unchanged"]) == ("accepted", 5)
    shop.snapshot(SECOND, items=ROWS.replace("a,1", "a,2"))
    assert diff(shop)["columns"] == {"qty": 1}
    shop.snapshot(THIRD, items="id,qty,note,extra\na,1,alpha,new\nb,2,beta,\nc,3,,\nd,4,delta,\ne,5,epsilon,\n")
    assert diff(shop)["columns"] == {"extra": 1}
    assert shop("extract").code == 0
    assert diff(shop, "--to", SECOND)["columns"] == {"qty": 1}
    assert diff(shop, "--to", THIRD)["columns"] == {"extra": 1, "qty": 1}

    shop.snapshot("20250104_000000", items=ROWS)  # a snapshot has had it
    assert shop("extract").code == 0
    gone = diff(shop, "--from", THIRD)
    assert (gone["verdict"], "no column extra" in gone["reason"]) == ("rejected", True)
