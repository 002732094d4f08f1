"""Tests `forget`: a key leaves every file of the lake, and does not come back with the next snapshot."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from crash_points import interrupt_at
from helpers import ITEMS, Project, nonzero_counts
from pyspark.sql import SparkSession
from text_search import encoded_forms, find_words, find_words_in_lake, written_forms

from lakehouse.errors import ConfigError
from lakehouse.forget import find_key, forget_key
from lakehouse.lake import delta
from lakehouse.runner.context import open_run

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD, FOURTH = "20250101_000000", "20250102_000000", "20250103_000000", "20250104_000000"
# A word for each column of the person, which is neither the least nor the greatest value and part of no other word. The
# address differs between files, JSON and URLs, the amount between the file and its type.
KEY, NOTE, MAIL, AMOUNT = "mmperson", "mmtheirs", 'mm+"é@x.org', "717171.5"
HEADER = "Cod. Cliente,qty,note,mail,amount\n"
COLUMNS = "id STRING, qty INT, note STRING, mail STRING, amount DECIMAL(12,2)"
NAMED = {"names": {"id": "Cod. Cliente"}}  # files and quarantine have another name of the column than the lake


def csv_file(*rows: str) -> str:
    """Return a file with rows of the first three columns; the person's have their address and amount besides."""
    texts = []
    for row in rows:
        address = MAIL.replace('"', '""')
        more = (
            f',"{address}",0{AMOUNT}0' if row.startswith(KEY) else ",zz@x.org,999999999" if row > "b" else ",a@x.org,1"
        )
        texts.append(f"{row.removesuffix(',more')}{more}{',more' if row.endswith(',more') else ''}\n")
    return HEADER + "".join(texts)


