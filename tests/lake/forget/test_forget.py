"""Erasing a person: out of every file of the lake, whatever holds them, and not back with the next snapshot."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import Project, nonzero_counts
from pyspark.sql import SparkSession
from traces import find_words, find_words_in_lake

from lakehouse.lake import delta

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD, FOURTH = "20250101_000000", "20250102_000000", "20250103_000000", "20250104_000000"
KILLED = Path(__file__).parents[1] / "killed.py"
# Neither the least nor the greatest of a column, and in no word of anything else.
PERSON, THEIRS = "mmperson", "mmtheirs"
HEADER = "Cod. Cliente,qty,note\n"
NAMED = {"names": {"id": "Cod. Cliente"}}  # sought by one name in files and in quarantine, by another in the lake
SNAPSHOTS = {
    FIRST: f"{HEADER}aa,1,aa\n{PERSON},2,{THEIRS}\nzz,3,zz\n",
    # An update inside quotes, over two lines, and back again: change sets with a row of theirs alone.
    SECOND: f'{HEADER}aa,1,aa\n{PERSON},3,"{THEIRS}\n, twice"\nzz,3,zz\n',
    # Refused in three ways: no number, no whole record, and a second row for their key.
    THIRD: f"{HEADER}aa,2,aa\n{PERSON},2x,{THEIRS}\n{PERSON},2,{THEIRS},more\n{PERSON},4,{THEIRS}\nzz,3,zz\n",
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.items": ("SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i", {"keys": ["id"]}),
    "gold.notes": ("SELECT i.note AS note, SUM(i.qty) AS qty FROM silver.items AS i GROUP BY i.note", {}),
}
TABLES = ["bronze/items", "quarantine/items", "silver/items", "gold/notes", "raw/ledger"]


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three snapshots in every layer, of tables whose old files VACUUM may take at once."""
    project = Project(tmp_path_factory.mktemp("base"), models=MODELS)
    project.configure(guard={"max_deleted": 1, "max_quarantined": 1}, **NAMED)
    for stamp, rows in SNAPSHOTS.items():
        project.snapshot(stamp, items=rows)
    project.snapshot("20250102_120000", items=f"{HEADER}{PERSON},1,{THEIRS}\n{PERSON},2,{THEIRS}\n")  # rejected
    assert project.run().code == 5
    for table in TABLES:
        where = delta.sql_name(str(project.lake / table))
        spark.sql(f"ALTER TABLE {where} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')")
    return project


@pytest.fixture
def shop(base: Project, tmp_path: Path) -> Project:
    return base.copy(tmp_path / "shop")


def traces(project: Project) -> list[str]:
    """Where the person still is."""
    return find_words_in_lake(project.lake, [PERSON, THEIRS])


def not_holding(project: Project, but: str = "") -> list[str]:
    """The checks of `verify` that do not hold, and those that cannot be made but for the reason `but`."""
    checks = [c for c in project("verify").document["checks"] if c["result"] != "holds"]
    return [
        f"{c['what']}: {c['figures']}" for c in checks if c["result"] == "failed" or not but or but not in c["figures"]
    ]


RETENTION = "can no longer be read"


def test_no_file_of_the_lake_has_the_person_after_forget_and_vacuum(shop: Project) -> None:
    before = {(e["sequence"], e["status"]): nonzero_counts(e) for e in shop.ledger()}
    assert len(traces(shop)) > 20
    done = shop("forget", "items", PERSON, "--vacuum")
    assert done.code == 0, done.document
    assert PERSON not in json.dumps(done.document) + done.stderr
    assert done.document["erased"]["landing"] == 7
    assert done.document["erased"]["bronze"] >= 1
    assert traces(shop) == []
    assert [r["id"] for r in shop.rows("silver/items")] == ["aa", "zz"]
    assert [r["note"] for r in shop.rows("gold/notes")] == ["aa", "zz"]
    assert {(e["sequence"], e["status"]): nonzero_counts(e) for e in shop.ledger()} == before  # what was decided stands
    assert {left["table"]: left["old_files"] for left in done.document["left"]} == dict.fromkeys(TABLES, 0)
    assert not_holding(shop, but=RETENTION) == []

    versions = shop.versions()
    again = shop("forget", "items", PERSON)
    assert again.code == 0
    assert set(again.document["erased"].values()) == {0}
    assert shop.versions() == versions
    assert shop.run().code == 0  # nothing to land, nothing to take again
    assert [e["status"] for e in shop.ledger()] == [status for _, status in before]
    shutil.rmtree(shop.lake / "bronze/items")  # nor does raw bring them back
    assert shop.run().code == 0
    assert {r["id"] for r in shop.rows("bronze/items")} == {"aa", "zz"}
    assert not_holding(shop, but=RETENTION) == []
    versions = shop.versions()  # a change set that held nobody else is applied for good, too
    assert shop("bronze").statuses("bronze") == {"items": "current"}
    assert shop.versions() == versions


