"""Every verb on a lake on S3, on one small table with all kinds of files that are prepared before they are read."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import ITEMS
from pyspark.sql import SparkSession
from s3_project import S3Project
from servers import faults, s3
from shop import MODELS
from text_search import find_words, find_words_in_lake

import lakehouse as product
from lakehouse.lake import delta, ledger

pytestmark = pytest.mark.usefixtures("spark")

KILLED = Path(__file__).parents[3] / "lake" / "crash_points.py"
# A key and a value of the data subject; neither is the least or the greatest of its column.
SUBJECT_KEY, SUBJECT_VALUE = "mmperson", "mmtheirs"
HEADER = "id,qty,note\n"
FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"
TABLE = {**ITEMS, "file": "items*", "guard": {"max_deleted": 0.5}}


@pytest.fixture
def shop(
    s3proxy: str, new_bucket: Callable[[str], str], known_to_spark: Callable[[str, str], None], tmp_path: Path
) -> S3Project:
    bucket = new_bucket(s3proxy)
    known_to_spark(bucket, s3proxy)
    return S3Project(tmp_path / "shop", bucket, s3proxy, tables={"items": dict(TABLE)}, models=MODELS)


def test_every_verb_works_on_s3_as_on_a_disk(shop: S3Project, aws: Callable[[str], None], s3proxy: str) -> None:
    folder = shop.snapshot(FIRST)
    (folder / "items.csv.gz").write_bytes(gzip.compress(b'id,qty,note\n"a",1,"x\n1"\nb,2,x\n'))
    (folder / "items more.csv").write_bytes(b'id,qty,note\r\nc,3,"y"\nd,4x,z\r\ne,5,z\r\n')  # two kinds of line ends
    first = shop.run()
    assert first.code == 0, first.document
    assert first.outcome("ingest", "items")["counts"]["inserted"] == 4
    assert [row["line"] for row in shop.quarantine()] == [3]
    notes = [{"note": "x", "qty": 2}, {"note": "x\n1", "qty": 1}, {"note": "y", "qty": 3}, {"note": "z", "qty": 5}]
    assert shop.download().rows("gold/notes") == notes
    assert not list((shop.lake / "_state" / "plain").rglob("*.csv")), "deleted after the reading"

    shop.snapshot(SECOND, items="id,qty,note\na,1,x\n")
    preview = shop("diff")
    assert (preview.code, preview.document["tables"][0]["verdict"]) == (0, "held")
    assert shop.run().code == 4
    status = shop("status").document
    assert status["tables"][0]["held"] == "2025-01-02T00:00:00Z"
    assert [(row["place"], row["kept_bytes"] > 0) for row in status["storage"]] == [
        ("landing", True),
        ("full-load", True),
        ("bronze", True),
    ]
    assert shop("approve", "items", SECOND).code == 0
    assert shop.run().code == 0
    assert shop.download().rows("gold/notes") == [{"note": "x", "qty": 1}]
    assert shop("diff", "--from", FIRST, "--to", SECOND).document["tables"][0]["counts"]["deleted"] == 3
    assert [entry["status"] for entry in shop("history", "items").document["entries"]] == [
        "accepted",
        "held",
        "accepted",
    ]
    assert shop.run().document["nothing_new"]

    before = shop.download().write_counts()
    for stage in ("bronze", "silver", "gold"):
        assert shop(stage, "--full-refresh").code == 0
    assert shop.download().write_counts() == before
    verified = shop("verify")
    assert verified.code == 0, verified.document
    aws(s3proxy)
    then = product.as_of(shop.pipeline, "items", "2025-01-01T12:00:00Z")
    assert sorted(row.id for row in then.collect()) == ["a", "b", "c", "e"]
    assert shop("explain", "gold.notes").document["model"] == "gold.notes"
    assert shop("report", "--out", str(shop.folder / "report.html")).code == 0


def test_a_forbidden_write_names_the_permission(
    moto: str, new_bucket: Callable[[str], str], known_to_spark: Callable[[str, str], None], tmp_path: Path
) -> None:
    bucket = new_bucket(moto)
    refusing = faults.Faults({}, lambda method, path: method == "PUT" and "/raw/" in path)
    with faults.proxy(moto, refusing) as url:
        known_to_spark(bucket, url)
        shop = S3Project(tmp_path / "shop", bucket, url, moto)
        shop.snapshot(FIRST, items="id,qty,note\na,1,x\n")
        refused = shop.run()
    assert refused.code == 2
    assert "(403)" in refused.error["found"]
    assert refused.error["expected"] == "s3:PutObject on this path"
    assert "shop/raw/ledger" in refused.error["where"]


@pytest.fixture(scope="module")
def people(
    moto: str,
    new_bucket: Callable[[str], str],
    known_to_spark: Callable[[str, str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> S3Project:
    """A data subject in every layer: in an archive, in a file with two kinds of line ends, in a rejected row."""
    bucket = new_bucket(moto)
    known_to_spark(bucket, moto)
    tables = {"items": {**TABLE, "guard": {"max_deleted": 1, "max_quarantined": 1}}}
    shop = S3Project(tmp_path_factory.mktemp("people"), bucket, moto, tables=tables, models=MODELS)
    packed = gzip.compress(f'{HEADER}aa,1,x\n{SUBJECT_KEY},2,"{SUBJECT_VALUE}"\nzz,3,y\n'.encode())
    (shop.snapshot(FIRST) / "items.csv.gz").write_bytes(packed)
    shop.snapshot(SECOND, items=f'{HEADER}aa,1,x\r\n{SUBJECT_KEY},3,"{SUBJECT_VALUE}\n, twice"\nzz,3,y\n')
    shop.snapshot(THIRD, items=f"{HEADER}aa,2,x\n{SUBJECT_KEY},2x,{SUBJECT_VALUE}\nzz,3,y\n")
    assert shop.run().code == 0
    return shop


def test_a_table_is_rebuilt_from_landing_even_after_a_killed_rebuild(
    people: S3Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rebuild is killed after it deleted the table's data and before the ledger forgot it."""
    before, decisions = people.download().rows("gold/notes"), [(e["sequence"], e["status"]) for e in people.ledger()]
    assert before
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "delete_tables", lambda *_: 1 / 0)
        assert people("ingest", "items", "--full-refresh").code == 1
    assert not (people.download().lake / "bronze/items").exists()
    assert people("ingest", "items", "--full-refresh").code == 0
    assert people.run().code == 0
    assert people.download().rows("gold/notes") == before
    assert [(e["sequence"], e["status"]) for e in people.ledger()] == decisions
    verified = people("verify")
    assert verified.code == 0, verified.document


