"""`lakehouse verify` passes on a correct lake, and finds exactly what was damaged in it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import Project
from pyspark.sql import DataFrame, SparkSession

from lakehouse.cli import app
from lakehouse.lake import delta
from lakehouse.models.model import run_model_query
from lakehouse.runner import stages
from lakehouse.spark import session
from lakehouse.storage import delta_log
from lakehouse.storage.paths import Lake
from lakehouse.verify import model_sql

SAME, KEPT = "bronze = the last accepted snapshot", "keys in quarantine keep their row"
REPLAY, FEED = "bronze = its Change Data Feed, replayed", "Change Data Feed = the ledger"
ADD_UP, SETS = "the ledger's counts add up", "change sets = the ledger"
ONCE, EQUAL = "one commit for each sequence", "no equal row rewritten"

PIPELINE = """
name: shop
lake: {root}/lake
timezone: America/Sao_Paulo
source: {{type: files, path: {root}/source}}
tables:
  orders:
    file: orders.csv
    format: csv
    schema: id INT, price DECIMAL(10,2), day DATE, paid BOOLEAN, note STRING
    keys: [id]
  clients:
    file: clients*.csv
    format: csv
    options: {{sep: ";"}}
    schema: client STRING, seen TIMESTAMP, visits BIGINT, score DOUBLE
    keys: [client]
    duplicates: latest
    updated_at: seen
    ignore: [visits]
silver:
  orders: {{keys: [id]}}
gold:
  per_day: {{}}
"""
SILVER = "SELECT o.id AS id, o.price AS price, o.day AS day FROM bronze.orders AS o WHERE o.price >= 0"
GOLD = "SELECT o.day AS day, SUM(o.price) AS total, COUNT(*) AS orders FROM silver.orders AS o GROUP BY o.day"

# Order 1 is unchanged, 2 updated, 3 and 9 malformed, 4 deleted, 5 inserted and twice in the file. Notes are blank,
# empty and of two lines; columns change places.
ORDERS = {
    "20250101_000000": b'id,price,day,paid,note\n1,10.00,2025-01-01,true,"a ""b""\nc"\n2,20.50,2025-01-01,0,""\n'
    b"3,3.30,2025-01-02,true,kept\n4,4,2025-01-02,true,\n",
    "20250102_000000": b'Note,ID,price,day,paid\n"a ""b""\nc",1,10,2025-01-01,1\n"",2,21.50,2025-01-01,F\n'
    b",3,three,2025-01-02,true\nx,5,-5,2025-01-03,true\nx,5,-5.0,2025-01-03,1\n,9,1,2025-02-30,true\n",
}
# No quotes, but both kinds of line ends; a time that the zone has twice; of `a` only an ignored column changes, `b` is
# in the file twice, and the score of `c` is written in a way that Spark's reader does not know.
CLIENTS = {
    "20250101_000000": b"client;seen;visits;score\na;2018-02-17 23:30:00;1;0.1\nb;2025-01-01 10:00:00;1;NaN\n",
    "20250102_000000": b"client;seen;visits;score\na;2018-02-17 23:30:00;9;0.1\r\nb;2025-01-02 10:00:00;3;-0.0\n"
    b"b;2025-01-01 10:00:00;2;nan\nc;;0;inf\n",
}


@dataclass(frozen=True)
class Shop:
    """A pipeline and its lake."""

    folder: Path
    lake: Lake

    @classmethod
    def at(cls, root: Path) -> Shop:
        return cls(root / "conf", Lake(str(root / "lake")))

    def verify(
        self, capsys: pytest.CaptureFixture[str], *names: str
    ) -> tuple[int, dict[tuple[str, str], dict[str, str]]]:
        code = app.main(["verify", str(self.folder), *names, "--json"])
        checks = json.loads(capsys.readouterr().out)["checks"]
        return code, {(check["name"], check["what"]): check for check in checks}


def with_result(checks: dict[tuple[str, str], dict[str, str]], result: str) -> set[tuple[str, str]]:
    return {key for key, check in checks.items() if check["result"] == result}


def write_pipeline(root: Path) -> Shop:
    for name, text in {
        "pipeline.yml": PIPELINE.format(root=root),
        "silver/orders.sql": SILVER,
        "gold/per_day.sql": GOLD,
    }.items():
        file = root / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Shop.at(root)


@pytest.fixture(scope="module")
def good(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A correct lake, after two snapshots of two tables."""
    root = tmp_path_factory.mktemp("shop")
    for table, snapshots in {"orders": ORDERS, "clients": CLIENTS}.items():
        for stamp, content in snapshots.items():
            (root / "source" / stamp).mkdir(parents=True, exist_ok=True)
            (root / "source" / stamp / f"{table}.csv").write_bytes(content)
    shop = write_pipeline(root)
    report = stages.run(shop.folder)
    assert report.code == 0, report.outcomes
    return shop