def test_a_source_that_still_has_the_person_does_not_bring_them_back_until_they_may_come(shop: Project) -> None:
    assert shop("forget", "items", PERSON).code == 0
    shop.snapshot(FOURTH, items=f'{HEADER}aa,2,aa\n{PERSON},9,"{THEIRS}"\nyy,9,yy\nzz,3,zz\n')
    assert shop.run().code == 0
    assert nonzero_counts(shop.ledger()[-1]) == {"rows_read": 3, "inserted": 1, "unchanged": 2}
    assert {r["id"] for r in shop.rows("silver/items")} == {"aa", "yy", "zz"}
    assert not_holding(shop, but=RETENTION) == []
    again = shop("forget", "items", PERSON)
    assert again.document["erased"] == {"landing": 1, "raw": 0, "quarantine": 0, "bronze": 0, "ledger": 0}
    assert "have them erased there" in again.document["note"]

    assert shop("forget", "items", PERSON, "--lift").document["lifted"]
    shop.snapshot("20250105_000000", items=f"{HEADER}aa,2,aa\n{PERSON},9,back\nyy,9,yy\nzz,3,zz\n")
    assert shop.run().code == 0
    assert {r["id"] for r in shop.rows("silver/items")} == {"aa", PERSON, "yy", "zz"}


def test_what_vacuum_has_still_to_do_is_told_with_its_time(shop: Project, spark: SparkSession) -> None:
    where = delta.sql_name(str(shop.lake / "bronze/items"))
    spark.sql(f"ALTER TABLE {where} UNSET TBLPROPERTIES ('delta.deletedFileRetentionDuration')")
    done = shop("forget", "items", PERSON, "--vacuum")
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
def test_killed_in_the_middle_the_same_command_ends_it(shop: Project, point: str) -> None:
    command = [sys.executable, str(KILLED), point, "forget", str(shop.pipeline), "items", PERSON]
    killed = subprocess.run(command, cwd=shop.folder, text=True, capture_output=True, timeout=250, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert shop("forget", "items", PERSON, "--vacuum").code == 0
    assert traces(shop) == []
    assert not_holding(shop, but=RETENTION) == []


def test_keys_of_several_columns_and_packed_json_and_parquet_files(tmp_path: Path) -> None:
    """Each file comes back as it was packed and as it is written, without the person, whatever their key looks like."""
    a, b = {"shop": "s1", "no": 7, "name": "left"}, {"shop": "s1", "no": 70, "name": "left"}
    c = {"shop": "s1", "no": 7, "name": THEIRS}
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
    text = f"shop;no;name\ns2;7;left\ns1;70;left\ns1;+007;{THEIRS}\n"
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
    assert find_words(landed, [THEIRS]) == []
    assert [
        json.loads(t) for t in gzip.decompress((landed / "lines" / FIRST / "lines.json.gz").read_bytes()).splitlines()
    ] == [a, b]
    assert json.loads((landed / "arrays" / FIRST / "arrays.json").read_text()) == [a, b]
    assert pl.read_parquet(landed / "parquet" / FIRST / "parquet.parquet").to_dicts() == [a, b]
    with zipfile.ZipFile(landed / "zipped" / FIRST / "zipped.zip") as archive:
        assert archive.read("in/zipped.csv").decode("utf-16") == "".join(text.splitlines(True)[:-1])
    assert [e for t in tables for e in (project("verify", t).document["checks"]) if e["result"] == "failed"] == []


def test_a_person_of_a_hashed_table_is_named_by_the_plain_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "k" * 32)
    project = Project(tmp_path)
    project.configure(pii={"id": "hmac", "note": "mask"}, **NAMED)
    project.snapshot(FIRST, items=SNAPSHOTS[FIRST].replace("zz,3", "zz,3x"))
    project.snapshot(SECOND, items=f"{HEADER}aa,1,aa\n{PERSON},2x,{THEIRS}\n")
    assert project.run().code == 0
    assert len(project.quarantine()) == 1
    done = project("forget", "items", PERSON)
    assert done.document["erased"] == {"landing": 2, "raw": 1, "quarantine": 1, "bronze": 1, "ledger": 0}
    assert find_words(project.lake, [PERSON, THEIRS]) == []


def test_a_history_loses_all_windows_of_a_person(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.configure(scd=2, **NAMED)
    project.snapshot(FIRST, items=SNAPSHOTS[FIRST])
    project.snapshot(SECOND, items=SNAPSHOTS[SECOND])
    assert project.run().code == 0
    assert len(project.rows("bronze/items")) == 4
    assert project("forget", "items", PERSON).document["erased"]["bronze"] == 2
    assert [r["id"] for r in project.rows("bronze/items")] == ["aa", "zz"]
    assert not_holding(project) == []


def test_what_cannot_be_read_is_named_and_all_the_rest_is_done(shop: Project) -> None:
    shop.snapshot(FOURTH, items=f'{HEADER}aa,1,aa\n{PERSON},1,"{THEIRS}\n')
    shop.snapshot("20250105_000000", items="")
    shop.snapshot("20250106_000000", items=f'{HEADER}aa,1,"open')  # not theirs: it need not be read
    assert shop.run().code == 5
    done = shop("forget", "items", PERSON)
    assert done.code == 5
    (unread,) = re.findall("landing/items/([0-9_]+): .*", done.document["note"])
    assert unread == FOURTH
    assert "nobody can say" in done.document["note"]
    assert done.document["erased"]["bronze"] >= 1
    shutil.rmtree(shop.lake / "landing/items" / FOURTH)
    assert shop("forget", "items", PERSON).code == 0


@pytest.mark.parametrize("words", [["items"], ["silver.items", "x"], ["items", "a", "b"], ["nothing", "x"]])
def test_a_key_that_is_none_ends_with_2_and_erases_nothing(tmp_path: Path, words: list[str]) -> None:
    project = Project(tmp_path, models=dict([next(iter(MODELS.items()))]))
    assert project("forget", *words).code == 2
    assert not project.lake.exists()