SNAPSHOTS = {
    FIRST: csv_file("aa,1,aa", f"{KEY},2,{NOTE}", "zz,3,zz"),
    # An update in quotes over two lines, and back again: change sets with rows of this key alone.
    SECOND: csv_file("aa,1,aa", f'{KEY},3,"{NOTE}\n, twice"', "zz,3,zz"),
    # Rejected for three reasons: no number, no complete record, and a second row for the key.
    THIRD: csv_file("aa,2,aa", f"{KEY},2x,{NOTE}", f"{KEY},2,{NOTE},more", f"{KEY},4,{NOTE}", "zz,3,zz"),
}
EXPECT = {"expect": {"few": {"check": "amount < 5", "on_fail": "warn"}}}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.items": (
        "SELECT i.id AS id, i.qty AS qty, i.note AS note, i.mail AS mail, i.amount AS amount FROM bronze.items AS i",
        {"keys": ["id"], **EXPECT},
    ),
    "gold.notes": (
        "SELECT i.note AS note, i.mail AS mail, SUM(i.amount) AS amount FROM silver.items AS i GROUP BY i.note, i.mail",
        {},
    ),
}
TABLES = ["bronze/items", "quarantine/items", "silver/items", "gold/notes", "raw/ledger"]


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three snapshots in every layer, in tables whose old files VACUUM can remove at once."""
    project = Project(tmp_path_factory.mktemp("base"), models=MODELS)
    project.configure(schema=COLUMNS, guard={"max_deleted": 1, "max_quarantined": 1}, **NAMED)
    for stamp, rows in SNAPSHOTS.items():
        project.snapshot(stamp, items=rows)
    project.snapshot("20250102_120000", items=csv_file(f"{KEY},1,{NOTE}", f"{KEY},2,{NOTE}"))  # rejected
    assert project.run().code == 5
    for table in TABLES:
        where = delta.sql_name(str(project.lake / table))
        spark.sql(f"ALTER TABLE {where} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')")
    return project


@pytest.fixture
def shop(base: Project, tmp_path: Path) -> Project:
    return base.copy(tmp_path / "shop")


def traces(project: Project) -> list[str]:
    """Return where a value of the person still is, in any form, in all that the project has beside its source."""
    words = [*encoded_forms(KEY), NOTE, *written_forms(MAIL), AMOUNT, hashlib.sha256(KEY.encode()).hexdigest()]
    return [place for place in find_words_in_lake(project.folder, words) if not place.startswith("source/")]


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
    bug = shop.lake / "_state/bugs/20250102T120000-abcdef.json"
    bug.parent.mkdir()
    bug.write_text(json.dumps({"trace": [f"ValueError: {NOTE}"]}))
    (shop.lake / "_state/replay/items/bronze").mkdir(parents=True)  # of a command that was killed
    (shop.lake / "_state/replay/items/bronze/part-0.csv").write_text(f"{KEY},1,{NOTE}")
    before_traces = traces(shop)
    assert len(before_traces) > 40
    words_found = {place.rpartition(": ")[2] for place in before_traces}
    assert {KEY, NOTE, AMOUNT, MAIL, json.dumps(MAIL, ensure_ascii=False)[1:-1]} <= words_found
    done = shop("forget", "items", KEY, "--vacuum")
    assert done.code == 0, done.document
    shown = json.dumps(done.document, ensure_ascii=False) + done.stderr
    assert [word for word in (KEY, NOTE, AMOUNT, *written_forms(MAIL)) if word in shown] == []
    assert done.document["erased"]["landing"] == 7
    assert done.document["erased"]["bronze"] >= 1
    assert traces(shop) == []
    assert [r["id"] for r in shop.rows("silver/items")] == ["aa", "zz"]
    assert [r["note"] for r in shop.rows("gold/notes")] == ["aa", "zz"]
    assert {(e["sequence"], e["status"]): nonzero_counts(e) for e in shop.ledger()} == before  # decisions remain
    assert {left["table"]: left["old_files"] for left in done.document["left"]} == dict.fromkeys(TABLES, 0)
    # What the search leaves out, the least and greatest values in Delta's logs, is named with its end for each table.
    logs = {str(f.parent.parent.relative_to(shop.lake)) for f in shop.lake.rglob("_delta_log/*.json")}
    assert {left["table"] for left in done.document["left"] if left["log_forgets_from"]} == logs - {
        "forgotten",
        "quality/results",
    }  # neither has values of rows
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


def test_a_forgotten_key_that_the_source_still_delivers_is_ignored_until_it_is_lifted(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list has the key's SHA-256 first, as lakes of version 0.1 have, and then its HMAC."""
    monkeypatch.delenv("LAKEHOUSE_PII_KEY", raising=False)
    done = shop("forget", "items", KEY)
    assert done.code == 0
    assert "a short key can be found by trial: set LAKEHOUSE_PII_KEY" in done.document["note"]
    (row,) = shop.rows("forgotten")
    assert row["key_hash"] == hashlib.sha256(json.dumps({"id": KEY}, separators=(",", ":")).encode()).hexdigest()

    secret = "k" * 32
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", secret)
    shop.snapshot(FOURTH, items=csv_file("aa,2,aa", f'{KEY},9,"{NOTE}"', "yy,9,yy", "zz,3,zz"))
    assert shop.run().code == 0
    assert nonzero_counts(shop.ledger()[-1]) == {"rows_read": 3, "inserted": 1, "unchanged": 2}
    assert {r["id"] for r in shop.rows("silver/items")} == {"aa", "yy", "zz"}
    again = shop("forget", "items", KEY)
    assert again.document["erased"] == {"landing": 1, "raw": 0, "quarantine": 0, "bronze": 0, "ledger": 0}
    assert "have them erased there" in again.document["note"]
    assert "found by trial" not in again.document["note"]
    assert {left["table"]: left["old_files"] for left in again.document["left"]}["forgotten"] > 0
    (row,) = shop.rows("forgotten")
    text = json.dumps({"id": KEY}, separators=(",", ":")).encode()
    made_with, _, digest = row["key_hash"].rpartition(":")
    assert digest == hmac.digest(secret.encode(), text, "sha256").hex()

    shop.snapshot("20250105_000000", items=csv_file("aa,2,aa", f"{KEY},9,back", "yy,9,yy", "zz,3,zz"))
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "l" * 32)
    refused = shop.run()
    assert refused.code == 2
    assert f"another key, {made_with}" in refused.stderr
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", secret)
    assert shop.run().code == 0
    assert {r["id"] for r in shop.rows("silver/items")} == {"aa", "yy", "zz"}
    assert failed_checks(shop, RETENTION) == []

    assert not shop("forget", "items", "hmac-sha256:0123456789abcdef", "--lift").document["lifted"]
    kept = shop("forget", "items", made_with, "--lift")  # the secret is there: each key can be named
    assert kept.code == 2 and "is the secret that items has now" in kept.error["found"]
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "l" * 32)
    assert shop("forget", "items", made_with, "--lift").document["lifted"]  # of all keys of this secret, if it is lost
    shop.snapshot("20250106_000000", items=csv_file("aa,2,aa", f"{KEY},9,back again", "yy,9,yy", "zz,3,zz"))
    assert shop.run().code == 0
    assert {r["id"] for r in shop.rows("silver/items")} == {"aa", KEY, "yy", "zz"}


