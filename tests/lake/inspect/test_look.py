"""`status`, `history`, `quarantine`, `show`, `sql` and the last `diff` read a lake on a disk without a session."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import ITEMS, Project, sort_rows
from pyspark.sql import SparkSession

import lakehouse
from lakehouse.lake import duckdb_views
from lakehouse.runner.context import Run

FIRST, SECOND = "20250101_000000", "20250102_000000"
BEFORE = 'id,qty,note\na,1,x\nb,2,\nc,3,""\n'
AFTER = 'id,qty,note\na,1,y\nb,20,\nd,?,z\ne,5,"1,2"\n'


def no_session(run: Run) -> Any:
    pytest.fail("a session was started")


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    items = ITEMS | {"guard": {"max_deleted": 1.0, "max_quarantined": 1.0}}
    tables = {"items": items, "kept": items | {"scd": 2, "file": "items.csv"}}
    rules = {"small": {"check": "qty < 10", "on_fail": "quarantine"}}
    sql = "SELECT i.id, i.qty, i.qty * CAST(0.5 AS DECIMAL(3,2)) AS half FROM bronze.items AS i"
    models = {"silver.items": (sql, {"keys": ["id"], "expect": rules})}
    shop = Project(tmp_path_factory.mktemp("base"), tables, models)
    shop.snapshot(FIRST, items=BEFORE)
    shop.snapshot(SECOND, items=AFTER)
    assert shop.run().code == 0
    return shop


@pytest.fixture
def shop(base: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A lake after two snapshots, in which no command can start a session."""
    copy = base.copy(tmp_path / "shop")
    monkeypatch.setattr(Run, "spark", property(no_session))
    return copy


def query(shop: Project, text: str, *options: str) -> list[dict[str, Any]]:
    done = shop("sql", text, *options)
    assert done.code == 0, done.document
    rows: list[dict[str, Any]] = done.document["rows"]
    return rows


def test_status_and_history_need_no_session(shop: Project) -> None:
    document = shop("status").document

    assert [(table["table"], table["sequence"], table["quarantined"]) for table in document["tables"]] == [
        ("items", 2, 1),
        ("kept", 2, 1),
    ]
    assert [(rule["model"], rule["rule"]) for rule in document["expectations"]] == [("silver.items", "small")]
    assert {row["name"] for row in document["attention"]} >= {"items", "kept", "silver.items"}
    assert len(shop("history", "items").document["entries"]) == 2


def test_quarantine_counts_by_reason_and_shows_the_newest(shop: Project) -> None:
    document = shop("quarantine", "items").document
    assert (document["unresolved"], document["resolved"]) == (1, 0)
    reason = {"rule": "malformed", "column": "qty", "reason": "qty: not an INT", "rows": 1, "advice": None}
    assert document["reasons"] == [reason]
    (row,) = document["rows"]
    assert (row["line"], row["value"], row["first_sequence"], row["resolved"]) == (4, "?", 2, False)

    few = shop("quarantine", "items", "--limit", "0").document
    assert few == document | {"rows": []}
    assert shop("quarantine", "silver.items").document["reasons"][0]["rule"] == "small"


def test_show_has_the_counts_and_the_first_rows_by_key(shop: Project) -> None:
    document = shop("show", "items", "--limit", "2").document
    assert (document["name"], document["count"], document["windows"]) == ("bronze.items", 3, None)
    assert document["last_change"]["inserted"] == 1
    assert [(row["id"], row["qty"]) for row in document["rows"]] == [("a", 1), ("b", 20)]

    history = shop("show", "kept").document
    assert (history["count"], history["windows"]) == (3, 6)
    assert [row["id"] for row in history["rows"]] == ["a", "b", "e"]
    model = shop("show", "silver.items").document
    assert [(row["id"], row["half"]) for row in model["rows"]] == [("a", "0.50"), ("e", "2.50")]


@pytest.mark.parametrize("table", ["items", "kept"])
@pytest.mark.parametrize("time", [FIRST, SECOND, "20241231_000000"])
def test_rows_at_a_time_are_those_of_the_time_travel(
    base: Project, shop: Project, monkeypatch: pytest.MonkeyPatch, table: str, time: str
) -> None:
    shown = query(shop, f"SELECT id, qty, note FROM bronze.{table} ORDER BY id", "--at", time)
    monkeypatch.undo()
    stamp = f"{time[:4]}-{time[4:6]}-{time[6:8]}T00:00:00Z"
    rows = [row.asDict() for row in lakehouse.as_of(base.pipeline, table, stamp).select("id", "qty", "note").collect()]

    assert shown == sort_rows(rows)


def test_a_query_reads_every_layer_and_nothing_else(shop: Project) -> None:
    joined = "SELECT b.note, s.half FROM bronze.items b JOIN Silver.Items s USING (id) ORDER BY id"
    assert query(shop, joined) == [{"note": "y", "half": "0.50"}, {"note": "1,2", "half": "2.50"}]
    assert query(shop, "WITH x AS (FROM bronze.items) SELECT sum(qty) AS s FROM x") == [{"s": 26}]
    refused = {
        "SELECT * FROM bronze.item": "did you mean",
        "SELECT * FROM items": "has no items",
        "DELETE FROM bronze.items": "the query is DELETE",
        "SELECT 1; SELECT 2": "the query is SELECT, SELECT",
        "COPY bronze.items TO 'x.csv'": "the query is COPY",
        "SELECT * FROM read_text('/etc/hostname')": "disabled",
        "SELECT no_such_function(qty) FROM bronze.items": "no_such_function",
        "SELEC 1": "syntax error",
    }
    for text, found in refused.items():
        done = shop("sql", text)
        assert done.code == 2, text
        assert found in done.error["found"], text


