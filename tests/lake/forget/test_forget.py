"""Tests `forget`: a key leaves every file of the lake, and does not come back with the next snapshot."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from crash_points import interrupt_at
from helpers import Project, nonzero_counts
from pyspark.sql import SparkSession
from text_search import find_words, find_words_in_lake

from lakehouse.lake import delta

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD, FOURTH = "20250101_000000", "20250102_000000", "20250103_000000", "20250104_000000"
# Neither the least nor the greatest value of a column, and part of no other word.
KEY, NOTE = "mmperson", "mmtheirs"
HEADER = "Cod. Cliente,qty,note\n"
NAMED = {"names": {"id": "Cod. Cliente"}}  # files and quarantine have another name of the column than the lake
SNAPSHOTS = {
    FIRST: f"{HEADER}aa,1,aa\n{KEY},2,{NOTE}\nzz,3,zz\n",
    # An update in quotes over two lines, and back again: change sets with rows of this key alone.
    SECOND: f'{HEADER}aa,1,aa\n{KEY},3,"{NOTE}\n, twice"\nzz,3,zz\n',
    # Rejected for three reasons: no number, no complete record, and a second row for the key.
    THIRD: f"{HEADER}aa,2,aa\n{KEY},2x,{NOTE}\n{KEY},2,{NOTE},more\n{KEY},4,{NOTE}\nzz,3,zz\n",
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.items": ("SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i", {"keys": ["id"]}),
    "gold.notes": ("SELECT i.note AS note, SUM(i.qty) AS qty FROM silver.items AS i GROUP BY i.note", {}),
}
TABLES = ["bronze/items", "quarantine/items", "silver/items", "gold/notes", "raw/ledger"]


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three snapshots in every layer, in tables whose old files VACUUM can remove at once."""
    project = Project(tmp_path_factory.mktemp("base"), models=MODELS)
    project.configure(guard={"max_deleted": 1, "max_quarantined": 1}, **NAMED)
    for stamp, rows in SNAPSHOTS.items():
        project.snapshot(stamp, items=rows)
    project.snapshot("20250102_120000", items=f"{HEADER}{KEY},1,{NOTE}\n{KEY},2,{NOTE}\n")  # rejected
    assert project.run().code == 5
    for table in TABLES:
        where = delta.sql_name(str(project.lake / table))
        spark.sql(f"ALTER TABLE {where} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')")
    return project


@pytest.fixture
def shop(base: Project, tmp_path: Path) -> Project:
    return base.copy(tmp_path / "shop")


def traces(project: Project) -> list[str]:
    """Return where the key or its note still is."""
    return find_words_in_lake(project.lake, [KEY, NOTE])


def failed_checks(project: Project, allowed_reason: str = "") -> list[str]:
    """Return the checks of `verify` that failed, or that are not checkable for another reason than the allowed one."""
    checks = [c for c in project("verify").document["checks"] if c["result"] != "holds"]
    return [
        f"{c['what']}: {c['figures']}"
        for c in checks
        if c["result"] == "failed" or not allowed_reason or allowed_reason not in c["figures"]
    ]


RETENTION = "can no longer be read"


def test_no_file_of_the_lake_has_the_data_subject_after_forget_and_vacuum(shop: Project) -> None:
    before = {(e["sequence"], e["status"]): nonzero_counts(e) for e in shop.ledger()}
    assert len(traces(shop)) > 20
    done = shop("forget", "items", KEY, "--vacuum")
    assert done.code == 0, done.document
    assert KEY not in json.dumps(done.document) + done.stderr
    assert done.document["erased"]["landing"] == 7
    assert done.document["erased"]["bronze"] >= 1
    assert traces(shop) == []
    assert [r["id"] for r in shop.rows("silver/items")] == ["aa", "zz"]
    assert [r["note"] for r in shop.rows("gold/notes")] == ["aa", "zz"]
    assert {(e["sequence"], e["status"]): nonzero_counts(e) for e in shop.ledger()} == before  # decisions remain
    assert {left["table"]: left["old_files"] for left in done.document["left"]} == dict.fromkeys(TABLES, 0)
    assert failed_checks(shop, RETENTION) == []

    versions = shop.versions()
    again = shop("forget", "items", KEY)
    assert again.code == 0
    assert set(again.document["erased"].values()) == {0}
    assert shop.versions() == versions
    assert shop.run().code == 0  # nothing to land or to ingest
    assert [e["status"] for e in shop.ledger()] == [status for _, status in before]
    shutil.rmtree(shop.lake / "bronze/items")  # raw does not bring the key back
    assert shop.run().code == 0
    assert {r["id"] for r in shop.rows("bronze/items")} == {"aa", "zz"}
    assert failed_checks(shop, RETENTION) == []
    versions = shop.versions()  # a change set whose rows were all erased stays applied, too
    assert shop("bronze").statuses("bronze") == {"items": "current"}
    assert shop.versions() == versions