@pytest.fixture
def shop(good: Shop, tmp_path: Path) -> Shop:
    """A copy of the correct lake, to damage."""
    shutil.copytree(good.lake.root, tmp_path / "lake")
    return write_pipeline(tmp_path)


def test_everything_holds_after_a_good_run(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = good.verify(capsys)
    assert with_result(checks, "holds") == checks.keys(), checks
    assert code == 0
    assert {check["invariant"] for check in checks.values()} == {"I1", "I2", "I3", "I4", "I5", "I7"}
    assert checks["orders", SAME]["figures"] == "3 rows, 20250102_000000; 2 keys in quarantine"
    assert checks["orders", KEPT]["figures"] == "1 row, 2 keys"
    assert checks["orders", SETS]["figures"] == "5 I, 1 U, 1 D in 2 change sets"
    assert checks["clients", SAME]["figures"] == "3 rows, 20250102_000000; 0 keys in quarantine"


BREAKS = {
    "bronze, a kept row, gold and a total": (
        [
            "UPDATE bronze/orders SET note = NULL WHERE id = 2",
            "DELETE FROM bronze/orders WHERE id = 3",
            "UPDATE gold/per_day SET total = total + 0.01 WHERE orders = 2",
            "UPDATE raw/ledger SET rows_read = rows_read + 1 WHERE sequence = 2 AND table = 'clients'",
        ],
        {("orders", SAME), ("orders", KEPT), ("gold.per_day", "gold = its SQL"), ("clients", ADD_UP)},
    ),
    "silver, a count and a sequence": (
        [
            "INSERT INTO silver/orders SELECT * FROM silver/orders WHERE id = 1",
            "UPDATE raw/ledger SET updated = updated + 1, unchanged = unchanged - 1"
            " WHERE sequence = 2 AND table = 'orders'",
            "MERGE INTO bronze/clients AS t USING (SELECT * FROM bronze/clients WHERE client = 'a') AS s"
            " ON t.client = s.client WHEN MATCHED THEN UPDATE SET *",  # as if its second change set were applied again
        ],
        {
            ("silver.orders", "silver = its SQL"),
            ("silver.orders", "keys are unique"),
            ("orders", SETS),
            ("orders", FEED),
            ("clients", ONCE),
            ("clients", EQUAL),
        },
    ),
}


@pytest.mark.parametrize(("statements", "failed"), BREAKS.values(), ids=BREAKS.keys())
def test_only_the_damaged_claims_fail(
    spark: SparkSession,
    shop: Shop,
    capsys: pytest.CaptureFixture[str],
    statements: list[str],
    failed: set[tuple[str, str]],
) -> None:
    own = session.isolated_session(spark, data_bytes=1)
    for statement in statements:
        progress = {"stage": "bronze", "sequence": 2} if statement.startswith("MERGE") else {}
        with delta.commit_metadata(own, progress):
            own.sql(
                re.sub(
                    r"\b(raw|bronze|silver|gold)/\w+", lambda m: delta.sql_name(shop.lake.spark_path(m[0])), statement
                )
            )
    code, checks = shop.verify(capsys)
    assert (code, with_result(checks, "failed")) == (5, failed), checks


def test_claims_without_evidence_or_with_waiting_changes_are_not_checkable(
    spark: SparkSession, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    bronze = delta.sql_name(shop.lake.bronze_table("orders"))
    spark.sql(f"UPDATE {bronze} SET paid = NOT paid WHERE id = 1")
    own = session.isolated_session(spark, data_bytes=1)
    own.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    own.sql(f"VACUUM {bronze} RETAIN 0 HOURS")
    shutil.rmtree(shop.lake.spark_path("raw/full-load/orders.parquet"))
    _, checks = shop.verify(capsys, "orders", "silver.orders")
    assert with_result(checks, "failed") == {("orders", SAME)}
    gone = {("orders", what) for what in (KEPT, SETS, REPLAY, FEED, ONCE, EQUAL)}
    assert with_result(checks, "not checkable") == gone | {("silver.orders", "silver = its SQL")}, checks
    assert "changes wait: bronze.orders" in checks["silver.orders", "silver = its SQL"]["figures"]


def test_a_model_whose_sql_fails_for_a_row_is_not_checkable(
    good: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_and_fail(*arguments: Any) -> DataFrame:
        return run_model_query(*arguments).where("CAST(concat('no time of ', id) AS TIMESTAMP) IS NULL")

    monkeypatch.setattr(model_sql, "run_model_query", run_and_fail)

    code, checks = good.verify(capsys, "silver.orders")

    check = checks["silver.orders", "silver = its SQL"]
    assert (code, check["result"], check["code"]) == (5, "not checkable", 5)
    assert "its SQL cannot be computed over all rows: [CAST_INVALID_INPUT]" in check["figures"]
    assert not with_result(checks, "failed")


@pytest.mark.parametrize("has_checkpoint_of_each", [False, True])  # the feed skips the missing commit in silence
@pytest.mark.parametrize("has_checksum", [True, False])  # without one, Spark returns the commits on both sides
def test_claims_about_the_log_are_not_checkable_if_it_has_a_gap(
    spark: SparkSession,
    shop: Shop,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    has_checkpoint_of_each: bool,
    has_checksum: bool,
) -> None:
    bronze, log = shop.lake.bronze_table("orders"), Path(shop.lake.root, "bronze/orders/_delta_log")
    last_change = delta_log.newest_version(log.parent)
    checkpoint = last_change + 2  # from which the current version can be read without the commits before
    interval = 1 if has_checkpoint_of_each else checkpoint
    for key, value in (("delta.checkpointInterval", interval), ("note", "after the gap")):
        spark.sql(f"ALTER TABLE {delta.sql_name(bronze)} SET TBLPROPERTIES ('{key}' = '{value}')")
    assert list(log.glob(f"{checkpoint:020d}.checkpoint*"))
    (log / f"{last_change:020d}.json").unlink()
    if not has_checksum:
        (log / f"{checkpoint:020d}.crc").unlink()
        monkeypatch.setattr(delta, "data_files", lambda *_: None)  # as for a table that only Spark can read

    code, checks = shop.verify(capsys, "orders")
    assert code == 0, checks
    # Of a log from Spark, the newest commit with a sequence is the one before the gap: bronze seems to be behind.
    incomplete = (REPLAY, FEED, ONCE, EQUAL) if has_checksum else (SAME, REPLAY, FEED, ONCE, EQUAL)
    assert with_result(checks, "not checkable") == {("orders", what) for what in incomplete}, checks
    assert "can no longer be read" in checks["orders", REPLAY]["figures"]


def test_a_damaged_file_has_failed(spark: SparkSession, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    for file in Path(shop.lake.root, "raw/cdc").glob("orders_*.parquet/*.parquet"):
        file.write_bytes(b"PAR1 damaged PAR1")

    code, checks = shop.verify(capsys, "orders")
    assert code == 5
    assert ("orders", "what is there can be read") in with_result(checks, "failed"), checks


def test_a_lake_without_snapshots_has_nothing_to_check(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = write_pipeline(tmp_path).verify(capsys)
    assert code == 0
    assert with_result(checks, "not checkable") == checks.keys()


def test_keys_of_bytes_keep_their_row_while_they_are_in_quarantine(spark: SparkSession, tmp_path: Path) -> None:
    of_bytes = {"schema": "k BINARY, n INT", "keys": ["k"], "guard": {"max_quarantined": 1}}
    shop = Project(tmp_path, {"items": {"file": "t.csv", "format": "csv", **of_bytes}})
    for day, n in enumerate(("2", "x"), start=1):
        shop.snapshot(f"2025010{day}_000000", t=f"k,n\na,{day}\nb\u00e9,{n}\n")
        assert shop.run().code == 0

    assert len(shop.quarantine()) == 1
    checked = shop("verify")
    assert (checked.code, [c for c in checked.document["checks"] if c["result"] == "failed"]) == (0, [])
    (of_keys,) = [check for check in checked.document["checks"] if check["what"] == KEPT]
    assert (of_keys["result"], of_keys["figures"]) == ("holds", "1 row, 1 key")