def test_rows_that_deletion_vectors_mark_are_rewritten(tmp_path: Path, spark: SparkSession) -> None:
    """A large table keeps changed rows in its files, and marks them: VACUUM would never remove them."""
    tuning = {"large_snapshot_bytes": 0, "large_table_bytes": 0, "full_refresh_below_bytes": 0, "full_refresh_share": 1}
    project = Project(tmp_path, models={"silver.items": MODELS["silver.items"]}, tuning=tuning)
    project.configure(schema=COLUMNS, guard={"max_deleted": 1, "max_quarantined": 1}, **NAMED)
    for stamp in (FIRST, SECOND):
        project.snapshot(stamp, items=SNAPSHOTS[stamp])
        assert project.run().code == 0
    tables = ("bronze/items", "silver/items")
    for table in tables:
        assert list((project.lake / table).glob("**/deletion_vector_*.bin")), table
        where = delta.sql_name(str(project.lake / table))
        spark.sql(f"ALTER TABLE {where} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')")
    done = project("forget", "items", KEY, "--vacuum")
    assert done.code == 0
    for table in tables:
        assert [place for place in find_words(project.lake / table, [KEY, NOTE]) if "_delta_log" not in place] == []
    left = {one["table"]: one["old_files"] for one in done.document["left"]}
    assert {table: left[table] for table in tables} == dict.fromkeys(tables, 0)
    assert failed_checks(project, RETENTION) == []
    assert project.run().code == 0
    assert [r["id"] for r in project.rows("silver/items")] == ["aa", "zz"]


def test_after_a_kill_the_same_forget_command_completes_the_work(shop: Project) -> None:
    for point in ("forget-landing", "forget-raw"):
        with interrupt_at(point):
            shop("forget", "items", KEY)
        assert len(traces(shop)) > 20
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


def test_the_key_of_a_hashed_table_is_given_in_plain_and_all_windows_of_a_history_are_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = b"k" * 32
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", key.decode())
    settings = ITEMS | {"schema": COLUMNS} | NAMED
    tables = {
        "hashed": settings | {"file": "hashed.csv", "pii": {"id": "hmac", "mail": "hmac", "note": "mask"}},
        "history": settings | {"file": "history.csv", "scd": 2},
    }
    project = Project(tmp_path, tables=tables)
    project.snapshot(FIRST, hashed=SNAPSHOTS[FIRST].replace("zz,3", "zz,3x"), history=SNAPSHOTS[FIRST])
    project.snapshot(SECOND, hashed=csv_file("aa,1,aa", f"{KEY},2x,{NOTE}"), history=SNAPSHOTS[SECOND])
    assert project.run().code == 0
    hashes = [hmac.digest(key, text.encode(), "sha256").hex() for text in (KEY, MAIL)]
    assert {found.rpartition(": ")[2] for found in find_words(project.lake, hashes)} == set(hashes)
    assert len(project.rows("bronze/history")) == 4

    done = project("forget", "hashed", KEY)
    assert done.document["erased"] == {"landing": 2, "raw": 1, "quarantine": 1, "bronze": 1, "ledger": 0}
    assert project("forget", "history", KEY, "--vacuum").document["erased"]["bronze"] == 2
    assert [r["id"] for r in project.rows("bronze/history")] == ["aa", "zz"]
    words = [KEY, NOTE, AMOUNT, *written_forms(MAIL), *hashes]
    kept = {f"{left['table']}/" for left in done.document["left"] if left["old_files"]}  # VACUUM removes them in 7 days
    found = [p for p in find_words_in_lake(project.lake, words) if not p.startswith((*kept, "bronze/history/"))]
    assert found == []
    assert failed_checks(project) == []


