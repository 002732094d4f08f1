"""Every verb on a lake on S3, on one small table with all that makes a file be read otherwise than as it landed."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ITEMS
from remote import Remote
from servers import faults
from shop import MODELS

import lakehouse as product

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"
TABLE = {**ITEMS, "file": "items*", "guard": {"max_deleted": 0.5}}


@pytest.fixture
def shop(
    s3proxy: str, new_bucket: Callable[[str], str], known_to_spark: Callable[[str, str], None], tmp_path: Path
) -> Remote:
    bucket = new_bucket(s3proxy)
    known_to_spark(bucket, s3proxy)
    return Remote(tmp_path / "shop", bucket, s3proxy, tables={"items": dict(TABLE)}, models=MODELS)


def test_every_verb_does_on_s3_what_it_does_on_a_disk(shop: Remote, aws: Callable[[str], None], s3proxy: str) -> None:
    folder = shop.snapshot(FIRST)
    (folder / "items.csv.gz").write_bytes(gzip.compress(b'id,qty,note\n"a",1,"x\n1"\nb,2,x\n'))
    (folder / "items more.csv").write_bytes(b'id,qty,note\r\nc,3,"y"\nd,4x,z\r\ne,5,z\r\n')  # line ends of two kinds
    first = shop.run()
    assert first.code == 0, first.document
    assert first.outcome("ingest", "items")["counts"]["inserted"] == 4
    assert [row["line"] for row in shop.quarantine()] == [3]
    notes = [{"note": "x", "qty": 2}, {"note": "x\n1", "qty": 1}, {"note": "y", "qty": 3}, {"note": "z", "qty": 5}]
    assert shop.look().rows("gold/notes") == notes
    assert not list((shop.lake / "_state" / "plain").rglob("*.csv")), "gone after the reading"

    shop.snapshot(SECOND, items="id,qty,note\na,1,x\n")
    looked = shop("diff")
    assert (looked.code, looked.document["tables"][0]["verdict"]) == (0, "held")
    assert shop.run().code == 4
    told = shop("status").document
    assert told["tables"][0]["held"] == "2025-01-02T00:00:00Z"
    assert [(row["place"], row["kept_bytes"] > 0) for row in told["storage"]] == [
        ("landing", True),
        ("full-load", True),
        ("bronze", True),
    ]
    assert shop("approve", "items", SECOND).code == 0
    assert shop.run().code == 0
    assert shop.look().rows("gold/notes") == [{"note": "x", "qty": 1}]
    assert shop("diff", "--from", FIRST, "--to", SECOND).document["tables"][0]["counts"]["deleted"] == 3
    assert [entry["status"] for entry in shop("history", "items").document["entries"]] == [
        "accepted",
        "held",
        "accepted",
    ]
    assert shop.run().document["nothing_new"]

    before = shop.look().writes()
    for stage in ("bronze", "silver", "gold"):
        assert shop(stage, "--full-refresh").code == 0
    assert shop.look().writes() == before
    verified = shop("verify")
    assert verified.code == 0, verified.document
    aws(s3proxy)
    then = product.as_of(shop.pipeline, "items", "2025-01-01T12:00:00Z")
    assert sorted(row.id for row in then.collect()) == ["a", "b", "c", "e"]


def test_what_a_stage_may_not_write_is_told_with_the_permission(
    moto: str, new_bucket: Callable[[str], str], known_to_spark: Callable[[str, str], None], tmp_path: Path
) -> None:
    bucket = new_bucket(moto)
    befall = faults.Faults({}, lambda method, path: method == "PUT" and "/raw/" in path)
    with faults.before(moto, befall) as url:
        known_to_spark(bucket, url)
        shop = Remote(tmp_path / "shop", bucket, url, moto)
        shop.snapshot(FIRST, items="id,qty,note\na,1,x\n")
        refused = shop.run()
    assert refused.code == 2
    assert "(403)" in refused.error["found"]
    assert refused.error["expected"] == "s3:PutObject there"
    assert "shop/raw/ledger" in refused.error["where"]