def test_a_forgotten_key_that_the_source_still_delivers_is_ignored_until_it_is_lifted(shop: Project) -> None:
    assert shop("forget", "items", KEY).code == 0
    shop.snapshot(FOURTH, items=f'{HEADER}aa,2,aa\n{KEY},9,"{NOTE}"\nyy,9,yy\nzz,3,zz\n')
    assert shop.run().code == 0
    assert nonzero_counts(shop.ledger()[-1]) == {"rows_read": 3, "inserted": 1, "unchanged": 2}
    assert {r["id"] for r in shop.rows("silver/items")} == {"aa", "yy", "zz"}
    assert failed_checks(shop, RETENTION) == []
    again = shop("forget", "items", KEY)
    assert again.document["erased"] == {"landing": 1, "raw": 0, "quarantine": 0, "bronze": 0, "ledger": 0}
    assert "have them erased there" in again.document["note"]

    assert shop("forget", "items", KEY, "--lift").document["lifted"]
    shop.snapshot("20250105_000000", items=f"{HEADER}aa,2,aa\n{KEY},9,back\nyy,9,yy\nzz,3,zz\n")
    assert shop.run().code == 0
    assert {r["id"] for r in shop.rows("silver/items")} == {"aa", KEY, "yy", "zz"}


def test_files_that_vacuum_will_remove_later_are_reported_with_the_time(shop: Project, spark: SparkSession) -> None:
    where = delta.sql_name(str(shop.lake / "bronze/items"))
    spark.sql(f"ALTER TABLE {where} UNSET TBLPROPERTIES ('delta.deletedFileRetentionDuration')")
    done = shop("forget", "items", KEY, "--vacuum")
    left = {one["table"]: one for one in done.document["left"]}
    assert left["bronze/items"]["old_files"] > 0
    for due in (left["bronze/items"]["vacuum_removes_them_from"], left["bronze/items"]["log_forgets_from"]):
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", due)
    assert left["silver/items"] | {"log_forgets_from": ""} == {
        "table": "silver/items",
        "old_files": 0,
        "bytes": 0,
        "vacuum_removes_them_from": None,
        "log_forgets_from": "",
    }


@pytest.mark.parametrize("point", ["forget-landing", "forget-raw"])
def test_after_a_kill_the_same_forget_command_completes_the_work(shop: Project, point: str) -> None:
    with interrupt_at(point):
        shop("forget", "items", KEY)
    assert shop("forget", "items", KEY, "--vacuum").code == 0
    assert traces(shop) == []
    assert failed_checks(shop, RETENTION) == []