def test_unreadable_and_old_files_are_reported_and_everything_else_is_erased(
    shop: Project, spark: SparkSession
) -> None:
    shop.snapshot(FOURTH, items=f'{HEADER}aa,1,aa\n{KEY},1,"{NOTE}\n')
    shop.snapshot("20250105_000000", items="")
    shop.snapshot("20250106_000000", items=f'{HEADER}aa,1,"open')  # without the key: it need not be readable
    assert shop.run().code == 5
    where = delta.sql_name(str(shop.lake / "bronze/items"))
    spark.sql(f"ALTER TABLE {where} UNSET TBLPROPERTIES ('delta.deletedFileRetentionDuration')")
    done = shop("forget", "items", KEY, "--vacuum")
    assert done.code == 5
    (unread,) = re.findall("landing/items/([0-9_]+): .*", done.document["note"])
    assert unread == FOURTH
    assert "may have the data subject" in done.document["note"]
    assert done.document["erased"]["bronze"] >= 1
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
    shutil.rmtree(shop.lake / "landing/items" / FOURTH)
    assert shop("forget", "items", KEY).code == 0


def test_a_dry_run_shows_what_would_go_and_an_unknown_key_is_refused_and_neither_writes(shop: Project) -> None:
    files = {path: path.stat().st_mtime_ns for path in shop.lake.rglob("*") if path.is_file()}
    shown = shop("forget", "items", KEY, "--dry-run")
    assert shown.code == 0, shown.document
    found = shown.document["found"]
    assert {layer: found[layer] for layer in ("landing", "raw", "quarantine", "bronze")} == {
        "landing": 7,
        "raw": 2,
        "quarantine": 3,
        "bronze": 1,
    }
    assert FIRST in shown.document["snapshots"] and "nothing was erased" in shown.document["note"]
    assert KEY not in json.dumps(shown.document) + shown.stderr
    for options in ([], ["--dry-run"], ["--yes", "--vacuum"]):
        unknown = shop("forget", "items", "nobody-has-this", *options)
        assert unknown.code == 5
        assert "no row of items has this key" in unknown.error["found"]
        assert "nobody" not in unknown.stderr
    assert not (shop.lake / "forgotten").exists()
    now = {path: path.stat().st_mtime_ns for path in shop.lake.rglob("*") if path.is_file()}
    assert {path for path in now | files if now.get(path) != files.get(path) and "logs" not in path.parts} <= {
        shop.lake / "_state/lock"
    }


def test_rows_that_another_command_changes_before_the_answer_are_not_erased(shop: Project) -> None:
    confirmed = find_key(open_run(shop.pipeline), "items", [KEY])["found"]
    shop.snapshot(FOURTH, items=csv_file("aa,2,aa", f"{KEY},2,{NOTE}", "zz,3,zz"))
    assert shop.run().code == 0
    with pytest.raises(ConfigError, match="landing: 7 before the question, 8 now"):
        forget_key(open_run(shop.pipeline), "items", [KEY], confirmed=confirmed)
    assert not (shop.lake / "forgotten").exists()
    confirmed = find_key(open_run(shop.pipeline), "items", [KEY])["found"]
    assert forget_key(open_run(shop.pipeline), "items", [KEY], confirmed=confirmed)["erased"]["landing"] == 8


def test_a_number_of_a_person_is_forgotten_with_a_secret_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKEHOUSE_PII_KEY", raising=False)
    project = Project(tmp_path)
    for options in ([], ["--dry-run"]):  # a terminal asks after the latter, which must not find this out too late
        refused = project("forget", "items", "123.456.789-09", *options)
        assert refused.code == 2
        assert "LAKEHOUSE_PII_KEY" in refused.stderr and "123" not in refused.stderr
    assert not (project.lake / "forgotten").exists()


@pytest.mark.parametrize("words", [["items"], ["silver.items", "x"], ["items", "a", "b"], ["nothing", "x"]])
def test_an_invalid_key_exits_with_2_and_erases_nothing(tmp_path: Path, words: list[str]) -> None:
    project = Project(tmp_path, models=dict([next(iter(MODELS.items()))]))
    assert project("forget", *words).code == 2
    assert not project.lake.exists()