def test_no_object_contains_the_data_subject_after_forget_even_if_it_was_killed(
    people: S3Project, spark: SparkSession
) -> None:
    client, temporary = s3.client(people.url), "shop/_state/plain/20990101_000000_killed/items.csv"
    client.put_object(Bucket=people.bucket, Key=temporary, Body=SUBJECT_KEY.encode())
    for table in ("bronze/items", "quarantine/items", "silver/items", "gold/notes", "silver/many", "raw/ledger"):
        where = delta.sql_name(f"{people.root}/{table}")
        spark.sql(f"ALTER TABLE {where} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')")
    assert len(find_words(people.download().lake, [SUBJECT_KEY])) > 10
    command = [sys.executable, str(KILLED), "forget-raw", "forget", str(people.pipeline), "items", SUBJECT_KEY]
    killed = subprocess.run(command, env=os.environ | people.environment, capture_output=True, timeout=250, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    people.delete_leases()

    done = people("forget", "items", SUBJECT_KEY, "--vacuum")
    assert done.code == 0, done.document
    assert done.document["erased"]["bronze"] == 1
    assert "versions" in done.document["note"]
    assert find_words_in_lake(people.download().lake, [SUBJECT_KEY, SUBJECT_VALUE]) == []
    left_files: dict[str, Any] = {one["table"]: one["old_files"] for one in done.document["left"]}
    assert set(left_files.values()) == {0}
    assert [row["id"] for row in people.rows("silver/items")] == ["aa", "zz"]
    landed = people.lake / "landing/items"
    assert gzip.decompress((landed / FIRST / "items.csv.gz").read_bytes()).decode() == f"{HEADER}aa,1,x\nzz,3,y\n"
    assert (landed / SECOND / "items.csv").read_bytes().decode() == f"{HEADER}aa,1,x\r\nzz,3,y\n"
    assert "failed" not in {check["result"] for check in people("verify").document["checks"]}
    versions = people.versions()
    assert people.run().code == 0
    assert people.download().versions() == versions


def test_expired_files_are_deleted_and_the_rest_verifies(people: S3Project) -> None:
    rows = people.download().rows("bronze/items")
    file = people.pipeline / "pipeline.json"
    retention = {"landing": "1d", "change_sets": "1d", "vacuum": "7d"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"retention": retention}))
    done = people("expire")
    assert done.code == 0, done.document
    assert done.outcome("expire", "items")["counts"]["snapshots"] == 2
    assert done.outcome("expire", "raw.items")["counts"]["change_sets"] == 2
    assert people.download().rows("bronze/items") == rows
    assert [p.name for p in (people.lake / "landing/items" / FIRST).iterdir()] == ["_manifest.json"]
    assert [p.name for p in (people.lake / "raw/full-load").iterdir()] == [f"items_{SECOND}.parquet"]
    assert "failed" not in {check["result"] for check in people("verify").document["checks"]}