def test_forget_rewrites_packed_json_and_parquet_files_by_keys_of_several_columns(tmp_path: Path) -> None:
    """Each file keeps its packing and its other bytes, however the key is written in it."""
    a, b = {"shop": "s1", "no": 7, "name": "left"}, {"shop": "s1", "no": 70, "name": "left"}
    c = {"shop": "s1", "no": 7, "name": NOTE}
    schema = {"schema": "shop STRING, no INT, name STRING", "keys": ["shop", "no"]}
    tables = {
        "lines": {"file": "lines.json.gz", "format": "json", **schema},
        "arrays": {"file": "arrays.json", "format": "json", **schema},
        "parquet": {"file": "parquet.parquet", "format": "parquet", **schema},
        "zipped": {"file": "zipped.zip", "format": "csv", "options": {"sep": ";", "encoding": "UTF-16"}, **schema},
    }
    project = Project(tmp_path, tables=tables)
    folder = project.source / FIRST
    folder.mkdir()
    a = a | {"shop": "s2"}
    (folder / "lines.json.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, (a, b, c))).encode()))
    (folder / "arrays.json").write_text(json.dumps([a, b, c], indent=2))
    pl.DataFrame([a, b, c]).write_parquet(folder / "parquet.parquet")
    text = f"shop;no;name\ns2;7;left\ns1;70;left\ns1;+007;{NOTE}\n"
    with zipfile.ZipFile(folder / "zipped.zip", "w") as archive:
        archive.writestr("in/zipped.csv", text.encode("utf-16"))
    assert project.run().code == 0

    for table in tables:
        done = (
            project("forget", table, "shop=s1", "no=7")
            if table != "lines"
            else project("forget", table, "shop=s1,no=7")
        )
        assert done.code == 0, done.document
        assert done.document["erased"] == {"landing": 1, "raw": 1, "quarantine": 0, "bronze": 1, "ledger": 0}
        assert len(project.rows(f"bronze/{table}")) == 2
    landed = project.lake / "landing"
    assert find_words(landed, [NOTE]) == []
    assert [
        json.loads(t) for t in gzip.decompress((landed / "lines" / FIRST / "lines.json.gz").read_bytes()).splitlines()
    ] == [a, b]
    assert json.loads((landed / "arrays" / FIRST / "arrays.json").read_text()) == [a, b]
    assert pl.read_parquet(landed / "parquet" / FIRST / "parquet.parquet").to_dicts() == [a, b]
    with zipfile.ZipFile(landed / "zipped" / FIRST / "zipped.zip") as archive:
        assert archive.read("in/zipped.csv").decode("utf-16") == "".join(text.splitlines(True)[:-1])
    assert [e for e in project("verify").document["checks"] if e["result"] == "failed"] == []


def test_the_key_of_a_hashed_table_is_given_in_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "k" * 32)
    project = Project(tmp_path)
    project.configure(pii={"id": "hmac", "note": "mask"}, **NAMED)
    project.snapshot(FIRST, items=SNAPSHOTS[FIRST].replace("zz,3", "zz,3x"))
    project.snapshot(SECOND, items=f"{HEADER}aa,1,aa\n{KEY},2x,{NOTE}\n")
    assert project.run().code == 0
    assert len(project.quarantine()) == 1
    done = project("forget", "items", KEY)
    assert done.document["erased"] == {"landing": 2, "raw": 1, "quarantine": 1, "bronze": 1, "ledger": 0}
    assert find_words(project.lake, [KEY, NOTE]) == []


def test_forget_erases_all_windows_of_a_history(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.configure(scd=2, **NAMED)
    project.snapshot(FIRST, items=SNAPSHOTS[FIRST])
    project.snapshot(SECOND, items=SNAPSHOTS[SECOND])
    assert project.run().code == 0
    assert len(project.rows("bronze/items")) == 4
    assert project("forget", "items", KEY).document["erased"]["bronze"] == 2
    assert [r["id"] for r in project.rows("bronze/items")] == ["aa", "zz"]
    assert failed_checks(project) == []


def test_unreadable_files_are_reported_and_everything_else_is_erased(shop: Project) -> None:
    shop.snapshot(FOURTH, items=f'{HEADER}aa,1,aa\n{KEY},1,"{NOTE}\n')
    shop.snapshot("20250105_000000", items="")
    shop.snapshot("20250106_000000", items=f'{HEADER}aa,1,"open')  # without the key: it need not be readable
    assert shop.run().code == 5
    done = shop("forget", "items", KEY)
    assert done.code == 5
    (unread,) = re.findall("landing/items/([0-9_]+): .*", done.document["note"])
    assert unread == FOURTH
    assert "may have the data subject" in done.document["note"]
    assert done.document["erased"]["bronze"] >= 1
    shutil.rmtree(shop.lake / "landing/items" / FOURTH)
    assert shop("forget", "items", KEY).code == 0


@pytest.mark.parametrize("words", [["items"], ["silver.items", "x"], ["items", "a", "b"], ["nothing", "x"]])
def test_an_invalid_key_exits_with_2_and_erases_nothing(tmp_path: Path, words: list[str]) -> None:
    project = Project(tmp_path, models=dict([next(iter(MODELS.items()))]))
    assert project("forget", *words).code == 2
    assert not project.lake.exists()