def test_a_model_at_a_time_is_its_sql_over_its_inputs_at_that_time(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(query(shop, "SELECT * FROM silver.items", "--at", SECOND)) == 2  # as it is now, which needs no session
    monkeypatch.undo()
    rows = query(shop, "SELECT id, qty, half FROM silver.items ORDER BY id", "--at", FIRST)
    assert rows == [{"id": id_, "qty": n, "half": f"{n * 0.5:.2f}"} for id_, n in (("a", 1), ("b", 2), ("c", 3))]
    assert [row["id"] for row in shop("show", "silver.items", "--at", FIRST).document["rows"]] == ["a", "b", "c"]


def test_a_query_is_written_to_a_file(shop: Project, tmp_path: Path) -> None:
    text = "SELECT id, qty, note, _cdc_timestamp AS t FROM bronze.items ORDER BY id"
    for name in ("rows.csv", "rows.parquet"):
        assert shop("sql", text, "--out", str(tmp_path / name), "--limit", "1").document["count"] == 3
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["id", "qty", "note", "t"],
        ["a", "1", "y", "2025-01-02T00:00:00Z"],
        ["b", "20", "", "2025-01-02T00:00:00Z"],
        ["e", "5", "1,2", "2025-01-02T00:00:00Z"],
    ]
    assert pl.read_parquet(tmp_path / "rows.parquet")["qty"].to_list() == [1, 20, 5]
    for wrong in ("rows.xlsx", "missing/rows.csv", "."):
        assert shop("sql", text, "--out", str(tmp_path / wrong)).code == 2
    assert sorted(file.name for file in tmp_path.glob("*rows*")) == ["rows.csv", "rows.parquet"]


def test_diff_shows_the_last_change_if_nothing_is_new(shop: Project) -> None:
    (table,) = shop("diff", "items").document["tables"]
    assert (table["verdict"], table["counts"]) == ("unchanged", {})
    last = table["last_change"]
    assert (last["from"], last["to"], last["columns"]) == (FIRST, SECOND, {"note": 1, "qty": 1})
    assert last["samples"]["inserted"] == [{"id": "e", "qty": 5, "note": "1,2"}]
    assert last["samples"]["deleted"] == [{"id": "c", "qty": 3, "note": ""}]
    assert last["samples"]["updated"] == [
        {"key": {"id": "a"}, "changed": {"note": {"before": "x", "after": "y"}}},
        {"key": {"id": "b"}, "changed": {"qty": {"before": 2, "after": 20}}},
    ]


def test_rows_that_a_deletion_vector_deletes_are_not_shown(spark: SparkSession, base: Project, tmp_path: Path) -> None:
    shop = base.copy(tmp_path / "shop")
    address = f"delta.`{shop.lake / 'bronze' / 'items'}`"
    spark.sql(f"ALTER TABLE {address} SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
    spark.sql(f"OPTIMIZE {address}")
    spark.sql(f"DELETE FROM {address} WHERE id = 'b'")
    log = sorted((shop.lake / "bronze/items/_delta_log").glob("*.json"))[-1]
    assert "deletionVector" in log.read_text()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "spark", property(no_session))
        assert [row["id"] for row in shop("show", "items").document["rows"]] == ["a", "e"]


def test_what_the_driver_cannot_read_spark_reads(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = shop("show", "items").document, shop("quarantine", "items").document
    monkeypatch.undo()
    monkeypatch.setattr(duckdb_views, "rows_of", lambda *_: None)

    assert (shop("show", "items").document, shop("quarantine", "items").document) == wanted


LOOKS = [["status"], ["history", "items"], ["quarantine", "items"], ["show", "items"], ["sql", "FROM bronze.items"]]
LOOKS += [["diff"], ["why", "silver.items", "a"]]
SLOW = {"pandas", "polars", "asyncio", "tenacity", "stamina", "pygments", "jinja2", "altair", "boto3", "psycopg"}


def test_looking_imports_nothing_that_takes_long_and_is_not_needed(shop: Project) -> None:
    """Pandas alone takes a quarter of a second: pyarrow imports it for some conversions."""
    calls = [[verb, str(shop.pipeline), *names] for verb, *names in LOOKS]
    code = f"""
import sys
from lakehouse.cli.app import main
for arguments in {calls!r}:
    before = set(sys.modules)
    assert main(arguments) == 0, arguments
    print(arguments[0], sorted({SLOW!r} & set(sys.modules) - before), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.endswith("]")] == [f"{verb} []" for verb, *_ in LOOKS]


@pytest.mark.parametrize("words", [["status"], ["sql", "FROM bronze.items"]], ids=lambda words: words[0])
def test_a_process_that_looks_prints_nothing_but_its_result(shop: Project, words: list[str]) -> None:
    """DuckDB reports what is left of it when the process ends, such as objects that garbage collection leaves out."""
    command = ["-c", "from lakehouse.cli import main; main()", words[0], str(shop.pipeline), *words[1:]]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)

    assert (done.stderr, bool(done.stdout)) == ("", True)


def test_a_model_with_a_fault_does_not_keep_anybody_from_looking(shop: Project) -> None:
    (shop.pipeline / "silver/items.sql").write_text("SELECT idd FROM bronze.items")

    codes = {verb: shop(verb, *names).code for verb, *names in [*LOOKS, ["validate"], ["show", "silver.items"]]}

    needs_plans = {"validate": 2, "status": 2, "why": 2, "show": 2}
    assert codes == {verb: 0 for verb, *_ in LOOKS} | needs_plans
    assert shop("show", "items").code == 0
